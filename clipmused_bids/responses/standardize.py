"""Mean and standard deviation of responses within a run, a session or a participant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, FloatArray

SCALE_FLOOR = 8 * float(np.finfo(np.float32).eps)  # of the mean: smaller deviations are float32 rounding


@dataclass(frozen=True)
class UnitStatistics:
    """Standardisation of one unit (a run, a session or a participant).

    Parameters
    ----------
    mean, sd : ndarray of shape (n_voxels,), float32
        In the unit of the responses; 0 and 1 where no block has a usable signal, sd 1 where nothing varies.
    source : {"training", "transductive"}
        Training trials only, or all trials of the unit without their labels.
    n_trials : int
        Trials the figures come from.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    source: Literal["training", "transductive"]
    n_trials: int


def unit_statistics(
    blocks: Sequence[FloatArray],
    units: Sequence[str],
    *,
    train: Sequence[BoolArray],
    valid: Sequence[BoolArray] | None = None,
    minimum: int = 10,
) -> dict[str, UnitStatistics]:
    """Mean and population standard deviation per voxel of each unit, one block in memory at a time.

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
        mean, sd = _moments([(blocks[b], rows[b], usable[b]) for b in members])
        n_trials = sum(int(chosen.sum()) for chosen in rows.values())
        found[unit] = UnitStatistics(mean, sd, "training" if enough else "transductive", n_trials)
    return found


def block_scaling(
    statistics: UnitStatistics, valid: BoolArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and sd for one block of a unit: a voxel without signal there (stored as 0) stays at 0, the mean.

    Parameters
    ----------
    statistics : UnitStatistics
    valid : ndarray of bool, shape (n_voxels,)

    Returns
    -------
    mean, sd : ndarray of shape (n_voxels,)
    """
    zero, one = np.float32(0), np.float32(1)
    return np.where(valid, statistics.mean, zero), np.where(valid, statistics.sd, one)


def standardize(values: FloatArray, *, mean: FloatArray, sd: FloatArray) -> NDArray[np.float32]:
    """Standardise responses of shape (n_trials, n_voxels): (values - mean) / sd, as float32."""
    return np.asarray((np.asarray(values, dtype=np.float32) - mean) / sd, dtype=np.float32)


def _moments(
    parts: Sequence[tuple[FloatArray, BoolArray, BoolArray]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
    sd = np.sqrt(np.divide(squares, count, out=np.zeros(n_voxels), where=seen))
    varies = sd > SCALE_FLOOR * np.abs(mean)
    return mean.astype(np.float32), np.where(varies, sd, 1.0).astype(np.float32)


def _check(blocks: Sequence[FloatArray], train: Sequence[BoolArray], valid: Sequence[BoolArray]) -> None:
    widths = sorted({block.shape[1] for block in blocks})
    if len(widths) > 1:
        raise DataError(f"responses of one participant have different numbers of voxels: {widths}.")
    for b, (block, rows, usable) in enumerate(zip(blocks, train, valid, strict=True)):
        if rows.shape != (len(block),) or usable.shape != (block.shape[1],):
            raise DataError(
                f"block {b}: {rows.shape} and {usable.shape} flags for responses of shape {block.shape}."
            )
