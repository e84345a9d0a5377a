"""Nuisance subspace of any rank, and products of small weight matrices with many voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DesignError
from clipmused_bids.records import FloatArray, IntArray, Series

VOXEL_BLOCK = 8192


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
    rows = slice(None) if np.array_equal(sample_mask, np.arange(len(bold))) else sample_mask
    for start in range(0, bold.shape[1], voxel_block):
        here = slice(start, min(start + voxel_block, bold.shape[1]))
        yield here, np.asarray(bold[:, here][rows], dtype=np.float64)


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
        float64 for float64 input, else float32; the sums are made in float64 either way.

    Raises
    ------
    DesignError
        If the weights are for another number of scans.
    """
    last = int(np.max(sample_mask, initial=-1))
    if weights.shape[1] != len(sample_mask) or last >= len(bold):
        raise DesignError(
            f"the design has {weights.shape[1]} rows for {len(sample_mask)} kept scans up to scan {last}; "
            f"the image has {len(bold)}."
        )
    dtype = np.float64 if bold.dtype == np.float64 else np.float32
    out = np.empty((len(weights), bold.shape[1]), dtype=dtype)
    for here, block in voxel_blocks(bold, sample_mask=sample_mask, voxel_block=voxel_block):
        with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
            out[:, here] = weights @ block
    return out
