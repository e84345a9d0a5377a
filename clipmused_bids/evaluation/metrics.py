"""Scores of predicted label probabilities, each with its floor; the metrics are scikit-learn's.

Only labels with a positive and a negative among the scored trials enter, and how many they are is part of the
score; the others get no value. Labels that are NaN (unknown) are masked entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    hamming_loss,
    precision_recall_curve,
    roc_auc_score,
    top_k_accuracy_score,
)

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.floors import blind_f1, chance_top_k, random_average_precision
from clipmused_bids.records import BoolArray, FloatArray, IntArray, Score

NAN = float("nan")
Direction = Literal["higher", "lower"]
LOWER_IS_BETTER = frozenset({"Hamming", "Brier", "ECE"})


def direction(metric: str) -> Direction:
    """Say which values of a metric are better."""
    return "lower" if metric in LOWER_IS_BETTER else "higher"


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label.

    Parameters
    ----------
    label : str
    average_precision, floor, prevalence, auc : float
        NaN where the label cannot be scored (the prevalence: where it is unknown throughout).
    n_positive, n_trials : int
        Trials that have the label, and trials for which it is known.
    """

    label: str
    average_precision: float
    floor: float
    prevalence: float
    auc: float
    n_positive: int
    n_trials: int


def score(
    labels: FloatArray,
    probabilities: FloatArray,
    *,
    single_label: bool,
    thresholds: FloatArray | None = None,
) -> tuple[Score, ...]:
    """Score predictions: mAP, AUC, Hamming, microAP, F1 (with thresholds), top1 and top5 (single-label sets).

    mAP, AUC and F1 are means over scorable labels; the Hamming distance is that of probabilities cut at 0.5,
    over the known entries of scorable labels; microAP pools these entries. top5 needs more than five classes.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        1, 0, or NaN where unknown.
    probabilities : ndarray of shape (n, C)
    single_label : bool
        Whether each trial has exactly one label by construction.
    thresholds : ndarray of shape (C,), optional
        Cuts chosen on validation data (`best_thresholds`).

    Returns
    -------
    tuple of Score
        Values and floors are NaN where no label can be scored.

    Raises
    ------
    DataError
        If shapes differ or a probability is not finite.
    """
    labels, probabilities = checked(labels, probabilities)
    use = scorable(labels)
    truth, guess = labels[:, use], probabilities[:, use]
    known = ~np.isnan(truth)
    flat, flat_guess = truth[known], guess[known]
    prevalence = prevalences(labels)[use]
    n_labels, n_trials = int(use.sum()), int(known.any(axis=1).sum())

    def entry(metric: str, value: float, floor: float) -> Score:
        return Score(metric, value, floor, n_labels, n_trials)

    precisions = _per_column(truth, guess, average_precision_score)
    chances = [random_average_precision(int(y.sum()), len(y)) for y in _known_columns(truth)]
    pooled = average_precision_score(flat, flat_guess) if n_labels else NAN
    pooled_floor = random_average_precision(int(flat.sum()), len(flat)) if n_labels else NAN
    hamming = hamming_loss(flat == 1, flat_guess >= 0.5) if n_labels else NAN
    scores = [
        entry("mAP", _mean(precisions), _mean(chances)),
        entry("AUC", _mean(_per_column(truth, guess, roc_auc_score)), 0.5 if n_labels else NAN),
        entry("Hamming", float(hamming), float(flat.mean()) if n_labels else NAN),
        entry("microAP", float(pooled), pooled_floor),
    ]
    if thresholds is not None:
        cut = guess >= np.asarray(thresholds)[use]
        scores.append(entry("F1", _mean(_per_column(truth, cut, _f1)), _mean(blind_f1(prevalence))))
    if single_label:
        scores.extend(_top_scores(labels, probabilities))
    return tuple(scores)


