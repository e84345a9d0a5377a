"""Design of one run: a regressor for each trial, and everything that is not a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import HRF_MODELS
from clipmused_bids.errors import DesignError, UsageError
from clipmused_bids.records import FloatArray, IntArray, Trials
from clipmused_bids.responses.projection import orthonormal_basis, remove_subspace
from clipmused_bids.responses.regressors import EARLIEST_ONSET, summed_regressors, trial_regressors

SHORTEST_AFTERMATH = 5.0  # s of data that a trial's response needs
LARGEST_DROPPED_SHARE = 0.2
NOTHING_LEFT = 1e-10  # share of a regressor's energy below which it is rounding

BEYOND_RUN = "beyond the run"
BEFORE_RUN = "before the run"
NO_SIGNAL = "censored or explained by confounds"


@dataclass(frozen=True)
class TrialDesign:
    """Regressors of one run at the scans that are kept.

    Parameters
    ----------
    trials : ndarray of shape (n_kept_scans, n_trials)
        X: the expected BOLD of each trial.
    nuisance : ndarray of shape (n_kept_scans, n_nuisance)
        Z: constant, drift, confounds, events that are not trials, sums of HRF derivatives; of any rank.
    sample_mask : ndarray of int, shape (n_kept_scans,)
        Scans of the image that the rows stand for.
    kept : ndarray of int, shape (n_trials,)
        Position of each column of ``trials`` in the run's ``Trials``.
    condition : tuple of str
        Condition of each column of ``trials``.
    dropped : mapping of str to int
        Trials left out, by reason.
    """

    trials: NDArray[np.float64]
    nuisance: NDArray[np.float64]
    sample_mask: IntArray
    kept: IntArray
    condition: tuple[str, ...]
    dropped: Mapping[str, int]


def frame_times(n_scans: int, *, repetition_time: float, start_time: float = 0.0) -> NDArray[np.float64]:
    """Acquisition time of each volume, in s from the start of the run: StartTime + k TR.

    Parameters
    ----------
    n_scans : int
    repetition_time, start_time : float
        In s; ``StartTime`` is half a TR where slice times were corrected to the middle of the volume.
    """
    return start_time + repetition_time * np.arange(n_scans, dtype=np.float64)


def kept_scans(sample_mask: IntArray | None, *, n_scans: int) -> IntArray:
    """Check a sample mask; None keeps every scan.

    Raises
    ------
    DesignError
        If it names scans that the image does not have, or names one twice.
    """
    if sample_mask is None:
        return np.arange(n_scans)
    scans = np.asarray(sample_mask)
    if len(scans) and (scans.min() < 0 or scans.max() >= n_scans or np.any(np.diff(scans) <= 0)):
        raise DesignError(f"the sample mask must name scans 0 to {n_scans - 1} once each, in order.")
    return scans


def trials_within_run(
    onset: FloatArray, *, n_scans: int, repetition_time: float, start_time: float = 0.0
) -> tuple[IntArray, dict[str, int]]:
    """Which trials have at least 5 s of data after their onset.

    Parameters
    ----------
    onset : ndarray of shape (n_trials,)
        In s from the start of the run.
    n_scans : int
    repetition_time, start_time : float
        In s.

    Returns
    -------
    kept : ndarray of int
        Positions of the trials.
    dropped : dict
        Number of the others, by reason.

    Raises
    ------
    DesignError
        If more than 20 % of the trials lie beyond the run's end.
    """
    end = n_scans * repetition_time
    beyond = onset + SHORTEST_AFTERMATH > end + 1e-6
    before = onset < start_time + EARLIEST_ONSET
    if beyond.sum() > LARGEST_DROPPED_SHARE * len(onset):
        raise DesignError(
            f"{beyond.sum()} of {len(onset)} trials start after the run or within the last "
            f"{SHORTEST_AFTERMATH:g} s of it (last onset {onset.max():g} s, {n_scans} volumes = {end:g} s); "
            f"at most {LARGEST_DROPPED_SHARE:.0%} may.",
            hint="check that the events belong to this image, that onsets are in s, and RepetitionTime",
        )
    dropped = {BEYOND_RUN: int(beyond.sum()), BEFORE_RUN: int(before.sum())}
    return np.flatnonzero(~beyond & ~before), {reason: n for reason, n in dropped.items() if n}


def trial_design(
    trials: Trials,
    *,
    n_scans: int,
    repetition_time: float,
    start_time: float = 0.0,
    hrf: str = "spm",
    high_pass: float = 0.01,
    confounds: FloatArray | None = None,
    has_cosines: bool = False,
    sample_mask: IntArray | None = None,
) -> TrialDesign:
    """Design matrices of one run, computed on all frame times and cut to the kept scans afterwards.

    A trial too late to be estimated still evokes BOLD in the last seconds and stays in Z, like the events
    that are not trials. Derivatives of the HRF enter Z as their sum over trials.

    Parameters
    ----------
    trials : Trials
        Onsets and durations in s.
    n_scans : int
    repetition_time, start_time : float
        In s.
    hrf : str
        One of ``HRF_MODELS``.
    high_pass : float
        Cut-off of the cosine drift in Hz (0: none); not used if ``has_cosines``.
    confounds : ndarray of shape (n_scans, n_confounds), optional
        Any unit, no NaN.
    has_cosines : bool
        Whether the confounds bring their own drift model.
    sample_mask : ndarray of int, optional
        Scans to keep; all without it.

    Returns
    -------
    TrialDesign

    Raises
    ------
    DesignError
        If the confounds do not fit the image, too many trials lie beyond the run, or nothing is left to
        estimate.
    UsageError
        If the HRF or the cut-off cannot be used.
    """
    _check_hrf(hrf)
    scans = kept_scans(sample_mask, n_scans=n_scans)
    kept, dropped = trials_within_run(
        trials.onset, n_scans=n_scans, repetition_time=repetition_time, start_time=start_time
    )
    times = frame_times(n_scans, repetition_time=repetition_time, start_time=start_time)
    single = hrf.split(" + ", maxsplit=1)[0]
    X = trial_regressors(trials.onset[kept], trials.duration[kept], hrf=single, times=times)
    Z = np.hstack(
        [
            nuisance_regressors(confounds, times=times, high_pass=0.0 if has_cosines else high_pass),
            _event_regressors(trials, kept, hrf=hrf, times=times),
        ]
    )
    estimable = _estimable(X, Z, scans)
    if n_lost := int((~estimable).sum()):
        dropped[NO_SIGNAL] = n_lost
    if not estimable.any():
        raise DesignError(f"none of {trials.n_trials} trials can be estimated: {_listed(dropped)}.")
    return TrialDesign(
        trials=X[np.ix_(scans, estimable)],
        nuisance=Z[scans],
        sample_mask=scans,
        kept=kept[estimable],
        condition=tuple(trials.condition[i] for i in kept[estimable]),
        dropped=dropped,
    )


def nuisance_regressors(
    confounds: FloatArray | None, *, times: FloatArray, high_pass: float
) -> NDArray[np.float64]:
    """Constant, cosine drift and confounds at every frame.

    Parameters
    ----------
    confounds : ndarray of shape (n_scans, n_confounds) or None
    times : ndarray of shape (n_scans,)
        Frame times in s.
    high_pass : float
        Cut-off in Hz; 0 for a constant only.

    Returns
    -------
    ndarray of shape (n_scans, n_nuisance)

    Raises
    ------
    DesignError
        If the confounds have another number of rows, or NaN.
    UsageError
        If the cut-off leaves no frequency.
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    if len(times) < 2:
        raise DesignError(f"a run of {len(times)} volume has no time course.")
    repetition_time = float(times[1] - times[0])
    if high_pass * repetition_time >= 0.5:
        raise UsageError(
            f"responses.high_pass = {high_pass:g} Hz removes every frequency (TR {repetition_time:g} s).",
            hint="the default is 0.01",
        )
    drift = make_first_level_design_matrix(times, drift_model="cosine", high_pass=high_pass).to_numpy()
    if confounds is None:
        return np.asarray(drift, dtype=np.float64)
    if len(confounds) != len(times):
        raise DesignError(f"the confounds have {len(confounds)} rows; the image has {len(times)} volumes.")
    if not np.isfinite(confounds).all():
        raise DesignError("the confounds hold NaN or infinite values.")
    return np.hstack([drift, confounds])


