"""Existing responses in HDF5 and ``.npy`` files: how their axes lie on a grid, and how to read a few rows of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, IntArray

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Layout:
    """Where rows and voxels of an array are.

    Parameters
    ----------
    trial_axis : int
    spatial : tuple of int
        Length of the other axes, in the order of the file.
    coordinate : tuple of ndarray of int, one for each of these axes, of shape (n_voxels,)
        Place of each voxel of the mask, in C order of the mask.
    """

    trial_axis: int
    spatial: tuple[int, ...]
    coordinate: tuple[IntArray, ...]


def layout_of(shape: tuple[int, ...], mask: BoolArray, *, axes: str | None, name: str) -> Layout:
    """Say how an array of responses lies on the grid of a mask.

    Parameters
    ----------
    shape : tuple of int
        (n, n_voxels): voxels of the mask in C order; or four axes: n first or last, and the mask's three in its
        order (``nxyz``, ``xyzn``) or reversed, as HDF5 files written by MATLAB show them (``nzyx``, ``zyxn``).
    mask : ndarray of bool, shape (x, y, z)
    axes : {"nxyz", "nzyx", "xyzn", "zyxn"} or None
        None: what the shape allows.
    name : str
        The file, for messages.

    Raises
    ------
    DataError
        If the shape fits in no way, or in several.
    """
    n_voxels = int(mask.sum())
    if len(shape) == 2 and axes is None:
        if shape[1] != n_voxels:
            raise _unfit(shape, mask, name)
        return Layout(0, (n_voxels,), (np.arange(n_voxels),))
    fitting = [order for order in _orders(shape, mask.shape) if axes in {None, order}]
    if not fitting:
        raise _unfit(shape, mask, name)
    if len(fitting) > 1:
        raise DataError(
            f"{name}: its shape {shape} fits the mask's grid {mask.shape} in several ways: {', '.join(fitting)}.",
            hint="a column axes in the manifest says which; files written by MATLAB are usually nzyx",
        )
    order = fitting[0]
    places = np.nonzero(mask)
    trial_axis = 0 if order.startswith("n") else 3
    spatial = shape[1:] if trial_axis == 0 else shape[:3]
    return Layout(trial_axis, tuple(spatial), tuple(places[::-1] if "zyx" in order else places))


def row_blocks(
    array: Any, layout: Layout, rows: IntArray
) -> Iterator[tuple[IntArray, IntArray, NDArray[Any]]]:
    """Read some rows of an array in blocks, along its chunks; nothing else of it is kept.

    Parameters
    ----------
    array : h5py.Dataset or ndarray (memory map)
    layout : Layout
    rows : ndarray of int, shape (n,)
        Increasing.

    Yields
    ------
    ndarray of int, shape (n_block,)
        Positions among ``rows``.
    ndarray of int, shape (m,)
        Positions among the voxels.
    ndarray of shape (n_block, m)
        Values as stored.
    """
    n_trials, n_slab, axis = _block_sizes(array, layout)
    for _, at in _grouped(rows // n_trials):
        low, high = int(rows[at[0]]), int(rows[at[-1]]) + 1
        for start in range(0, layout.spatial[axis], n_slab):
            stop = min(start + n_slab, layout.spatial[axis])
            here = np.flatnonzero((layout.coordinate[axis] >= start) & (layout.coordinate[axis] < stop))
            if len(here) == 0:
                continue
            block = _rows_first(array, layout, (low, high), axis=axis, slab=(start, stop))
            place = [c[here] - (start if k == axis else 0) for k, c in enumerate(layout.coordinate)]
            voxels = np.ravel_multi_index(place, block.shape[1:])
            yield at, here, block.reshape(len(block), -1)[np.ix_(rows[at] - low, voxels)]


def _rows_first(
    array: Any, layout: Layout, trials: tuple[int, int], *, axis: int, slab: tuple[int, int]
) -> NDArray[Any]:
    """A block of the array, its trials first; only slices are asked for, which HDF5 reads fastest."""
    cut = [slice(None)] * len(layout.spatial)
    cut[axis] = slice(*slab)
    cut.insert(layout.trial_axis, slice(*trials))
    return np.moveaxis(np.asarray(array[tuple(cut)]), layout.trial_axis, 0)


def _block_sizes(array: Any, layout: Layout) -> tuple[int, int, int]:
    """Rows of a block, thickness of its slab, and the axis (among the spatial ones) that slabs cut.

    Whole chunks are read where that is possible: each is unpacked once.
    """
    chunks = list(getattr(array, "chunks", None) or _contiguous(array, layout))
    per_trial = chunks.pop(layout.trial_axis)
    n_chunks = [-(-length // chunk) for length, chunk in zip(layout.spatial, chunks, strict=True)]
    axis = int(np.argmax(n_chunks))
    volume = int(np.prod(layout.spatial)) * array.dtype.itemsize
    if per_trial * volume <= BLOCK_BYTES:
        return BLOCK_BYTES // (per_trial * volume) * per_trial, layout.spatial[axis], axis
    slice_bytes = per_trial * volume // layout.spatial[axis]
    return per_trial, max(1, BLOCK_BYTES // (slice_bytes * chunks[axis])) * chunks[axis], axis


def _contiguous(array: Any, layout: Layout) -> list[int]:
    """Chunks of an array without any: single rows if a row lies in one piece, else all rows of a slice."""
    flags = getattr(array, "flags", None)
    slowest = 0 if flags is None or flags.c_contiguous else array.ndim - 1
    chunks = [1] * array.ndim
    if slowest != layout.trial_axis:
        chunks[layout.trial_axis] = array.shape[layout.trial_axis]
    return chunks


def _grouped(block: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Positions of each run of equal numbers."""
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(block)], strict=True):
        yield int(block[start]), np.arange(start, stop)


def _orders(shape: tuple[int, ...], grid: tuple[int, ...]) -> list[str]:
    if len(shape) != 4:
        return []
    expected = {"nxyz": (shape[1:], grid), "nzyx": (shape[1:], grid[::-1])}
    expected |= {"xyzn": (shape[:3], grid), "zyxn": (shape[:3], grid[::-1])}
    return [order for order, (found, wanted) in expected.items() if found == wanted]


def _unfit(shape: tuple[int, ...], mask: BoolArray, name: str) -> DataError:
    n_voxels, grid = int(mask.sum()), ", ".join(map(str, mask.shape))
    turned = len(shape) == 2 and shape[0] == n_voxels
    return DataError(
        f"{name}: its shape {shape} does not fit the mask: (n, {n_voxels}) for its {n_voxels} voxels, or four axes, "
        f"n first or last and ({grid}) in this or the reverse order.",
        hint="rows must be trials: transpose the array"
        if turned
        else "--mask must be on the grid of these responses",
    )
