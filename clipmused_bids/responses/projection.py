"""Nuisance subspace of any rank, and products of small weight matrices with many voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DesignError
from clipmused_bids.records import FloatArray, IntArray, Series

VOXEL_BLOCK = 4096  # the block and its products fit the cache
LEVEL_EVERY = 8  # scans of which one enters the level
SCANS_AT_ONCE = 100  # products that are summed at a time, so that float32 sums keep 1e-6


def orthonormal_basis(columns: FloatArray) -> NDArray[np.float64]:
    """Orthonormal basis Q of what the columns span, whatever their rank and scale.

    Confounds files hold duplicate and empty columns, for which an unpivoted QR silently returns directions
    that are not in the span. Columns are brought to unit length first: confounds differ in scale by 1e6.

    Parameters
    ----------
    columns : ndarray of shape (n_scans, n_columns)
        Any unit; no column, empty ones and copies are fine.

    Returns
    -------
    ndarray of shape (n_scans, rank)
    """
    length = np.linalg.norm(np.asarray(columns, dtype=np.float64), axis=0)
    unit: NDArray[np.float64] = columns[:, length > 0] / length[length > 0]
    if unit.shape[1] == 0:
        return unit
    left, singular, _ = np.linalg.svd(unit, full_matrices=False)
    tolerance = 10 * max(unit.shape) * np.finfo(np.float64).eps
    return np.ascontiguousarray(left[:, singular > tolerance * singular[0]])


def remove_subspace(columns: FloatArray, basis: FloatArray) -> NDArray[np.float64]:
    """Remove from each column its part in the span of ``basis``: X - Q Q'X, applied twice against rounding.

    Parameters
    ----------
    columns : ndarray of shape (n_scans, n_columns)
    basis : ndarray of shape (n_scans, rank)
        Orthonormal columns.

    Returns
    -------
    ndarray of shape (n_scans, n_columns)
    """
    rest = np.asarray(columns, dtype=np.float64)
    for _ in range(2):
        rest = rest - basis @ (basis.T @ rest)
    return rest


def voxel_blocks(
    bold: Series, *, sample_mask: IntArray, voxel_block: int = VOXEL_BLOCK
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield the kept scans of a few thousand voxels at a time, in double precision.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        Read a block at a time, so that it may lie in a file.
    sample_mask : ndarray of int, shape (n_kept_scans,)
        Scans to keep, in order.
    voxel_block : int
        Voxels at a time.

    Yields
    ------
    slice, ndarray of shape (n_kept_scans, at most voxel_block)
    """
    rows = _rows(sample_mask, len(bold))
    for here in _slices(bold.shape[1], voxel_block):
        yield here, np.asarray(bold[:, here][rows], dtype=np.float64)


def centred_blocks(
    bold: Series, *, sample_mask: IntArray, voxel_block: int = VOXEL_BLOCK
) -> Iterator[tuple[slice, FloatArray]]:
    """Yield the kept scans of a few thousand voxels at a time as deviations from a level, which is one more row.

    The level is the mean of some scans; any would do. A sum over scans in single precision is exact to rounding of
    the deviations then, not of a mean fifty times as large.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        May be memory-mapped.
    sample_mask : ndarray of int, shape (n_kept_scans,)
        Scans to keep, in order.
    voxel_block : int
        Voxels at a time.

    Yields
    ------
    slice, ndarray of shape (n_kept_scans + 1, at most voxel_block)
        float64 for float64 input, else float32. Valid until the next one, which takes its place.
    """
    rows = _rows(sample_mask, len(bold))
    width = min(voxel_block, bold.shape[1])
    block = np.empty((len(sample_mask) + 1, width), dtype=_precision(bold))
    for here in _slices(bold.shape[1], voxel_block):
        scans, part = bold[:, here][rows], block[:, : here.stop - here.start]
        with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
            scans[::LEVEL_EVERY].mean(axis=0, dtype=block.dtype, out=part[-1])
            np.subtract(scans, part[-1], out=part[:-1], casting="same_kind")
        yield here, part


def with_level(weights: FloatArray) -> NDArray[np.float64]:
    """Weights, of shape (n, n_kept_scans), for the rows of a centred block: the level weighs as all scans do."""
    return np.column_stack([weights, weights.sum(axis=1)])


