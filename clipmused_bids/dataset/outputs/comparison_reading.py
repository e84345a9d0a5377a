"""The tables of a comparison, as `comparison_files` writes them, back from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from clipmused_bids.dataset.files.documents import NOT_AVAILABLE, number
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow, LabelRow
from clipmused_bids.errors import DataError

Row = TypeVar("Row")


@dataclass(frozen=True)
class FoldRow:
    """One score of one fold; the fields are the columns of the table."""

    method: str
    model_label: str
    fold: int
    participant_id: str
    metric: str
    value: float
    floor: float
    n_labels: int
    n_trials: int


@dataclass(frozen=True)
class TimingRow:
    """Seconds that fitting and decoding took; NaN where they are not known."""

    model_label: str
    fit_seconds: float
    decode_seconds: float


def _text(cell: str) -> str:
    return "" if cell == NOT_AVAILABLE else cell


# By the annotation of a field.
_READ: Mapping[str, Callable[[str], Any]] = {
    "str": _text,
    "Verdict": _text,
    "float": number,
    "int": int,
    "int | None": lambda cell: None if cell == NOT_AVAILABLE else int(cell),
}


def read_comparison(path: Path) -> tuple[ComparisonRow, ...]:
    """Read ``group_desc-<label>_comparison.tsv``.

    Raises
    ------
    MissingInputError
        If it is not there.
    DataError
        If a column is missing or a cell is not what it should be.
    """
    return _rows(path, ComparisonRow)


def read_labels(path: Path) -> tuple[LabelRow, ...]:
    """Read ``group_desc-<label>_labels.tsv``; errors as for :func:`read_comparison`."""
    return _rows(path, LabelRow)


def read_folds(path: Path) -> tuple[FoldRow, ...]:
    """Read ``group_desc-<label>_folds.tsv``; errors as for :func:`read_comparison`."""
    return _rows(path, FoldRow)


def read_timing(path: Path) -> tuple[TimingRow, ...]:
    """Read ``group_desc-<label>_timing.tsv``; errors as for :func:`read_comparison`."""
    return _rows(path, TimingRow)


def _rows(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    columns = read_table(path).columns
    readers = {field.name: _READ[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
    lacking = [name for name in readers if name not in columns]
    if lacking:
        raise DataError(f"{path}: column {lacking[0]} is missing; columns are {', '.join(columns)}.")
    found = []
    for line, cells in enumerate(zip(*(columns[name] for name in readers), strict=True), start=1):
        try:
            found.append(kind(*(read(cell) for read, cell in zip(readers.values(), cells, strict=True))))
        except ValueError as error:
            raise DataError(f"{path}, row {line}: {error}.") from error
    return tuple(found)