def nuisance_basis(nuisance: FloatArray) -> NDArray[np.float64]:
    """Orthonormal basis of the nuisance regressors at the kept scans, shape (n_kept_scans, rank).

    Raises
    ------
    DesignError
        If they explain any signal whatever.
    """
    basis = orthonormal_basis(nuisance)
    if basis.shape[1] >= len(nuisance):
        raise DesignError(
            f"{basis.shape[1]} independent nuisance regressors leave nothing of {len(nuisance)} kept scans.",
            hint="--confounds motion or --confounds none",
        )
    return basis


def _check_hrf(hrf: str) -> None:
    if hrf not in HRF_MODELS:
        raise UsageError(f"responses.hrf = {hrf!r} is unknown.", hint=f"one of {', '.join(HRF_MODELS)}")


def _event_regressors(trials: Trials, kept: IntArray, *, hrf: str, times: FloatArray) -> NDArray[np.float64]:
    single = hrf.split(" + ", maxsplit=1)[0]
    late = np.setdiff1d(np.arange(trials.n_trials), kept)
    columns = [np.empty((len(times), 0))]
    if len(late):
        columns.append(summed_regressors(trials.onset[late], trials.duration[late], hrf=single, times=times))
    if hrf != single:
        columns.append(summed_regressors(trials.onset, trials.duration, hrf=hrf, times=times)[:, 1:])
    kinds = np.array(trials.nuisance_kind, dtype=object)
    for kind in sorted(set(trials.nuisance_kind)):
        rows = np.flatnonzero(kinds == kind)
        columns.append(
            summed_regressors(
                trials.nuisance_onset[rows], trials.nuisance_duration[rows], hrf=hrf, times=times
            )
        )
    return np.hstack(columns)


def _estimable(X: FloatArray, Z: FloatArray, scans: IntArray) -> NDArray[np.bool_]:
    basis = nuisance_basis(Z[scans])
    energy = (remove_subspace(X[scans], basis) ** 2).sum(axis=0)
    return np.asarray(energy > NOTHING_LEFT * (X**2).sum(axis=0), dtype=np.bool_)


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in dropped.items())
