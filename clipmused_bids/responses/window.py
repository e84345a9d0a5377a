"""Responses of blocks and slow designs: the mean of the volumes some seconds after the onset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray, IntArray, Series
from clipmused_bids.responses.design import frame_times, kept_scans, nuisance_basis
from clipmused_bids.responses.projection import VOXEL_BLOCK, remove_subspace, weigh_voxels

ROUNDING = 1e-6  # s; onsets and frame times are decimal numbers


def window_weights(
    onsets: FloatArray,
    durations: FloatArray,
    *,
    n_scans: int,
    repetition_time: float,
    start_time: float = 0.0,
    lag: float = 5.0,
    window: float = 0.0,
    sample_mask: IntArray | None = None,
) -> tuple[NDArray[np.float64], IntArray]:
    """Weights of the mean over volumes acquired in [onset + lag, onset + lag + window).

    A window that holds no volume because it is shorter than the TR takes the volume nearest to onset + lag.

    Parameters
    ----------
    onsets, durations : ndarray of shape (n_trials,)
        In s from the start of the run.
    n_scans : int
    repetition_time, start_time : float
        In s.
    lag : float
        Shift for the haemodynamic delay, in s.
    window : float
        Length in s; 0 for the duration of the trial.
    sample_mask : ndarray of int, optional
        Scans that are kept; others do not enter a mean.

    Returns
    -------
    weights : ndarray of shape (n_kept_trials, n_kept_scans)
        Each row sums to one.
    kept : ndarray of int
        Trials whose window holds a kept scan.
    """
    scans = kept_scans(sample_mask, n_scans=n_scans)
    times = frame_times(n_scans, repetition_time=repetition_time, start_time=start_time)
    first = np.asarray(onsets, dtype=np.float64)[:, None] + lag - ROUNDING
    length = np.full(len(onsets), window) if window > 0 else np.asarray(durations, dtype=np.float64)
    inside = (times >= first) & (times < first + length[:, None])
    distance = np.abs(times - first - ROUNDING)
    for i in np.flatnonzero(~inside.any(axis=1)):
        nearest = int(distance[i].argmin())
        inside[i, nearest] = distance[i, nearest] <= repetition_time / 2 + ROUNDING
    counted = inside[:, scans].astype(np.float64)
    kept = np.flatnonzero(counted.any(axis=1))
    return counted[kept] / counted[kept].sum(axis=1, keepdims=True), kept


def window_responses(
    bold: Series,
    onsets: FloatArray,
    durations: FloatArray,
    *,
    repetition_time: float,
    start_time: float = 0.0,
    lag: float = 5.0,
    window: float = 0.0,
    sample_mask: IntArray | None = None,
    nuisance: FloatArray | None = None,
    voxel_block: int = VOXEL_BLOCK,
) -> tuple[FloatArray, IntArray]:
    """Mean of the volumes in a window after each onset, after removing nuisance from the time courses.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        All scans, any unit; responses come back in that unit.
    onsets, durations : ndarray of shape (n_trials,)
        In s from the start of the run.
    repetition_time, start_time, lag, window : float
        In s, see `window_weights`.
    sample_mask : ndarray of int, optional
        Scans that are kept.
    nuisance : ndarray of shape (n_scans, n_nuisance), optional
        Regressors at every scan, of any rank; what is averaged is the residual of their least-squares fit to
        the kept scans. With a constant among them responses are deviations from the run's mean.
    voxel_block : int
        Voxels worked on at a time.

    Returns
    -------
    values : ndarray of shape (n_kept_trials, n_voxels)
    kept : ndarray of int
        Trials whose window holds a kept scan.
    """
    weights, kept = window_weights(
        onsets,
        durations,
        n_scans=len(bold),
        repetition_time=repetition_time,
        start_time=start_time,
        lag=lag,
        window=window,
        sample_mask=sample_mask,
    )
    scans = kept_scans(sample_mask, n_scans=len(bold))
    if nuisance is not None:
        weights = remove_subspace(weights.T, nuisance_basis(nuisance[scans])).T
    return weigh_voxels(weights, bold, sample_mask=scans, voxel_block=voxel_block), kept


def linear_trend(n_scans: int) -> NDArray[np.float64]:
    """Build a constant and a straight line, of shape (n_scans, 2).

    The drift model for windows. Slow cosines are not: where a run shows each condition once, as block designs
    do, the differences between conditions are as slow as the drift and would be removed with it.
    """
    return np.column_stack([np.ones(n_scans), np.linspace(-1.0, 1.0, n_scans)])
