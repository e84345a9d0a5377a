"""The dataset's own table of stimuli, ``stimuli/stimuli.tsv`` (BIDS extension proposal 44, draft)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clipmused_bids.dataset.stimulus_names import KeyIndex
from clipmused_bids.dataset.tsv import is_missing, read_table
from clipmused_bids.errors import DataError

# Columns the draft defines; none of them is a label.
RESERVED = frozenset(
    {
        "stimulus_id",
        "type",
        "filename",
        "url",
        "license",
        "copyright",
        "description",
        "hed",
        "present",
        "split",
        "set",
    }
)


@dataclass(frozen=True)
class StimulusTable:
    """A catalogue of stimuli.

    Parameters
    ----------
    path : Path
    stimulus_id : tuple of str
        As written, with or without ``stim-``.
    columns : mapping of str to tuple of str
        All columns but ``stimulus_id``; ``n/a`` kept.
    """

    path: Path
    stimulus_id: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]

    @cached_property
    def _by_id(self) -> KeyIndex:
        return KeyIndex(self.stimulus_id)

    @cached_property
    def _by_file(self) -> KeyIndex:
        return KeyIndex(self.columns.get("filename", ()))

    def row_of(self, stimulus: str) -> int | None:
        """Row of a stimulus, named by its id (with or without ``stim-``) or by its file; None if it is not there."""
        rows = self._by_id.rows_of(stimulus) or self._by_file.rows_of(stimulus)
        return rows[0] if rows else None

    def value(self, stimulus: str, column: str) -> str | None:
        """Cell of a stimulus; None if stimulus, column or value is missing."""
        row = self.row_of(stimulus)
        cells = self.columns.get(column)
        if row is None or cells is None or is_missing(cells[row]):
            return None
        return cells[row]


def read_stimuli_table(bids_dir: Path) -> StimulusTable | None:
    """Read ``<bids_dir>/stimuli/stimuli.tsv``; None if there is none.

    Raises
    ------
    DataError
        If it has no column ``stimulus_id`` (or ``stim_id``).
    """
    path = Path(bids_dir) / "stimuli" / "stimuli.tsv"
    if not path.is_file() and not path.is_symlink():
        return None
    table = read_table(path)
    key = next((name for name in ("stimulus_id", "stim_id") if name in table.columns), None)
    if key is None:
        raise DataError(f"{path}: no column stimulus_id; columns are {table.names}.")
    rest = {name: cells for name, cells in table.columns.items() if name != key}
    return StimulusTable(path, table.columns[key], rest)