def checked(labels: FloatArray, probabilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give labels and predictions as floats.

    Raises
    ------
    DataError
        If shapes differ, a label is neither 0, 1 nor NaN, or a probability is not finite.
    """
    labels, probabilities = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if labels.shape != probabilities.shape or labels.ndim != 2:
        raise DataError(
            f"scores: labels have shape {labels.shape}, predictions {probabilities.shape}; expected (n, C)."
        )
    odd = labels[(labels != 0) & (labels != 1) & ~np.isnan(labels)]
    if len(odd):
        raise DataError(
            f"scores: {len(odd)} labels are neither 0 nor 1 nor unknown, the first is {odd[0]:g}."
        )
    bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(bad):
        raise DataError(f"scores: {len(bad)} of {len(labels)} trials have predictions that are not finite.")
    return labels, probabilities


def scorable(labels: FloatArray) -> BoolArray:
    """Labels with a positive and a negative trial, shape (C,)."""
    return np.asarray((labels == 1).any(axis=0) & (labels == 0).any(axis=0))


def prevalences(labels: FloatArray) -> FloatArray:
    """Share of the trials with known label that have it, shape (C,); NaN where it is never known."""
    known = ~np.isnan(labels)
    count = known.sum(axis=0)
    return np.where(count > 0, np.nansum(labels, axis=0) / np.maximum(count, 1), NAN)


def per_label(
    labels: FloatArray, probabilities: FloatArray, *, label_names: Sequence[str]
) -> tuple[LabelScore, ...]:
    """Score each label by itself; labels that cannot be scored are listed with NaN.

    Raises
    ------
    DataError
        If shapes differ or a probability is not finite.
    """
    labels, probabilities = checked(labels, probabilities)
    use, prevalence = scorable(labels), prevalences(labels)
    rows = []
    for c, name in enumerate(label_names):
        known = ~np.isnan(labels[:, c])
        truth, guess = labels[known, c], probabilities[known, c]
        n_positive = int(truth.sum())
        rows.append(
            LabelScore(
                label=name,
                average_precision=float(average_precision_score(truth, guess)) if use[c] else NAN,
                floor=random_average_precision(n_positive, len(truth)) if use[c] else NAN,
                prevalence=float(prevalence[c]),
                auc=float(roc_auc_score(truth, guess)) if use[c] else NAN,
                n_positive=n_positive,
                n_trials=len(truth),
            )
        )
    return tuple(rows)


def best_thresholds(labels: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Cut of each label that gives the highest F1, to be chosen on validation data.

    Labels without a positive and a negative trial take the cut that is best for all entries pooled; 0.5 if
    there is no label to choose by.

    Returns
    -------
    ndarray of shape (C,)
        A label is predicted where its probability is at least this.

    Raises
    ------
    DataError
        If shapes differ or a probability is not finite.
    """
    labels, probabilities = checked(labels, probabilities)
    known = ~np.isnan(labels)
    flat = labels[known]
    mixed = bool((flat == 1).any() and (flat == 0).any())
    cuts = np.full(labels.shape[1], _best_cut(flat, probabilities[known]) if mixed else 0.5)
    for c in np.flatnonzero(scorable(labels)):
        cuts[c] = _best_cut(labels[known[:, c], c], probabilities[known[:, c], c])
    return cuts


def _top_scores(labels: FloatArray, probabilities: FloatArray) -> list[Score]:
    n_classes = labels.shape[1]
    rows = (np.nansum(labels, axis=1) == 1) & ~np.isnan(labels).any(axis=1)
    truth = np.argmax(labels[rows] == 1, axis=1)
    scores = []
    for k in (1, 5):
        if k == 1:
            hits = np.argmax(probabilities[rows], axis=1) == truth
            value = float(hits.mean()) if rows.any() else NAN
        elif n_classes > k:
            value = _top_k(truth, probabilities[rows], k=k)
        else:
            continue
        floor = chance_top_k(k, n_classes) if rows.any() else NAN
        scores.append(Score(f"top{k}", value, floor, len(np.unique(truth)), int(rows.sum())))
    return scores


def _top_k(truth: IntArray, guess: FloatArray, *, k: int) -> float:
    if len(truth) == 0:
        return NAN
    return float(top_k_accuracy_score(truth, guess, k=k, labels=np.arange(guess.shape[1])))


def _best_cut(truth: FloatArray, guess: FloatArray) -> float:
    precision, recall, cut = precision_recall_curve(truth, guess)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(cut[np.argmax(f1[:-1])])


def _f1(truth: FloatArray, guess: FloatArray) -> float:
    return float(f1_score(truth == 1, guess == 1, zero_division=0.0))


def _per_column(
    truth: FloatArray, guess: FloatArray | BoolArray, metric: Callable[[FloatArray, FloatArray], float]
) -> list[float]:
    known = ~np.isnan(truth)
    return [float(metric(truth[known[:, c], c], guess[known[:, c], c])) for c in range(truth.shape[1])]


def _known_columns(truth: FloatArray) -> list[FloatArray]:
    return [column[~np.isnan(column)] for column in truth.T]


def _mean(values: Sequence[float] | FloatArray) -> float:
    return float(np.mean(values)) if len(values) else NAN
