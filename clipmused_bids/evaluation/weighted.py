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
    values = [
        of_label(labels[k, c], probabilities[k, c], weights[:, k])
        for c, k in zip(use, known.T[use], strict=True)
    ]
    return np.asarray(np.mean(values, axis=0))


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
    positive, everything = _cumulated(labels, scores, weights)
    gain = np.diff(positive, axis=1, prepend=0.0)
    return np.asarray((gain * positive / everything).sum(axis=1) / positive[:, -1])


def weighted_auc(labels: FloatArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve of one label under each row of weights; see `weighted_average_precision`."""
    positive, everything = _cumulated(labels, scores, weights)
    negative = everything - positive
    gain = np.diff(negative, axis=1, prepend=0.0)
    below = positive - np.diff(positive, axis=1, prepend=0.0) / 2
    return np.asarray((gain * below).sum(axis=1) / (positive[:, -1] * negative[:, -1]))


def _cumulated(labels: FloatArray, scores: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of positives, and of all trials, at or above each different score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, [True])
    ordered = weights[:, order]
    everything = np.cumsum(ordered, axis=1)[:, last_of_tie]
    positive = np.cumsum(ordered * (labels[order] == 1), axis=1)[:, last_of_tie]
    return positive, everything


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)
