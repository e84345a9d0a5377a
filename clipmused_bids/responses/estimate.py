"""From the BOLD series, or existing betas, of one run to its responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import ResponseOptions
from clipmused_bids.errors import DataError, DesignError, UsageError
from clipmused_bids.records import BoolArray, FloatArray, IntArray, RunResponses, Series, Trials
from clipmused_bids.responses.design import (
    frame_times,
    kept_scans,
    nuisance_regressors,
    trial_design,
    trials_within_run,
)
from clipmused_bids.responses.percent import percent_scale
from clipmused_bids.responses.projection import VOXEL_BLOCK
from clipmused_bids.responses.single_trial import single_trial_responses
from clipmused_bids.responses.temporal_snr import temporal_snr
from clipmused_bids.responses.window import linear_trend, window_responses

BLOCK_DURATION = (
    10.0  # s; from here on the response is a plateau and its mean says more than a model of its shape
)
PERCENT = "percent signal change"
ARBITRARY = "arbitrary"  # unit of existing responses that state none
NO_SCAN = "no kept scan in the window"


def choose_kind(
    runs: Sequence[Trials], image_kind: Literal["bold", "betas"]
) -> tuple[Literal["lss", "window", "betas"], str]:
    """Choose how responses are estimated, the same way for all runs given, and why.

    Parameters
    ----------
    runs : sequence of Trials
        Runs that must be estimated alike, at best all of a dataset.
    image_kind : {"bold", "betas"}

    Returns
    -------
    kind, reason : str
    """
    if image_kind == "betas":
        return "betas", "the images are responses already"
    if any(trials.continuous for trials in runs):
        return "window", "trials are samples of movies"
    durations = np.concatenate([trials.duration for trials in runs]) if runs else np.empty(0)
    if len(durations) == 0:
        raise DesignError("no run has a trial.", hint="name the trials with --trial-type")
    median = float(np.median(durations))
    if median >= BLOCK_DURATION:
        return "window", f"trials are blocks (median duration {median:g} s, at least {BLOCK_DURATION:g} s)"
    return "lss", f"trials are events (median duration {median:g} s, below {BLOCK_DURATION:g} s)"


def check_options(kind: Literal["lss", "lsa", "window", "betas"], options: ResponseOptions) -> None:
    """Refuse models of the noise and of the other trials where the kind of response has none.

    Raises
    ------
    UsageError
        Names the option, and the kinds that have it.
    """
    if options.noise != "ols" and kind not in {"lss", "lsa"}:
        raise UsageError(
            f'responses.noise = "{options.noise}" is for lss and lsa; the responses are {kind}.',
            hint="--response lss",
        )
    if options.others != "together" and kind != "lss":
        raise UsageError(
            f'responses.others = "{options.others}" is for lss; the responses are {kind}.',
            hint="--response lss",
        )


def default_lag(trials: Trials) -> float:
    """Shift in s between a stimulus and the volumes of its response: 4 for samples of movies, else 5."""
    return 4.0 if trials.continuous else 5.0


def estimate_responses(
    bold: Series,
    *,
    valid: BoolArray,
    trials: Trials,
    options: ResponseOptions,
    kind: Literal["lss", "lsa", "window"],
    repetition_time: float,
    start_time: float = 0.0,
    confounds: FloatArray | None = None,
    confound_names: Sequence[str] = (),
    has_cosines: bool = False,
    sample_mask: IntArray | None = None,
    voxel_block: int = VOXEL_BLOCK,
) -> RunResponses:
    """One response per trial, in percent of each voxel's mean over the kept scans.

    ``lss`` and ``lsa`` remove confounds and either their cosines or a cosine drift; ``window`` removes confounds,
    without any cosines, and a linear trend (see `linear_trend` for why).

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        Preprocessed signal, not demeaned; may lie in a file.
    valid : ndarray of bool, shape (n_voxels,)
        False where the voxel has no usable signal.
    trials : Trials
    options : ResponseOptions
        ``hrf``, ``high_pass`` and ``noise`` for ``lss`` and ``lsa``; ``others`` for ``lss``; ``lag`` and
        ``window`` for ``window``.
    kind : {"lss", "lsa", "window"}
    repetition_time, start_time : float
        In s.
    confounds : ndarray of shape (n_scans, n_confounds), optional
        At every scan, no NaN.
    confound_names : sequence of str
        Names of the confounds; those that begin with ``cosine`` are drift.
    has_cosines : bool
        Whether the confounds bring their own drift model.
    sample_mask : ndarray of int, optional
        Scans to keep (others are non-steady-state or scrubbed).
    voxel_block : int
        Voxels worked on at a time; bounds the memory beside input and output.

    Returns
    -------
    RunResponses

    Raises
    ------
    DataError
        If the voxels have no positive mean, or responses are not finite.
    DesignError
        If trials do not fit the run, or nothing can be estimated.
    """
    scans = kept_scans(sample_mask, n_scans=len(bold))
    scale, valid = percent_scale(bold, valid=valid, sample_mask=scans, voxel_block=voxel_block)
    if kind != "window":
        design = trial_design(
            trials,
            n_scans=len(bold),
            repetition_time=repetition_time,
            start_time=start_time,
            hrf=options.hrf,
            high_pass=options.high_pass,
            confounds=confounds,
            has_cosines=has_cosines,
            sample_mask=scans,
        )
        values = single_trial_responses(
            bold, design, kind=kind, others=options.others, noise=options.noise, voxel_block=voxel_block
        )
        kept, dropped = design.kept, dict(design.dropped)
    else:
        values, kept, dropped = _windows(
            bold,
            trials,
            options=options,
            repetition_time=repetition_time,
            start_time=start_time,
            confounds=_without_cosines(confounds, confound_names, has_cosines=has_cosines),
            scans=scans,
            voxel_block=voxel_block,
        )
    return RunResponses(
        values=_scaled(values, scale, valid),
        valid=valid,
        kept=kept,
        kind=kind,
        unit=PERCENT,
        dropped=dropped,
        tsnr=temporal_snr(bold, valid=valid, sample_mask=scans, voxel_block=voxel_block),
    )


def betas_responses(
    values: FloatArray,
    trials: Trials,
    *,
    valid: BoolArray,
    index: IntArray | None = None,
    unit: str = ARBITRARY,
    scale: float = 1.0,
) -> RunResponses:
    """Existing responses, one volume per trial, joined to the events.

    Parameters
    ----------
    values : ndarray of shape (n_volumes, n_voxels)
    trials : Trials
    valid : ndarray of bool, shape (n_voxels,)
    index : ndarray of int, shape (n_trials,), optional
        Volume of each trial, -1 for none; without it volumes and trials are in the same order.
    unit : str
        Unit of ``values / scale``.
    scale : float
        What the values were multiplied with when stored (300 for NSD).

    Returns
    -------
    RunResponses

    Raises
    ------
    DataError
        If volumes and trials cannot be joined, or values are not finite.
    """
    if index is None:
        if len(values) != trials.n_trials:
            raise DataError(
                f"{len(values)} volumes of responses for {trials.n_trials} trials; expected one per trial.",
                hint="check --trial-type and --merge-blocks, or put a *_trials.tsv beside the image that says "
                "which event each volume belongs to",
            )
        index = np.arange(trials.n_trials)
    if len(index) != trials.n_trials or (
        len(index) and not -1 <= int(index.min()) <= int(index.max()) < len(values)
    ):
        raise DataError(
            f"{len(index)} volume numbers up to {int(index.max(initial=-1))} for {trials.n_trials} trials "
            f"and {len(values)} volumes."
        )
    kept = np.flatnonzero(index >= 0)
    if len(kept) == 0:
        raise DataError(f"none of {trials.n_trials} trials has a volume among {len(values)}.")
    lost = trials.n_trials - len(kept)
    return RunResponses(
        values=_scaled(values[index[kept]], np.full(values.shape[1], 1.0 / scale), valid),
        valid=valid,
        kept=kept,
        kind="betas",
        unit=unit,
        dropped={"without a volume": lost} if lost else {},
    )


def _windows(
    bold: Series,
    trials: Trials,
    *,
    options: ResponseOptions,
    repetition_time: float,
    start_time: float,
    confounds: FloatArray | None,
    scans: IntArray,
    voxel_block: int,
) -> tuple[FloatArray, IntArray, dict[str, int]]:
    lag = default_lag(trials) if options.lag is None else options.lag
    within, dropped = trials_within_run(
        trials.onset, n_scans=len(bold), repetition_time=repetition_time, start_time=start_time
    )
    times = frame_times(len(bold), repetition_time=repetition_time, start_time=start_time)
    nuisance = np.hstack(
        [linear_trend(len(bold)), nuisance_regressors(confounds, times=times, high_pass=0.0)]
    )
    values, kept = window_responses(
        bold,
        trials.onset[within],
        # The volume nearest to the lag: neighbouring frames of a movie share the others.
        np.zeros(len(within)) if trials.continuous else trials.duration[within],
        repetition_time=repetition_time,
        start_time=start_time,
        lag=lag,
        window=options.window,
        sample_mask=scans,
        nuisance=nuisance,
        voxel_block=voxel_block,
    )
    if lost := len(within) - len(kept):
        dropped[NO_SCAN] = lost
    if len(kept) == 0:
        raise DesignError(
            f"none of {trials.n_trials} trials has a kept scan {lag:g} s after its onset.",
            hint="check the lag (responses.lag) and how many scans are scrubbed",
        )
    return values, within[kept], dropped


def _without_cosines(
    confounds: FloatArray | None, names: Sequence[str], *, has_cosines: bool
) -> FloatArray | None:
    if confounds is None or not has_cosines:
        return confounds
    if len(names) != confounds.shape[1]:
        raise DesignError(f"{len(names)} names for {confounds.shape[1]} confounds; cosines are told by name.")
    return confounds[:, [not name.startswith("cosine") for name in names]]


def _scaled(values: FloatArray, scale: FloatArray, valid: BoolArray) -> NDArray[np.float32]:
    """Scale responses, 0 where not valid; float32 values are replaced where they are, since they may be large."""
    out: NDArray[np.float32]
    out = values if values.dtype == np.float32 else np.empty(values.shape, dtype=np.float32)
    bad = np.zeros(len(valid), dtype=bool)
    for row, value in zip(out, values, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
            row[:] = np.where(valid, value * scale, 0)
        bad |= ~np.isfinite(row)
    if bad.any():
        raise DataError(f"responses of {bad.sum()} of {valid.sum()} voxels are NaN or infinite.")
    return out