def weigh_voxels(
    weights: FloatArray, bold: Series, *, sample_mask: IntArray, voxel_block: int = VOXEL_BLOCK
) -> FloatArray:
    """Product of a small matrix with the kept scans of all voxels, with memory for one block of voxels only.

    Parameters
    ----------
    weights : ndarray of shape (n_trials, n_kept_scans)
    bold : ndarray of shape (n_scans, n_voxels)
        Any unit; responses come back in that unit.
    sample_mask : ndarray of int, shape (n_kept_scans,)
    voxel_block : int

    Returns
    -------
    ndarray of shape (n_trials, n_voxels)
        float64 for float64 input, else float32. Products are summed in that precision too, of deviations from each
        voxel's mean and a hundred scans at a time, which keeps the sum to about 1e-6 of the largest response.

    Raises
    ------
    DesignError
        If the weights are for another number of scans.
    """
    out = _empty_product(weights, bold, sample_mask)
    extended = with_level(weights).astype(out.dtype)
    for here, block in centred_blocks(bold, sample_mask=sample_mask, voxel_block=voxel_block):
        product(extended, block, out=out[:, here])
    return out


def weigh_groups(
    weights: Mapping[int, FloatArray],
    bold: Series,
    *,
    group: IntArray,
    sample_mask: IntArray,
    voxel_block: int = VOXEL_BLOCK,
) -> FloatArray:
    """`weigh_voxels` with other weights for each group of voxels; each block of voxels is still read once.

    Parameters
    ----------
    weights : mapping of int to ndarray of shape (n_trials, n_kept_scans)
        Weights of each group.
    bold : ndarray of shape (n_scans, n_voxels)
    group : ndarray of int, shape (n_voxels,)
        Key into ``weights`` of each voxel.
    sample_mask : ndarray of int, shape (n_kept_scans,)
    voxel_block : int

    Returns
    -------
    ndarray of shape (n_trials, n_voxels)

    Raises
    ------
    DesignError
        If the weights are for another number of scans.
    """
    out = _empty_product(next(iter(weights.values())), bold, sample_mask)
    extended = {key: with_level(each).astype(out.dtype) for key, each in weights.items()}
    for here, block in centred_blocks(bold, sample_mask=sample_mask, voxel_block=voxel_block):
        order = np.argsort(group[here], kind="stable")
        keys, starts = np.unique(group[here][order], return_index=True)
        # Side by side, so that the voxels of one group are one product.
        side_by_side = np.take(block, order, axis=1)
        found = np.empty((len(out), len(order)), dtype=out.dtype)
        for key, start, stop in zip(keys, starts, [*starts[1:], len(order)], strict=True):
            product(extended[int(key)], side_by_side[:, start:stop], out=found[:, start:stop])
        out[:, here.start + order] = found
    return out


def product(weights: FloatArray, block: FloatArray, *, out: FloatArray) -> None:
    """Write ``weights @ block`` to ``out``, summed over a hundred scans at a time; the last row is the level."""
    n_parts = max(1, -(-(len(block) - 1) // SCANS_AT_ONCE))
    bounds = np.linspace(0, len(block), n_parts + 1).astype(int)
    with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
        np.matmul(weights[:, : bounds[1]], block[: bounds[1]], out=out)
        for start, stop in pairwise(bounds[1:]):
            out += weights[:, start:stop] @ block[start:stop]


def _precision(bold: Series) -> type[np.floating[Any]]:
    return np.float64 if bold.dtype == np.float64 else np.float32


def _rows(sample_mask: IntArray, n_scans: int) -> slice | IntArray:
    return slice(None) if np.array_equal(sample_mask, np.arange(n_scans)) else sample_mask


def _slices(n_voxels: int, voxel_block: int) -> Iterator[slice]:
    for start in range(0, n_voxels, voxel_block):
        yield slice(start, min(start + voxel_block, n_voxels))


def _empty_product(weights: FloatArray, bold: Series, sample_mask: IntArray) -> FloatArray:
    last = int(np.max(sample_mask, initial=-1))
    if weights.shape[1] != len(sample_mask) or last >= len(bold):
        raise DesignError(
            f"the design has {weights.shape[1]} rows for {len(sample_mask)} kept scans up to scan {last}; "
            f"the image has {len(bold)}."
        )
    return np.empty((len(weights), bold.shape[1]), dtype=_precision(bold))
