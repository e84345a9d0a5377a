"""Rows of a manifest of responses, each cell checked and every complaint with the row's number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from clipmused_bids.dataset.files.tsv import Table, is_missing
from clipmused_bids.dataset.runs.names import entities_of, is_nifti, strip_prefix
from clipmused_bids.errors import DataError

# Columns that say where a response lies and whose it is; all others describe the trial.
ADDRESS = frozenset(
    {
        "participant_id", "session", "task", "run", "space", "file", "index", "axes", "scale",
        "onset", "duration", "stimulus_id",
    }
)  # fmt: skip
AXES = ("nxyz", "nzyx", "xyzn", "zyxn")
_REQUIRED = ("participant_id", "file", "index")
_FILE = re.compile(r"(?P<path>.+?\.(?:nii|nii\.gz|npy|h5|hdf5))(?::(?P<dataset>/.+))?")
_SPACE_ENTITIES = ("space", "cohort", "res", "den")


@dataclass(frozen=True)
class ManifestRow:
    """One response: where it lies, and whose it is.

    Parameters
    ----------
    line : int
        Number of the row in the table, from 1.
    participant : str
    session, task, run : str or None
        Labels without prefix.
    space : mapping of str to str
        ``space`` and its details as entities; empty where neither the table nor the file's name says.
    file : str
        As written.
    path : Path
    dataset, axes : str or None
    index : int
        From 0.
    scale, onset, duration : float
        ``scale`` is 1 where it is not given, the times (in s) are NaN.
    stimulus : str
        "" where there is none.
    """

    line: int
    participant: str
    session: str | None
    task: str | None
    run: str | None
    space: Mapping[str, str]
    file: str
    path: Path
    dataset: str | None
    axes: str | None
    index: int
    scale: float
    onset: float
    duration: float
    stimulus: str


def read_rows(table: Table) -> list[ManifestRow]:
    """Read all rows of a manifest.

    Raises
    ------
    DataError
        If there are none, a column is lacking, or a cell cannot be read; names the row.
    """
    lacking = [name for name in _REQUIRED if name not in table.columns]
    if lacking:
        raise DataError(
            f"{table.path}: no column {', '.join(lacking)}; columns are {table.names}.",
            hint="a manifest has participant_id, [session, run,] file, index, stimulus_id [, onset, set, scale]",
        )
    if table.n_rows == 0:
        raise DataError(f"{table.path}: the manifest has a header but no rows.")
    return [_row(_Cells(table, k)) for k in range(table.n_rows)]


class _Cells:
    """The cells of one row."""

    def __init__(self, table: Table, row: int) -> None:
        self.line = row + 1
        self.folder = table.path.parent
        self._table = table

    def text(self, column: str) -> str:
        """A cell; "" where the column or the value is missing."""
        cells = self._table.columns.get(column)
        return "" if cells is None or is_missing(cells[self.line - 1]) else cells[self.line - 1]

    def label(self, column: str, *, prefix: str) -> str | None:
        """A BIDS label without its prefix."""
        text = strip_prefix(self.text(column), prefix)
        if text and not re.fullmatch(r"[0-9A-Za-z+]+", text):
            raise self.error(f"{column} {text}: BIDS labels hold letters, digits and + only")
        return text or None

    def number(self, column: str, *, default: float) -> float:
        """A finite number."""
        text = self.text(column)
        try:
            value = float(text) if text else default
        except ValueError:
            value = math.inf
        if math.isinf(value):
            raise self.error(f"{column} {text}: not a number")
        return value

    def error(self, what: str, *, hint: str | None = None) -> DataError:
        """Make an error that names the row."""
        return DataError(f"{self._table.path}: row {self.line}: {what}.", hint=hint)


def _row(cells: _Cells) -> ManifestRow:
    participant = cells.label("participant_id", prefix="sub")
    if participant is None:
        raise cells.error("no participant_id")
    file, path, dataset = _place(cells)
    run = cells.label("run", prefix="run")
    if run is not None and not run.isdecimal():
        raise cells.error(f"run {run}: runs are numbers")
    return ManifestRow(
        line=cells.line,
        participant=participant,
        session=cells.label("session", prefix="ses"),
        task=cells.label("task", prefix="task"),
        run=run,
        space=_space(cells, path),
        file=file,
        path=path,
        dataset=dataset,
        axes=_axes(cells, path),
        index=_index(cells),
        scale=_scale(cells),
        onset=cells.number("onset", default=math.nan),
        duration=cells.number("duration", default=math.nan),
        stimulus=cells.text("stimulus_id"),
    )


def _place(cells: _Cells) -> tuple[str, Path, str | None]:
    file = cells.text("file")
    match = _FILE.fullmatch(file)
    if match is None:
        raise cells.error(
            f"file {file or 'n/a'}: expected a NIfTI image, an .npy file, or FILE.h5:/DATASET",
            hint="convert other formats; .npz and .mat are not read",
        )
    dataset = match["dataset"]
    in_hdf5 = match["path"].endswith((".h5", ".hdf5"))
    if in_hdf5 != (dataset is not None):
        what = "the dataset in the file is not named" if in_hdf5 else "only HDF5 files hold datasets"
        raise cells.error(f"file {file}: {what}", hint=f"{match['path']}:/betas" if in_hdf5 else None)
    # Not resolved: DataLad targets are read-only, and names would be lost.
    return file, cells.folder / match["path"], dataset


def _index(cells: _Cells) -> int:
    value = cells.number("index", default=math.nan)
    if not value >= 0 or value != int(value):
        raise cells.error(f"index {cells.text('index') or 'n/a'}: expected a whole number from 0 on")
    return int(value)


def _scale(cells: _Cells) -> float:
    scale = cells.number("scale", default=1.0)
    if scale <= 0:
        raise cells.error(f"scale {scale:g}: expected what stored values were multiplied with, above 0")
    return scale


def _axes(cells: _Cells, path: Path) -> str | None:
    axes = cells.text("axes")
    if axes and (axes not in AXES or is_nifti(path.name)):
        raise cells.error(f"axes {axes}: expected one of {', '.join(AXES)}, for HDF5 and .npy files only")
    return axes or None


def _space(cells: _Cells, path: Path) -> Mapping[str, str]:
    named = cells.text("space").removeprefix("space-")
    if not named:
        return _space_in_name(path.name)
    if not re.fullmatch(r"[0-9A-Za-z+]+(:(cohort|res|den)-[0-9A-Za-z+]+)*", named):
        raise cells.error(f"space {named}: expected a name such as T1w or MNI152NLin2009cAsym:res-2")
    return _entities_of_space(named)


@cache
def _entities_of_space(text: str) -> Mapping[str, str]:
    name, *details = text.split(":")
    pairs = [detail.partition("-") for detail in details]
    return {"space": name, **{key: label for key, _, label in pairs}}


@cache
def _space_in_name(name: str) -> Mapping[str, str]:
    entities = entities_of(name)
    return {key: entities[key] for key in _SPACE_ENTITIES if key in entities}
