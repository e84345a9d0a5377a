"""Percent signal change: deviations relative to each voxel's mean."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, IntArray, Series
from clipmused_bids.responses.projection import VOXEL_BLOCK, voxel_blocks

logger = logging.getLogger(__name__)

LOWEST_MEAN = 0.1  # mean over standard deviation below which a voxel holds no BOLD signal
LOWEST_SD = 1e-6  # standard deviation over mean below which a voxel is constant


def percent_scale(
    bold: Series, *, valid: BoolArray, sample_mask: IntArray, voxel_block: int = VOXEL_BLOCK
) -> tuple[NDArray[np.float64], BoolArray]:
    """Factor that turns deviations from a voxel's mean into percent signal change: 100 / mean.

    Responses are linear in the signal and blind to its mean, so the estimates are scaled, not the series.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
    valid : ndarray of bool, shape (n_voxels,)
    sample_mask : ndarray of int, shape (n_kept_scans,)
        Scans the mean is taken over.
    voxel_block : int

    Returns
    -------
    scale : ndarray of shape (n_voxels,)
        0 where not valid.
    valid : ndarray of bool
        The voxels among those given whose mean is well above zero and whose signal varies.

    Raises
    ------
    DataError
        If no scan is kept, or fewer than half of the voxels have a positive mean.
    """
    if len(sample_mask) == 0:
        raise DataError("no scan is left after non-steady-state and scrubbed volumes were removed.")
    mean, sd = np.empty(bold.shape[1]), np.empty(bold.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
        for here, block in voxel_blocks(bold, sample_mask=sample_mask, voxel_block=voxel_block):
            mean[here], sd[here] = block.mean(axis=0), block.std(axis=0)
        usable = valid & np.isfinite(sd) & (sd > LOWEST_SD * mean) & (mean > LOWEST_MEAN * sd)
    if 2 * usable.sum() < valid.sum() or not usable.any():
        raise DataError(
            f"{usable.sum()} of {valid.sum()} voxels vary around a positive mean; percent signal change "
            "needs one.",
            hint="give preprocessed BOLD that is not demeaned or scaled, or responses with --response betas",
        )
    if lost := int(valid.sum() - usable.sum()):
        logger.info("%d of %d voxels have no positive mean or do not vary: left out", lost, valid.sum())
    scale = np.zeros(len(mean))
    scale[usable] = 100.0 / mean[usable]
    return scale, usable
