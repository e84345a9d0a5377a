"""How sure: intervals over participants ("other people") and over stimuli ("other stimuli")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.split_design import codes
from clipmused_bids.evaluation.weighted import Metric, weighted_metric
from clipmused_bids.records import BoolArray, FloatArray, IntArray, Score

Kind = Literal["other people", "other stimuli"]
SMALLEST_STRATUM = 10  # stimuli
FEWEST_STIMULI = 20


@dataclass(frozen=True)
class Interval:
    """A mean with a confidence interval.

    Parameters
    ----------
    mean, low, high : float
        NaN where they cannot be computed.
    n : int
        Units behind it: participants, or stimuli.
    kind : {"other people", "other stimuli"}
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


def participant_interval(values: Sequence[float] | FloatArray, *, confidence: float = 0.95) -> Interval:
    """Mean over participants with its t interval; participants without a value (NaN) do not count.

    Returns
    -------
    Interval
        Without bounds where there are fewer than two participants.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    n = len(finite)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * stats.sem(finite))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], *, confidence: float = 0.95
) -> Interval:
    """Mean of ``ours - theirs`` over participants, with its t interval.

    Parameters
    ----------
    ours, theirs : mapping of participant to value of one metric

    Raises
    ------
    DataError
        If the two do not hold the same participants.
    """
    if set(ours) != set(theirs):
        only = sorted(set(ours) ^ set(theirs))
        raise DataError(f"comparison: participants {', '.join(only)} were scored with one method only.")
    return participant_interval([ours[p] - theirs[p] for p in sorted(ours)], confidence=confidence)


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
    metric: Metric,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Difference of a metric between two methods, with an interval over stimuli; participants are fixed.

    Stimuli are resampled with random weights (the Bayesian bootstrap) rather than drawn, so that no label
    loses its last positive and the set of scored labels stays fixed. The weights sum to the same in each
    stratum: the stimuli that share their rarest label, small strata pooled. A stimulus has one weight in all
    its trials, of all participants and under both methods.

    Parameters
    ----------
    labels, ours, theirs : ndarray of shape (n, C)
        Labels, and predictions of the two methods, of the same trials.
    stimulus_id, participant : sequence of str, length n
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
    stimulus, person = codes(stimulus_id), codes(participant)
    stratum = strata(labels, stimulus)
    weights = stratified_weights(stratum, n_resamples=n_resamples, rng=rng)
    weights = np.vstack([np.ones(len(stratum)), weights])[:, stimulus]
    differences = np.zeros((int(person.max()) + 1, n_resamples + 1))
    for p in range(len(differences)):
        rows = person == p
        own = weights[:, rows]
        differences[p] = weighted_metric(labels[rows], ours[rows], own, metric=metric)
        differences[p] -= weighted_metric(labels[rows], theirs[rows], own, metric=metric)
    scored = differences[np.isfinite(differences[:, 0])]
    if len(scored) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), len(stratum), "other stimuli")
    overall = scored.mean(axis=0)
    tails = (1 - confidence) / 2
    low, high = np.quantile(overall[1:], [tails, 1 - tails])
    if len(stratum) < FEWEST_STIMULI:
        low = high = float("nan")
    return Interval(float(overall[0]), float(low), float(high), len(stratum), "other stimuli")


def strata(labels: FloatArray, stimulus: IntArray) -> IntArray:
    """Stratum of each stimulus: its rarest label; strata of fewer than 10 stimuli are pooled.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
    stimulus : ndarray of int, shape (n,)
        Code of each trial's stimulus, 0 to n_stimuli - 1.

    Returns
    -------
    ndarray of int, shape (n_stimuli,)
        -1 for the pooled stratum.
    """
    has: BoolArray = np.zeros((int(stimulus.max()) + 1, labels.shape[1]), dtype=bool)
    trial, label = np.nonzero(labels == 1)
    has[stimulus[trial], label] = True
    frequency = np.where(has, has.sum(axis=0), len(has) + 1)
    stratum = np.where(has.any(axis=1), frequency.argmin(axis=1), labels.shape[1])
    size = np.bincount(stratum, minlength=labels.shape[1] + 1)
    return np.where(size[stratum] >= SMALLEST_STRATUM, stratum, -1)


def stratified_weights(stratum: IntArray, *, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Random positive weights of shape (n_resamples, n_stimuli); their mean is 1 in each stratum."""
    weights = rng.standard_exponential((n_resamples, len(stratum)))
    for s in np.unique(stratum):
        members = stratum == s
        weights[:, members] /= weights[:, members].mean(axis=1, keepdims=True)
    return weights


def verdict(
    difference: Interval,
    *,
    metric: str,
    baseline: str,
    better: Literal["higher", "lower"] = "higher",
) -> str:
    """Say in one line whether a method beats the best linear baseline.

    Parameters
    ----------
    difference : Interval
        Ours minus the baseline's.
    metric, baseline : str
        Names for the line.
    better : {"higher", "lower"}
        Direction of the metric; ``lower`` for the Hamming distance.
    """
    low, high = difference.low, difference.high
    if better == "lower":
        low, high = -high, -low
    answer = "yes" if low > 0 else "no" if high < 0 else "undetermined"
    units = "participants" if difference.kind == "other people" else "stimuli"
    if np.isnan(low):
        numbers = f"{difference.mean:+.3f}, no interval from {difference.n} {units}"
    else:
        numbers = (
            f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}], {difference.n} {units}"
        )
    comparison = f"{metric} against {baseline} {numbers}"
    return f"beats the best linear baseline ({difference.kind}): {answer} ({comparison})"
