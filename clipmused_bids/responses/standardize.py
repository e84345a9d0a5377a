"""Scales of responses within a run, a session or a participant: z-scores, or from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, FloatArray

SCALE_FLOOR = 8 * float(np.finfo(np.float32).eps)  # of the offset: smaller deviations are float32 rounding
Scaling = Literal["zscore", "minmax"]
# Where a voxel says nothing: the mean of z-scores, the middle of a range.
NEUTRAL: Mapping[Scaling, float] = {"zscore": 0.0, "minmax": 0.5}


@dataclass(frozen=True)
class UnitStatistics:
    """Standardisation of one unit (a run, a session or a participant): (values - offset) / scale.

    Parameters
    ----------
    offset, scale : ndarray of shape (n_voxels,), float32
        In the unit of the responses: mean and standard deviation (``zscore``), or minimum and range (``minmax``).
        A voxel that does not vary, or has no usable signal in any block, becomes 0 (``zscore``) or 0.5 (``minmax``).
    source : {"training", "transductive"}
        Training trials only, or all trials of the unit without their labels.
    n_trials : int
        Trials the figures come from.
    scaling : {"zscore", "minmax"}
    """

    offset: NDArray[np.float32]
    scale: NDArray[np.float32]
    source: Literal["training", "transductive"]
    n_trials: int
    scaling: Scaling = "zscore"


def unit_statistics(
    blocks: Sequence[FloatArray],
    units: Sequence[str],
    *,
    train: Sequence[BoolArray],
    valid: Sequence[BoolArray] | None = None,
    minimum: int = 10,
    scaling: Scaling = "zscore",
) -> dict[str, UnitStatistics]:
    """Offset and scale per voxel of each unit, one block in memory at a time.

    A unit with at least ``minimum`` training trials is described by them; a smaller one by all its trials,
    which uses no labels but looks at the trials to be decoded ("transductive").

    Parameters
    ----------
    blocks : sequence of ndarray, block b of shape (n_trials_b, n_voxels)
        Responses of one run each; may be memory-mapped.
    units : sequence of str
        Unit of each block.
    train : sequence of ndarray of bool, each of shape (n_trials_b,)
        Training trials of each block.
    valid : sequence of ndarray of bool, each of shape (n_voxels,), optional
        Voxels with usable signal in each block; a block says nothing about the others.
    minimum : int
        Fewest training trials.
    scaling : {"zscore", "minmax"}
        Mean and population standard deviation, or minimum and maximum - minimum.

    Returns
    -------
    dict of str to UnitStatistics

    Raises
    ------
    DataError
        If blocks differ in voxels, or train does not fit them.
    """
    usable = valid or [np.ones(block.shape[1], dtype=np.bool_) for block in blocks]
    _check(blocks, train, usable)
    found = {}
    for unit in dict.fromkeys(units):
        members = [b for b, name in enumerate(units) if name == unit]
        enough = sum(int(train[b].sum()) for b in members) >= minimum
        rows = {b: train[b] if enough else np.ones(len(blocks[b]), dtype=np.bool_) for b in members}
        parts = [(blocks[b], rows[b], usable[b]) for b in members]
        offset, scale = _moments(parts) if scaling == "zscore" else _extremes(parts)
        varies = scale > SCALE_FLOOR * np.abs(offset)
        found[unit] = UnitStatistics(
            offset=np.where(varies, offset, offset - NEUTRAL[scaling]).astype(np.float32),
            scale=np.where(varies, scale, 1.0).astype(np.float32),
            source="training" if enough else "transductive",
            n_trials=sum(int(chosen.sum()) for chosen in rows.values()),
            scaling=scaling,
        )
    return found


def block_scaling(
    statistics: UnitStatistics, valid: BoolArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Offset and scale for one block of a unit: a voxel without signal there (stored as 0) becomes neutral.

    Parameters
    ----------
    statistics : UnitStatistics
    valid : ndarray of bool, shape (n_voxels,)

    Returns
    -------
    offset, scale : ndarray of shape (n_voxels,)
    """
    neutral, one = np.float32(-NEUTRAL[statistics.scaling]), np.float32(1)
    return np.where(valid, statistics.offset, neutral), np.where(valid, statistics.scale, one)


def standardize(values: FloatArray, *, offset: FloatArray, scale: FloatArray) -> NDArray[np.float32]:
    """Standardise responses of shape (n_trials, n_voxels): (values - offset) / scale, as float32."""
    return np.asarray((np.asarray(values, dtype=np.float32) - offset) / scale, dtype=np.float32)


_Part = tuple[FloatArray, BoolArray, BoolArray]


def _moments(parts: Sequence[_Part]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation; 0 and 0 without any usable signal."""
    n_voxels = parts[0][0].shape[1]
    count, total, squares = np.zeros(n_voxels), np.zeros(n_voxels), np.zeros(n_voxels)
    for block, rows, usable in parts:
        count += usable * rows.sum()
        total += np.where(usable, block[rows].sum(axis=0, dtype=np.float64), 0.0)
    seen = count > 0
    mean = np.divide(total, count, out=np.zeros(n_voxels), where=seen)
    for block, rows, usable in parts:
        deviation = np.asarray(block[rows], dtype=np.float64) - mean
        squares += np.where(usable, (deviation**2).sum(axis=0), 0.0)
    return mean, np.sqrt(np.divide(squares, count, out=np.zeros(n_voxels), where=seen))


def _extremes(parts: Sequence[_Part]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimum and range; 0 and 0 without any usable signal."""
    n_voxels = parts[0][0].shape[1]
    lowest, highest = np.full(n_voxels, np.inf), np.full(n_voxels, -np.inf)
    for block, rows, usable in parts:
        chosen = np.asarray(block[rows], dtype=np.float64)
        lowest = np.fmin(lowest, np.where(usable, chosen.min(axis=0, initial=np.inf), np.inf))
        highest = np.fmax(highest, np.where(usable, chosen.max(axis=0, initial=-np.inf), -np.inf))
    seen = lowest <= highest
    return np.where(seen, lowest, 0.0), np.subtract(highest, lowest, out=np.zeros(n_voxels), where=seen)


def _check(blocks: Sequence[FloatArray], train: Sequence[BoolArray], valid: Sequence[BoolArray]) -> None:
    widths = sorted({block.shape[1] for block in blocks})
    if len(widths) > 1:
        raise DataError(f"responses of one participant have different numbers of voxels: {widths}.")
    for b, (block, rows, usable) in enumerate(zip(blocks, train, valid, strict=True)):
        if rows.shape != (len(block),) or usable.shape != (block.shape[1],):
            raise DataError(
                f"block {b}: {rows.shape} and {usable.shape} flags for responses of shape {block.shape}."
            )
