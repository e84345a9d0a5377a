"""Scores under cross-validation: the mean over folds of each fold's score.

Predictions of different folds come from different decoders, and are not ranked against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.records import FloatArray, Score


@dataclass(frozen=True)
class FoldMean:
    """One metric's mean over folds.

    Parameters
    ----------
    score : Score
        Value and floor: means over the folds that can be scored, with equal weight. ``n_labels``: of the fold with
        the fewest, among these. ``n_trials``: of all folds.
    n_folds, n_scored : int
        Folds, and those in which something can be scored.
    n_left_out : int
        Pairs of fold and label that are not scored, for want of a positive or a negative trial in the fold.
    """

    score: Score
    n_folds: int
    n_scored: int
    n_left_out: int


def score_folds(
    labels: FloatArray,
    probabilities: FloatArray,
    fold: Sequence[str],
    *,
    single_label: bool,
    thresholds: Mapping[str, FloatArray] | None = None,
) -> tuple[FoldMean, ...]:
    """Score one participant's predictions, each fold by itself.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
    fold : sequence of str, length n
        Fold in which the trial was predicted.
    single_label : bool
    thresholds : mapping of fold to ndarray of shape (C,), optional
        Cuts for F1, chosen on each fold's validation data.

    Raises
    ------
    DataError
        If numbers of trials differ or a probability is not finite.
    """
    if len(fold) != len(labels):
        raise DataError(f"scores: {len(fold)} fold names for {len(labels)} trials.")
    folds = np.asarray(fold)
    scores = {
        str(f): score(
            labels[folds == f],
            probabilities[folds == f],
            single_label=single_label,
            thresholds=None if thresholds is None else thresholds[str(f)],
        )
        for f in dict.fromkeys(fold)
    }
    return mean_over_folds(scores, n_labels=labels.shape[1])


def mean_over_folds(scores: Mapping[str, Sequence[Score]], *, n_labels: int) -> tuple[FoldMean, ...]:
    """Join the scores of folds, metric by metric, in the order of the first fold.

    Parameters
    ----------
    scores : mapping of fold to sequence of Score
    n_labels : int
        Labels there are, scorable or not.
    """
    of_metric: dict[str, list[Score]] = {}
    for of_fold in scores.values():
        for each in of_fold:
            of_metric.setdefault(each.metric, []).append(each)
    return tuple(_mean(metric, group, n_labels=n_labels) for metric, group in of_metric.items())


def _mean(metric: str, scores: Sequence[Score], *, n_labels: int) -> FoldMean:
    scored = [each for each in scores if np.isfinite(each.value)]
    nan = float("nan")
    mean = Score(
        metric=metric,
        value=float(np.mean([each.value for each in scored])) if scored else nan,
        floor=float(np.mean([each.floor for each in scored])) if scored else nan,
        n_labels=min((each.n_labels for each in scored), default=0),
        n_trials=sum(each.n_trials for each in scored),
    )
    left_out = sum(n_labels - each.n_labels for each in scores)
    return FoldMean(mean, len(scores), len(scored), left_out)
