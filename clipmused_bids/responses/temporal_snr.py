"""Temporal signal-to-noise ratio of each voxel of a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import BoolArray, IntArray, Series
from clipmused_bids.responses.percent import LOWEST_SD
from clipmused_bids.responses.projection import VOXEL_BLOCK, voxel_blocks


def temporal_snr(
    bold: Series, *, valid: BoolArray, sample_mask: IntArray, voxel_block: int = VOXEL_BLOCK
) -> NDArray[np.float32]:
    """Mean of each voxel over the standard deviation of what its straight line leaves (divided by n, as numpy does).

    What the stimuli evoke is part of that deviation: the ratio judges the series, not the model of the responses.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        Preprocessed signal, not demeaned; may lie in a file.
    valid : ndarray of bool, shape (n_voxels,)
        False where a voxel has no usable signal.
    sample_mask : ndarray of int, shape (n_kept_scans,)
        Scans that count.
    voxel_block : int
        Voxels worked on at a time; the result does not depend on it.

    Returns
    -------
    ndarray of shape (n_voxels,), float32
        Without unit; 0 where not valid, and where the line leaves nothing.

    References
    ----------
    Krüger and Glover 2001, doi:10.1002/mrm.1240
    """
    ratio = np.zeros(bold.shape[1], dtype=np.float32)
    time = np.asarray(sample_mask, dtype=np.float64)
    time = time - time.mean()
    with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
        for here, block in voxel_blocks(bold, sample_mask=sample_mask, voxel_block=voxel_block):
            mean, variance = _mean_and_rest(block, time)
            usable = valid[here] & np.isfinite(variance) & (variance > (LOWEST_SD * mean) ** 2)
            ratio[here][usable] = mean[usable] / np.sqrt(variance[usable])
    return ratio


def _mean_and_rest(
    block: NDArray[np.float64], time: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean, and variance around the straight line; summed scan by scan, so that no bit depends on the block's width."""
    mean, squares, along = (np.zeros(block.shape[1]) for _ in range(3))
    for scan in block:
        mean += scan
    mean /= len(block)
    for moment, scan in zip(time, block, strict=True):
        deviation = scan - mean
        along += moment * deviation
        squares += deviation * deviation
    length = float(time @ time)
    slope_part = along * along / length if length > 0 else 0.0
    return mean, np.maximum(squares - slope_part, 0.0) / len(block)
