"""Metrics under many sets of trial weights at once.

Resampling needs a metric a thousand times for one and the same ranking; the ranking is sorted once here. The
unweighted values are those of scikit-learn, which reports them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from clipmused_bids.evaluation.metrics import scorable
from clipmused_bids.records import FloatArray

Metric = Literal["mAP", "AUC", "Hamming", "top1"]
AT_ONCE = 2**17  # entries of one temporary array


def weighted_metric(
    labels: FloatArray, probabilities: FloatArray, weights: FloatArray, *, metric: Metric
) -> FloatArray:
    """Compute a metric under each row of weights.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
    weights : ndarray of shape (n_resamples, n)
        Positive.
    metric : {"mAP", "AUC", "Hamming", "top1"}

    Returns
    -------
    ndarray of shape (n_resamples,)
        NaN where no label, or no trial, can be scored.
    """
    if metric == "top1":
        rows = (np.nansum(labels, axis=1) == 1) & ~np.isnan(labels).any(axis=1)
        hits = probabilities[rows].argmax(axis=1) == (labels[rows] == 1).argmax(axis=1)
        return _ratio(weights[:, rows] @ hits, weights[:, rows].sum(axis=1))
    use = np.flatnonzero(scorable(labels))
    if metric == "Hamming":
        truth = labels[:, use]
        known = ~np.isnan(truth)
        wrong = known & ((probabilities[:, use] >= 0.5) != (truth == 1))
        return _ratio(weights @ wrong.sum(axis=1), weights @ known.sum(axis=1))
    if len(use) == 0:
        return np.full(len(weights), np.nan)
    of_label = weighted_average_precision if metric == "mAP" else weighted_auc
    known = ~np.isnan(labels)
    # Rows a few at a time: larger temporary arrays fall out of the processor's cache.
    step = max(1, AT_ONCE // len(labels))
    total = np.zeros(len(weights))
    for c, k in zip(use, known.T[use], strict=True):
        own = weights if k.all() else weights[:, k]
        for start in range(0, len(weights), step):
            rows = slice(start, start + step)
            total[rows] += of_label(labels[k, c], probabilities[k, c], own[rows])
    return total / len(use)


def weighted_average_precision(labels: FloatArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Average precision of one label under each row of weights: sum of (R_k - R_{k-1}) P_k.

    Trials of equal score are one step of the sum.

    Parameters
    ----------
    labels, scores : ndarray of shape (n,)
    weights : ndarray of shape (n_resamples, n)

    Returns
    -------
    ndarray of shape (n_resamples,)
    """
    of = _Cumulated(labels, scores, weights)
    precision = of.positive[:, of.positives_through] / of.everything[:, of.last]
    return np.asarray((of.weight * precision).sum(axis=1) / of.positive[:, -1])


def weighted_auc(labels: FloatArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve of one label under each row of weights; see `weighted_average_precision`."""
    of = _Cumulated(labels, scores, weights)
    before = of.everything[:, of.first] - of.positive[:, of.positives_before]
    through = of.everything[:, of.last] - of.positive[:, of.positives_through]
    negative = of.everything[:, -1] - of.positive[:, -1]
    above = (of.weight * (before + through) / 2).sum(axis=1)
    return np.asarray(1 - above / (of.positive[:, -1] * negative))


class _Cumulated:
    """Weight of all trials, and of positives, above each place of the ranking, from the highest score down.

    ``everything`` is of shape (n_resamples, n + 1), ``positive`` of shape (n_resamples, n_positive + 1). For each
    positive trial: its ``weight``, the places ``first`` and ``last`` where its tie begins and ends, and the positives
    before and through the tie.
    """

    def __init__(self, labels: FloatArray, scores: FloatArray, weights: FloatArray) -> None:
        order = np.argsort(-scores, kind="stable")
        descending = -scores[order]
        place = np.flatnonzero(labels[order] == 1)
        ordered = weights[:, order]
        self.weight = ordered[:, place]
        self.everything = _sums_before(ordered)
        self.positive = _sums_before(self.weight)
        self.first = np.searchsorted(descending, descending[place], side="left")
        self.last = np.searchsorted(descending, descending[place], side="right")
        self.positives_before = np.searchsorted(place, self.first, side="left")
        self.positives_through = np.searchsorted(place, self.last, side="left")


def _sums_before(weights: FloatArray) -> FloatArray:
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)
