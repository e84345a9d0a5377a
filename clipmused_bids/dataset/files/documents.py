"""Text files of the output tree: JSON and TSV as BIDS wants them, the same bytes for the same values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.dataset.files.atomic import Outcome, write_bytes
from clipmused_bids.errors import DataError

NOT_AVAILABLE = "n/a"
Column = Sequence[Any] | np.ndarray[Any, Any]


def write_json(path: Path, value: Mapping[str, Any]) -> Outcome:
    """Write a JSON object, whole or absent; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    return write_bytes(path, utf8(f"{text}\n"))


def write_text(path: Path, text: str) -> Outcome:
    """Write UTF-8 text, whole or absent."""
    return write_bytes(path, utf8(text))


def write_tsv(path: Path, columns: Mapping[str, Column]) -> Outcome:
    """Write a table, whole or absent; :func:`encode_tsv` says how."""
    return write_bytes(path, encode_tsv(columns, name=path.name))


def encode_tsv(columns: Mapping[str, Column], *, name: str) -> bytes:
    """Return the bytes of a table.

    Parameters
    ----------
    columns : mapping of str to sequence
        Columns of equal length. None, NaN and empty text become ``n/a``; numbers are written so that they
        read back as the same numbers; truth values become ``true`` and ``false``.
    name : str
        What the table is called in messages.

    Raises
    ------
    DataError
        If a name or a text holds a tab or a line break.
    """
    cells = {
        _checked(column, where=f"{name}: a column name"): _cells(values, where=f"{name}: column {column}")
        for column, values in columns.items()
    }
    rows = zip(*cells.values(), strict=True)
    return utf8("".join("\t".join(row) + "\n" for row in (tuple(cells), *rows)))


def utf8(text: str) -> bytes:
    """UTF-8 of a text; bytes of a file name that are no text are written as in URIs: ``%FF``."""
    # Python keeps such a byte as the surrogate U+DC00 + byte.
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", text).encode()


def plain(value: Any) -> Any:
    """Turn nested values into what JSON has: objects, lists, text, numbers, true, false and null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces."""
    return json.dumps(
        plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def number(cell: str) -> float:
    """Read a cell as a number; ``n/a`` is NaN."""
    return math.nan if cell == NOT_AVAILABLE else float(cell)


def _cells(values: Column, *, where: str) -> list[str]:
    return [_checked(_cell(value), where=f"{where}, row {row}") for row, value in enumerate(values, start=1)]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return NOT_AVAILABLE
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(value) or NOT_AVAILABLE


def _checked(text: str, *, where: str) -> str:
    if any(mark in text for mark in "\t\n\r"):
        raise DataError(f"{where}: {text!r} holds a tab or a line break, which a TSV file cannot.")
    return text
