"""Memory maps of another process: where an array lies in a file, and the same array opened there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import MissingInputError


class MappedArrays:
    """Names and opens parts of files by path, offset, type and shape."""

    def place_of(self, array: NDArray[Any]) -> Mapping[str, Any] | None:
        """Where an array lies, as JSON values; None unless it is an unbroken part of one memory map."""
        root = _root(array)
        if root is None or root.filename is None or not array.flags.c_contiguous or array.nbytes == 0:
            return None
        within = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        return {
            "path": str(root.filename),
            "offset": int(root.offset) + int(within),
            "dtype": array.dtype.str,
            "shape": list(array.shape),
        }

    def array_at(self, place: Mapping[str, Any]) -> NDArray[Any]:
        """Open an array where it lies, read-only.

        Raises
        ------
        MissingInputError
            If the file is not there, or too short: on another node, perhaps.
        """
        path = Path(place["path"])
        try:
            return np.memmap(
                path, dtype=np.dtype(place["dtype"]), mode="r", offset=place["offset"], shape=tuple(place["shape"])
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise MissingInputError(
                f"{path}: cannot be read by this process as process 0 does ({error}).",
                hint="OUTPUT_DIR and --work-dir must be the same folders on all nodes",
            ) from error


def _root(array: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """Return the memory map that an array is a view of, as it was opened: only there the offset is the map's."""
    found: np.memmap[Any, Any] | None = None
    base: Any = array
    while isinstance(base, np.ndarray):
        found = base if isinstance(base, np.memmap) else None
        base = base.base
    return found
