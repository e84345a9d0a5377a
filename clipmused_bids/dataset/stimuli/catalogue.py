"""Tables of stimuli: the dataset's ``stimuli/stimuli.tsv`` (BIDS extension proposal 44, draft), ``--stimulus-map``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clipmused_bids.dataset.files.tsv import is_missing, read_table
from clipmused_bids.dataset.stimuli.names import KeyIndex
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
        "label_id",
    }
)


@dataclass(frozen=True)
class StimulusTable:
    """A catalogue of stimuli.

    Parameters
    ----------
    source : str
        Where it was read, for messages.
    stimulus_id : tuple of str
        As written, with or without ``stim-``.
    columns : mapping of str to tuple of str
        All columns but ``stimulus_id``; ``n/a`` kept.
    """

    source: str
    stimulus_id: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]

    @cached_property
    def _by_id(self) -> KeyIndex:
        return KeyIndex(self.stimulus_id)

    @cached_property
    def _by_file(self) -> KeyIndex:
        return KeyIndex(self.columns.get("filename", ()))

    def row_of_id(self, stimulus: str) -> int | None:
        """Row of a stimulus that is named by its id; None if it is not there."""
        rows = self._by_id.rows_of(stimulus)
        return rows[0] if rows else None

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


def label_keys(stimulus: str, table: StimulusTable | None) -> tuple[str, ...]:
    """Keys under which labels and captions of a stimulus are looked up, in this order.

    Where the table has a column ``label_id``, nothing but its value counts: row 46003 of an image bank is not the COCO
    image 46003. Otherwise the stimulus itself, then its id and its file as the table names them.
    """
    if table is None:
        return (stimulus,)
    if "label_id" in table.columns:
        key = table.value(stimulus, "label_id")
        return () if key is None else (key,)
    row = table.row_of(stimulus)
    own = () if row is None else (table.stimulus_id[row],)
    file = table.value(stimulus, "filename")
    return tuple(dict.fromkeys((stimulus, *own, *(() if file is None else (file,)))))


def read_stimuli_table(bids_dir: Path, *, stimulus_map: str | None = None) -> StimulusTable | None:
    """Read ``--stimulus-map`` and ``<bids_dir>/stimuli/stimuli.tsv``; None if there is neither.

    The stimuli and columns of both are joined. Where both have a value, the map's holds.

    Raises
    ------
    MissingInputError
        If the map is not there.
    DataError
        If one of them has no column ``stimulus_id`` (or ``stim_id``).
    """
    own = Path(bids_dir) / "stimuli" / "stimuli.tsv"
    tables = [] if stimulus_map is None else [_read(Path(stimulus_map))]
    if own.is_file() or own.is_symlink():
        tables.append(_read(own))
    if not tables:
        return None
    return tables[0] if len(tables) == 1 else _joined(*tables)


def _read(path: Path) -> StimulusTable:
    table = read_table(path)
    key = next((name for name in ("stimulus_id", "stim_id") if name in table.columns), None)
    if key is None:
        raise DataError(
            f"{path}: no column stimulus_id; columns are {table.names}.",
            hint="a table of stimuli has the columns stimulus_id and filename",
        )
    rest = {name: cells for name, cells in table.columns.items() if name != key}
    return StimulusTable(str(path), table.columns[key], rest)


def _joined(first: StimulusTable, second: StimulusTable) -> StimulusTable:
    """All stimuli of both; cells of the first go before those of the second."""
    others = [second.row_of_id(name) for name in first.stimulus_id]
    alone = sorted(set(range(len(second.stimulus_id))) - {row for row in others if row is not None})
    columns = {}
    for name in (*first.columns, *(name for name in second.columns if name not in first.columns)):
        left = first.columns.get(name, ("n/a",) * len(others))
        right = second.columns.get(name, ("n/a",) * len(second.stimulus_id))
        both = [
            right[row] if row is not None and is_missing(cell) else cell
            for cell, row in zip(left, others, strict=True)
        ]
        columns[name] = (*both, *(right[row] for row in alone))
    ids = (*first.stimulus_id, *(second.stimulus_id[row] for row in alone))
    return StimulusTable(f"{first.source} and {second.source}", ids, columns)
