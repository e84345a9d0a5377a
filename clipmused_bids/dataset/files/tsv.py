"""Tab-separated tables as they are published: every cell is text until somebody knows better."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipmused_bids.dataset.files.contents import read_bytes
from clipmused_bids.errors import DataError

MISSING = frozenset({"", "n/a", "na", "nan", "none", "null"})
_APPLE_DOUBLE = b"\x00\x05\x16\x07"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Parameters
    ----------
    path : Path
    columns : mapping of str to tuple of str
        Cells without surrounding blanks, all columns of one length.
    n_rows : int
        Rows, without those that repeat the header.
    n_repeated_headers : int
        Rows that repeat the header (files glued together); they are not in ``columns``.
    notes : tuple of str
        What was unusual.
    """

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    n_rows: int
    n_repeated_headers: int = 0
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """Column names for a message."""
        return ", ".join(self.columns)


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value (``n/a``, empty, and what spreadsheets and programs write instead)."""
    return cell.lower() in MISSING


def read_table(path: Path) -> Table:
    """Read a TSV file: any line ends, with or without a byte order mark, blank lines and repeated headers skipped.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is empty, binary, or a row has more cells than the header.
    """
    text, notes = _decode(path)
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file is empty; expected a tab-separated table with a header.")
    written, *rows = [[cell.strip() for cell in line.split("\t")] for line in lines]
    header = _unique(written, notes)
    body = [row for row in rows if row != written]
    cells = [_fit(row, len(header), path=path, number=number) for number, row in enumerate(body, start=1)]
    if any(len(row) < len(header) for row in body):
        notes.append("some rows are shorter than the header; the cells they lack were read as n/a")
    if len(rows) > len(body):
        notes.append(f"the header is repeated {len(rows) - len(body)} times")
    columns = {name: tuple(row[k] for row in cells) for k, name in enumerate(header)}
    return Table(path, columns, len(cells), len(rows) - len(body), tuple(notes))


def _decode(path: Path) -> tuple[str, list[str]]:
    raw = read_bytes(path)
    if raw.startswith(_APPLE_DOUBLE) or b"\x00" in raw[:4096]:
        raise DataError(f"{path}: a binary file, not a tab-separated table.")
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return raw.decode("latin-1"), ["the file is not UTF-8; it was read as Latin-1"]


def _unique(names: list[str], notes: list[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        free, number = name, len(unique) + 1
        if name in unique:
            notes.append(f"column {name} occurs twice; the first is used")
        while free in unique:
            free, number = f"{name}.{number}", number + 1
        unique.append(free)
    return unique


def _fit(row: list[str], width: int, *, path: Path, number: int) -> list[str]:
    if any(row[width:]):
        raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {width}.")
    return row[:width] + ["n/a"] * (width - len(row))
