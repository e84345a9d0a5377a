"""Metrics of fixed predictions under many arrangements of the labels at once.

Each label's ranking is sorted once; an arrangement says whose labels each trial takes. The values are those of
scikit-learn, ties and unknown labels included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.evaluation.metrics import scorable
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.records import BoolArray, FloatArray, IntArray

# Entries of one temporary array: larger ones fall out of the processor's cache and take twice as long.
AT_ONCE = 2**18


def permuted_metric(
    labels: FloatArray, source: IntArray, probabilities: FloatArray, *, metric: Metric
) -> NDArray[np.float64]:
    """Compute a metric under each arrangement of the labels.

    Parameters
    ----------
    labels : ndarray of shape (n_units, C)
        1, 0, or NaN where unknown.
    source : ndarray of int, shape (n_arrangements, n)
        Unit whose labels each trial takes. Every arrangement holds the units of the first one, so that the
        labels that can be scored are the same in all of them.
    probabilities : ndarray of shape (n, C)
    metric : {"mAP", "AUC", "Hamming", "top1"}

    Returns
    -------
    ndarray of shape (n_arrangements,)
        NaN where no label, or no trial, can be scored.
    """
    step = max(1, AT_ONCE // max(1, source.shape[1]))
    parts = [source[k : k + step] for k in range(0, len(source), step)]
    if metric == "top1":
        return np.concatenate([_top1(labels, part, probabilities) for part in parts])
    use = np.flatnonzero(scorable(labels[source[0]]))
    if len(use) == 0:
        return np.full(len(source), np.nan)
    if metric == "Hamming":
        return _hamming(labels[:, use], source, probabilities[:, use])
    of_label = _average_precision if metric == "mAP" else _auc
    total = np.zeros(len(source))
    for c in use:
        total += np.concatenate(
            [of_label(_Ranking(labels[:, c], part, probabilities[:, c])) for part in parts]
        )
    return total / len(use)


class _Ranking:
    """One label's trials from the highest score down, under each arrangement of A.

    ``arrangement`` and ``column`` (n_hits,) say where the positives are; ``first`` and ``last`` are the ends of
    their ties. ``positive`` and ``known`` (A, n + 1) count the trials before each column.
    """

    def __init__(self, label: FloatArray, source: IntArray, scores: FloatArray) -> None:
        order = np.argsort(-scores, kind="stable")
        ordered = np.take(source, order, axis=1)
        hit = (label == 1)[ordered]
        self.n_arrangements = len(source)
        self.arrangement, self.column = np.nonzero(hit)
        descending = scores[order]
        self.first = np.searchsorted(-descending, -descending, side="left")[self.column]
        self.last = np.searchsorted(-descending, -descending, side="right")[self.column]
        self.positive = _count_before(hit)
        unknown = np.isnan(label)
        if unknown.any():
            self.known = _count_before(~unknown[ordered])
        else:
            self.known = np.broadcast_to(np.arange(hit.shape[1] + 1), self.positive.shape)

    def sum_over_hits(self, values: FloatArray) -> NDArray[np.float64]:
        return np.bincount(self.arrangement, values, minlength=self.n_arrangements).astype(np.float64)


def _average_precision(ranking: _Ranking) -> NDArray[np.float64]:
    here = (ranking.arrangement, ranking.last)
    return ranking.sum_over_hits(ranking.positive[here] / ranking.known[here]) / ranking.positive[:, -1]


def _auc(ranking: _Ranking) -> NDArray[np.float64]:
    negative = ranking.known - ranking.positive
    rows = ranking.arrangement
    above = (negative[rows, ranking.first] + negative[rows, ranking.last]) / 2
    pairs = ranking.positive[:, -1].astype(float) * negative[:, -1]
    return np.asarray(1 - ranking.sum_over_hits(above) / pairs)


def _hamming(labels: FloatArray, source: IntArray, probabilities: FloatArray) -> NDArray[np.float64]:
    """Gather from the table of wrong entries of each trial's guess against each unit's labels."""
    absent, present = (labels == 0).astype(np.float32), (labels == 1).astype(np.float32)
    known = (absent + present).sum(axis=1)
    wrong, entries = np.zeros(len(source)), np.zeros(len(source))
    step = max(1, 16 * AT_ONCE // len(labels))
    for start in range(0, len(probabilities), step):
        rows = slice(start, start + step)
        guess = (probabilities[rows] >= 0.5).astype(np.float32)
        table = guess @ absent.T + (1 - guess) @ present.T
        of_rows = source[:, rows]
        wrong += table[np.arange(len(guess)), of_rows].sum(axis=1, dtype=np.float64)
        entries += known[of_rows].sum(axis=1, dtype=np.float64)
    return wrong / entries


def _top1(labels: FloatArray, source: IntArray, probabilities: FloatArray) -> NDArray[np.float64]:
    single = (np.nansum(labels, axis=1) == 1) & ~np.isnan(labels).any(axis=1)
    truth = np.where(single, (labels == 1).argmax(axis=1), -1)[source]
    n_trials = (truth >= 0).sum(axis=1)
    hits = (truth == probabilities.argmax(axis=1)).sum(axis=1)
    return np.where(n_trials > 0, hits / np.maximum(n_trials, 1), np.nan)


def _count_before(flags: BoolArray) -> NDArray[np.int32]:
    counts = np.zeros((flags.shape[0], flags.shape[1] + 1), dtype=np.int32)
    np.cumsum(flags, axis=1, out=counts[:, 1:])
    return counts
