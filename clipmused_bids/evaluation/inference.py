"""How sure: intervals over participants ("other people") and over stimuli ("other stimuli")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.metrics import Direction
from clipmused_bids.evaluation.resampling import draw_weights, resampled_scores
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.records import FloatArray, Score

Kind = Literal["other people", "other stimuli", "other seeds"]
Answer = Literal["yes", "no", "undetermined"]
UNITS: Mapping[Kind, str] = {
    "other people": "participants",
    "other stimuli": "stimuli",
    "other seeds": "seeds",
}
FEWEST_STIMULI = 20
ROUNDING = 1e-12  # an interval narrower than this has no width


@dataclass(frozen=True)
class Interval:
    """A mean with a confidence interval.

    Parameters
    ----------
    mean, low, high : float
        NaN where they cannot be computed.
    n : int
        Units behind it: participants, stimuli, or seeds of a simulation.
    kind : {"other people", "other stimuli", "other seeds"}
        Whom or what the interval speaks about.
    """

    mean: float
    low: float
    high: float
    n: int
    kind: Kind = "other people"


@dataclass(frozen=True)
class Summary:
    """One metric over participants, each with equal weight.

    Parameters
    ----------
    metric : str
    interval : Interval
    floor : float
        Mean of the participants' floors.
    """

    metric: str
    interval: Interval
    floor: float


def participant_interval(
    values: Sequence[float] | FloatArray, *, confidence: float = 0.95, kind: Kind = "other people"
) -> Interval:
    """Mean over participants (or seeds) with its t interval; those without a value (NaN) do not count.

    Returns
    -------
    Interval
        Without bounds where there are fewer than two participants.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    n = len(finite)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0, kind)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1, kind)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * stats.sem(finite))
    return Interval(mean, mean - half, mean + half, n, kind)


def paired_difference(
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    *,
    confidence: float = 0.95,
    kind: Kind = "other people",
) -> Interval:
    """Mean of ``ours - theirs`` over participants, or seeds, with its t interval.

    Parameters
    ----------
    ours, theirs : mapping of participant (or seed) to value of one metric

    Raises
    ------
    DataError
        If the two do not hold the same participants.
    """
    if set(ours) != set(theirs):
        only = sorted(set(ours) ^ set(theirs))
        raise DataError(f"comparison: {UNITS[kind]} {', '.join(only)} were scored with one method only.")
    return participant_interval([ours[p] - theirs[p] for p in sorted(ours)], confidence=confidence, kind=kind)


def over_participants(scores: Mapping[str, Sequence[Score]]) -> tuple[Summary, ...]:
    """Summarise each metric over participants with equal weight, in the order of the first participant."""
    values: dict[str, list[Score]] = {}
    for of_participant in scores.values():
        for each in of_participant:
            values.setdefault(each.metric, []).append(each)
    return tuple(
        Summary(
            metric,
            participant_interval([each.value for each in group]),
            participant_interval([each.floor for each in group]).mean,
        )
        for metric, group in values.items()
    )


def stimulus_difference(
    labels: FloatArray,
    ours: FloatArray,
    theirs: FloatArray,
    *,
    stimulus_id: Sequence[str],
    participant: Sequence[str],
    fold: Sequence[str] | None = None,
    metric: Metric,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Difference of a metric between two methods, with an interval over stimuli; participants are fixed.

    Stimuli are resampled with random weights (the Bayesian bootstrap, `evaluation.resampling`) rather than drawn, so
    that no label loses its last positive and the set of scored labels stays fixed. The weights sum to the same in
    each stratum: the stimuli that share their rarest label, small strata pooled. A stimulus has one weight in all
    its trials, of all participants and under both methods.

    Parameters
    ----------
    labels, ours, theirs : ndarray of shape (n, C)
        Labels, and predictions of the two methods, of the same trials.
    stimulus_id, participant : sequence of str, length n
    fold : sequence of str, length n, optional
        Fold of cross-validation: a participant's score is the mean over folds.
    metric : {"mAP", "AUC", "Hamming", "top1"}
    rng : numpy.random.Generator
    n_resamples : int
    confidence : float

    Returns
    -------
    Interval
        Percentiles; ``mean`` is the difference with equal weights. Without bounds where there are fewer than
        20 stimuli: conditions of a block design are no sample of stimuli.

    References
    ----------
    Rubin 1981, doi:10.1214/aos/1176345338
    """
    weights = draw_weights(labels, stimulus_id, n_resamples=n_resamples, rng=rng)
    scores = [
        resampled_scores(labels, each, weights, participant=participant, fold=fold, metric=metric)
        for each in (ours, theirs)
    ]
    return resampled_interval(scores[0] - scores[1], n_stimuli=weights.n_stimuli, confidence=confidence)


def resampled_interval(differences: FloatArray, *, n_stimuli: int, confidence: float = 0.95) -> Interval:
    """Give the interval over stimuli of resampled differences, averaged over participants.

    Parameters
    ----------
    differences : ndarray of shape (n_participants, n_resamples + 1)
        Of two methods under the same weights (`evaluation.resampling.resampled_scores`).
    n_stimuli : int
        Fewer than 20 give no bounds.
    confidence : float
    """
    scored = differences[np.isfinite(differences[:, 0])]
    if len(scored) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), n_stimuli, "other stimuli")
    overall = scored.mean(axis=0)
    tails = (1 - confidence) / 2
    low, high = np.quantile(overall[1:], [tails, 1 - tails])
    if n_stimuli < FEWEST_STIMULI:
        low = high = float("nan")
    return Interval(float(overall[0]), float(low), float(high), n_stimuli, "other stimuli")


def answer(difference: Interval, *, better: Direction = "higher") -> Answer:
    """Say whether a difference is an improvement: its whole interval on one side of 0.

    An interval without width is undetermined: a few participants whose accuracies happen to differ by the same number
    of trials show no spread to judge by.

    Parameters
    ----------
    difference : Interval
    better : {"higher", "lower"}
        Direction of the metric; ``lower`` for the Hamming distance.
    """
    low, high = difference.low, difference.high
    if better == "lower":
        low, high = -high, -low
    if not high - low > ROUNDING:
        return "undetermined"
    return "yes" if low > 0 else "no" if high < 0 else "undetermined"


def verdict(
    difference: Interval,
    *,
    metric: str,
    baseline: str,
    better: Direction = "higher",
    rival: str = "the best linear baseline",
) -> str:
    """Say in one line whether a method beats the best linear baseline.

    Parameters
    ----------
    difference : Interval
        Ours minus the baseline's.
    metric, baseline : str
        Names for the line.
    better : {"higher", "lower"}
        Direction of the metric (`evaluation.metrics.direction`); ``lower`` for the Hamming distance.
    rival : str
        What the baseline is.
    """
    units = UNITS[difference.kind]
    if np.isnan(difference.low):
        numbers = f"{difference.mean:+.3f}, no interval from {difference.n} {units}"
    else:
        numbers = (
            f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}], {difference.n} {units}"
        )
    found = answer(difference, better=better)
    return f"beats {rival} ({difference.kind}): {found} ({metric} against {baseline} {numbers})"
