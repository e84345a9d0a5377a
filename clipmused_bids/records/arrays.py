"""Types of arrays, of signals that are read a part at a time, and what is asked for before it is read."""

from __future__ import annotations

import mmap
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


class Series(Protocol):
    """Signal of one run, (n_scans, n_voxels): an array, or a file from which a few voxels are read at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of scans and of voxels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[Any]: ...


def announce_rows(block: NDArray[Any], start: int, stop: int, *, columns: slice) -> None:
    """Ask the system for rows of a memory map that are read next: all of them at once, and no more than these.

    Otherwise each row would be waited for by itself, and what lies around it be read as well, in case it is next.
    Nothing is done where a block is in memory, or only a part of several rows is wanted.
    """
    whole: Any = block.base
    if not isinstance(block, np.memmap) or not isinstance(whole, mmap.mmap):
        return
    n_bytes = (columns.stop - columns.start) * block.itemsize
    if stop - start > 1 and n_bytes < block.strides[0]:
        return
    first = (
        block.offset % mmap.ALLOCATIONGRANULARITY + start * block.strides[0] + columns.start * block.itemsize
    )
    aligned = first - first % mmap.PAGESIZE
    whole.madvise(mmap.MADV_WILLNEED, aligned, first - aligned + (stop - start) * n_bytes)
