"""Training curves as they lie beside a decoder, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.documents import number
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.errors import DataError
from clipmused_bids.records import History

_KEPT = "kept"


def read_history(path: Path, config: Mapping[str, Any]) -> History | None:
    """Read ``history.tsv``; None where it is not there.

    Parameters
    ----------
    path : Path
    config : mapping
        Configuration of the decoder, which says why training ended.

    Raises
    ------
    DataError
        If a cell is no number.
    """
    if not path.exists():
        return None
    cells = read_table(path).columns
    kept = [row for row, cell in enumerate(cells.get(_KEPT, ())) if cell == "true"]
    try:
        columns = {
            name: tuple(number(cell) for cell in column) for name, column in cells.items() if name != _KEPT
        }
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error
    return History(columns, kept[0] if kept else -1, str(config.get("stopped", "")))
