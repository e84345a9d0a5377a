"""Expected BOLD of events: of each trial by itself, and of all events of one kind together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray

EARLIEST_ONSET = -24.0  # s before the first frame; nilearn ignores events before it
OVERSAMPLING = 50  # points of nilearn's fine grid in one TR


def trial_regressors(
    onset: FloatArray, duration: FloatArray, *, hrf: str, times: FloatArray
) -> NDArray[np.float64]:
    """One regressor for each trial, equal to nilearn's ``compute_regressor`` to rounding, all trials at once.

    nilearn convolves a boxcar on a fine grid with the haemodynamic response and interpolates at the frames.
    That convolution is a difference of two values of the step response C, the running sum of the haemodynamic
    response: C(t - onset) - C(t - offset). So it need only be looked up at the two grid points beside each frame.

    Parameters
    ----------
    onset, duration : ndarray of shape (n_trials,)
        In s from the start of the run; no onset lies more than 24 s before the first frame.
    hrf : {"spm", "glover"}
    times : ndarray of shape (n_scans,)
        Frame times in s.

    Returns
    -------
    ndarray of shape (n_scans, n_trials)
    """
    from nilearn.glm.first_level import glover_hrf, spm_hrf

    response = {"spm": spm_hrf, "glover": glover_hrf}[hrf](float(np.diff(times).min()), OVERSAMPLING)
    step = np.concatenate([[0.0], np.cumsum(response)])
    grid = _fine_grid(times)
    last = len(grid) - 1
    first = np.minimum(np.searchsorted(grid, onset), last)
    end = np.minimum(np.searchsorted(grid, onset + duration), last)
    end = np.where((end == first) & (end < last), end + 1, end)  # an impulse lasts one point

    def at(points: NDArray[np.intp]) -> NDArray[np.float64]:
        elapsed = points[:, None] + 1 - np.stack([first, end])[:, None]
        begun, over = step[np.clip(elapsed, 0, len(response))]
        return np.asarray(begun - over)

    right = np.clip(np.searchsorted(grid, times), 1, last)
    share = ((times - grid[right - 1]) / (grid[right] - grid[right - 1]))[:, None]
    return np.asarray((1 - share) * at(right - 1) + share * at(right))


def summed_regressors(
    onset: FloatArray, duration: FloatArray, *, hrf: str, times: FloatArray
) -> NDArray[np.float64]:
    """One regressor for all events together and, after it, one for each derivative of the HRF.

    Parameters
    ----------
    onset, duration : ndarray of shape (n_events,)
        In s from the start of the run; events more than 24 s before the first frame do not count.
    hrf : str
        One of ``HRF_MODELS``.
    times : ndarray of shape (n_scans,)
        Frame times in s.

    Returns
    -------
    ndarray of shape (n_scans, 1 to 3)
    """
    from nilearn.glm.first_level import compute_regressor

    seen = onset >= times[0] + EARLIEST_ONSET
    condition = (onset[seen], duration[seen], np.ones(int(seen.sum())))
    columns, _ = compute_regressor(condition, hrf, times)
    return np.asarray(columns, dtype=np.float64)


def _fine_grid(times: FloatArray) -> NDArray[np.float64]:
    """The points in s that nilearn samples events at: 50 a TR, from 24 s before the first frame."""
    start = float(times.min()) + EARLIEST_ONSET
    end = float(times.max()) * (1 + 1 / (len(times) - 1))
    density = OVERSAMPLING * (len(times) - 1) / float(np.ptp(times))
    return np.linspace(start, end, int(np.rint((end - start) * density + 1)))
