"""Many methods on the same test trials: paired differences, to the best linear baseline and to a reference.

The best linear baseline is the one with the best mean score on these very test trials. As the best of several it is
flattered by chance, so that *yes* is said too seldom rather than too often, and *no* too often where methods are equal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.inference import (
    ROUNDING,
    Answer,
    Interval,
    answer,
    paired_difference,
    resampled_interval,
    verdict,
)
from clipmused_bids.evaluation.metrics import direction
from clipmused_bids.evaluation.resampling import draw_weights, resampled_scores
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.records import FloatArray

Role = Literal["the best linear baseline", "the reference"]


@dataclass(frozen=True)
class PredictedTrials:
    """Test trials that all methods predicted, in one order.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        1, 0, or NaN where unknown.
    participant, stimulus_id : tuple of str, length n
    fold : tuple of str, length n, optional
        Fold of cross-validation in which the trial was predicted.
    """

    labels: FloatArray
    participant: tuple[str, ...]
    stimulus_id: tuple[str, ...]
    fold: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Difference:
    """One method against one rival, by one metric.

    Parameters
    ----------
    method, rival : str
    role : {"the best linear baseline", "the reference"}
        What the rival is.
    metric : str
    intervals : tuple of Interval
        Method minus rival: over participants and over stimuli; or over seeds.
    p_value : float
        Paired t test over participants, or seeds, two-sided; NaN without two of them, or without any spread.
    p_holm : float
        The same, corrected for all methods that are compared with this role's rival by this metric.
    """

    method: str
    rival: str
    role: Role
    metric: str
    intervals: tuple[Interval, ...]
    p_value: float
    p_holm: float = float("nan")

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Whether the method is better, for each interval."""
        return tuple(answer(one, better=direction(self.metric)) for one in self.intervals)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One line for each interval."""
        rival = self.role if self.role == "the best linear baseline" else self.rival
        return tuple(
            verdict(one, metric=self.metric, baseline=self.rival, better=direction(self.metric), rival=rival)
            for one in self.intervals
        )


def compare_methods(
    trials: PredictedTrials,
    predictions: Mapping[str, FloatArray],
    *,
    linear: Collection[str],
    metric: Metric,
    rng: np.random.Generator,
    reference: str | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[Difference, ...]:
    """Compare methods by their predictions of the same trials.

    All methods are scored under the same random weights of stimuli. Under cross-validation a participant's score is
    the mean over folds.

    Parameters
    ----------
    trials : PredictedTrials
    predictions : mapping of method to ndarray of shape (n, C)
    linear : collection of str
        Linear baselines; those without predictions do not count.
    metric : {"mAP", "AUC", "Hamming", "top1"}
    rng : numpy.random.Generator
    reference : str, optional
        A method that the others are compared with besides.
    n_resamples : int
    confidence : float

    Returns
    -------
    tuple of Difference
        In the order of ``predictions``, first to the best linear baseline, then to the reference. A method is not
        compared with itself.

    Raises
    ------
    DataError
        If predictions do not fit the trials, or the reference has none.
    """
    weights = draw_weights(trials.labels, trials.stimulus_id, n_resamples=n_resamples, rng=rng)
    resampled = {
        name: resampled_scores(
            trials.labels, each, weights, participant=trials.participant, fold=trials.fold, metric=metric
        )
        for name, each in predictions.items()
    }
    people = sorted(set(trials.participant))
    scores = {name: dict(zip(people, each[:, 0].tolist(), strict=True)) for name, each in resampled.items()}

    def difference(method: str, rival: str, role: Role) -> Difference:
        over_people = paired_difference(scores[method], scores[rival], confidence=confidence)
        over_stimuli = resampled_interval(
            resampled[method] - resampled[rival], n_stimuli=weights.n_stimuli, confidence=confidence
        )
        p = paired_p_value(scores[method], scores[rival])
        return Difference(method, rival, role, metric, (over_people, over_stimuli), p)

    rivals = _rivals(scores, linear=linear, metric=metric, reference=reference)
    return _corrected([difference(m, rival, role) for role, rival in rivals for m in scores if m != rival])


def compare_over_seeds(
    scores: Mapping[str, Mapping[str, float]],
    *,
    linear: Collection[str],
    metric: str,
    reference: str | None = None,
    confidence: float = 0.95,
) -> tuple[Difference, ...]:
    """Compare methods by their scores on the same simulated studies; the seed of a study is the unit.

    The best linear baseline is the best over all seeds, the same for each of them.

    Parameters
    ----------
    scores : mapping of method to mapping of seed to score
        A score is already the mean over the study's participants.
    linear : collection of str
    metric : str
    reference : str, optional
    confidence : float

    Raises
    ------
    DataError
        If methods were not scored on the same seeds, or the reference was not scored.
    """
    rivals = _rivals(scores, linear=linear, metric=metric, reference=reference)
    found = []
    for role, rival in rivals:
        for method in scores:
            if method != rival:
                interval = paired_difference(
                    scores[method], scores[rival], confidence=confidence, kind="other seeds"
                )
                p = paired_p_value(scores[method], scores[rival])
                found.append(Difference(method, rival, role, metric, (interval,), p))
    return _corrected(found)


def best_method(
    scores: Mapping[str, Mapping[str, float]], *, among: Collection[str], metric: str
) -> str | None:
    """Name the method with the best mean score; None where none of them has one.

    Parameters
    ----------
    scores : mapping of method to mapping of participant (or seed) to score
        Participants without a score (NaN) do not count.
    among : collection of str
    metric : str
        Whether higher or lower is better, `evaluation.metrics.direction` says.
    """
    means = {
        name: float(np.nanmean(list(each.values())))
        for name, each in scores.items()
        if name in among and np.isfinite(list(each.values())).any()
    }
    choose = min if direction(metric) == "lower" else max
    return choose(means, key=lambda name: means[name]) if means else None


def paired_p_value(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Two-sided paired t test over participants (or seeds) that both methods have a value of.

    Returns
    -------
    float
        NaN with fewer than two pairs, or where all differences are the same.
    """
    differences = np.array([ours[p] - theirs[p] for p in ours])
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2 or np.ptp(differences) <= ROUNDING:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float] | FloatArray) -> NDArray[np.float64]:
    """Correct p-values for their number by Holm's step-down procedure; NaN are no tests and stay NaN.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6: 65-70.
    """
    corrected = np.array(p_values, dtype=np.float64)
    tests = np.flatnonzero(np.isfinite(corrected))
    order = tests[np.argsort(corrected[tests])]
    stepped = corrected[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def _rivals(
    scores: Mapping[str, Mapping[str, float]], *, linear: Collection[str], metric: str, reference: str | None
) -> list[tuple[Role, str]]:
    rivals: list[tuple[Role, str]] = []
    if (best := best_method(scores, among=linear, metric=metric)) is not None:
        rivals.append(("the best linear baseline", best))
    if reference is not None:
        if reference not in scores:
            raise DataError(f"comparison: {reference} is not among the methods scored: {', '.join(scores)}.")
        rivals.append(("the reference", reference))
    return rivals


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    found = list(differences)
    for role in {one.role for one in found}:
        family = [k for k, one in enumerate(found) if one.role == role]
        for k, p in zip(family, holm([found[k].p_value for k in family]), strict=True):
            found[k] = replace(found[k], p_holm=float(p))
    return tuple(found)
