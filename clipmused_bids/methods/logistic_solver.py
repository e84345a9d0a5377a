"""Logistic regressions of many labels with one L2 penalty, chosen by leaving groups out; scikit-learn fits them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from clipmused_bids.long_work import long_work
from clipmused_bids.records import FloatArray

logger = logging.getLogger(__name__)

MOST_ITERATIONS = 2000
TOLERANCE = 1e-5  # of the gradient of the mean loss; scikit-learn's default is 1e-4
SMALLEST_PROBABILITY = 1e-6  # what a class that a fold never saw is charged at


@dataclass(frozen=True)
class Fold:
    """What is fitted and what is held out: (n, F) and (m, F) features, (n, C) and (m, C) labels."""

    x: FloatArray
    y: FloatArray
    held_out_x: FloatArray
    held_out_y: FloatArray


Folds = Callable[[], Iterator[Fold]]


@dataclass(frozen=True)
class Classifier:
    """Log-odds ``x @ coef + intercept``; a sigmoid of each, or a softmax over all.

    Parameters
    ----------
    coef : ndarray of shape (F, C)
    intercept : ndarray of shape (C,)
        Minus infinity for a class of single-label data that no trial showed.
    single_label : bool
    """

    coef: FloatArray
    intercept: FloatArray
    single_label: bool

    def log_odds(self, x: FloatArray) -> FloatArray:
        """Of each label, (n, C) float64."""
        return np.asarray(x, dtype=np.float64) @ self.coef + self.intercept

    def probability(self, log_odds: FloatArray) -> FloatArray:
        """Probability of each label, (n, C)."""
        return np.asarray(softmax(log_odds, axis=1) if self.single_label else expit(log_odds))

    def loss(self, x: FloatArray, y: FloatArray) -> tuple[float, int]:
        """Sum of the log loss over the known labels (single-label data: trials), and their number."""
        scores = self.log_odds(x)
        if self.single_label:
            rows, classes = known_classes(y)
            log_probability = np.maximum(log_softmax(scores[rows], axis=1), np.log(SMALLEST_PROBABILITY))
            return float(-log_probability[np.arange(len(rows)), classes].sum()), len(rows)
        known = ~np.isnan(y)
        signed = np.where(y[known] > 0.5, scores[known], -scores[known])
        return float(-log_expit(signed).sum()), int(known.sum())


def known_classes(y: FloatArray) -> tuple[Any, Any]:
    """Rows of single-label data whose class is known, and their classes."""
    positive = np.nan_to_num(y) > 0.5
    rows = np.flatnonzero(positive.sum(axis=1) == 1)
    return rows, positive[rows].argmax(axis=1)


class LogisticPath:
    """Fits of the same trials at one penalty after the other, each from where the last one ended.

    Minimises ``|| W ||_F^2 / 2 + c * (sum of the log loss)``: for single-label data one multinomial regression,
    otherwise one binary regression for each label on the trials where it is known.

    Parameters
    ----------
    single_label : bool
    fallback : ndarray of shape (C,)
        Probability of a label that is never known. One that is always 1 or always 0 in n trials has no regression,
        and the probability (positives + 1/2) / (n + 1).
    """

    def __init__(self, *, single_label: bool, fallback: FloatArray) -> None:
        self.single_label = single_label
        self.fallback = fallback
        self._started: dict[int, LogisticRegression] = {}
        self.not_converged = 0

    def fit(self, x: FloatArray, y: FloatArray, *, c: float) -> Classifier:
        """Fit to (n, F) features and (n, C) labels, NaN where unknown."""
        return self._multinomial(x, y, c=c) if self.single_label else self._binary(x, y, c=c)

    def _binary(self, x: FloatArray, y: FloatArray, *, c: float) -> Classifier:
        coef = np.zeros((x.shape[1], y.shape[1]))
        intercept = np.empty(y.shape[1])
        for label in range(y.shape[1]):
            known = ~np.isnan(y[:, label])
            truth = y[known, label] > 0.5
            if not 0 < truth.sum() < len(truth):
                seen = (truth.sum() + 0.5) / (len(truth) + 1)
                intercept[label] = logit(seen if len(truth) else self.fallback[label])
                continue
            fit = self._regression(label, x if known.all() else x[known], truth, c=c)
            coef[:, label], intercept[label] = fit.coef_[0], fit.intercept_[0]
        return Classifier(coef, intercept, single_label=False)

    def _multinomial(self, x: FloatArray, y: FloatArray, *, c: float) -> Classifier:
        rows, classes = known_classes(y)
        coef = np.zeros((x.shape[1], y.shape[1]))
        intercept = np.full(y.shape[1], -np.inf)
        seen = np.unique(classes)
        if len(seen) < 2:
            intercept[seen if len(seen) else slice(None)] = 0.0
            return Classifier(coef, intercept, single_label=True)
        fit = self._regression(0, x[rows], classes, c=c)
        # Of two classes scikit-learn fits one row of coefficients, the difference between their log-odds.
        binary = len(seen) == 2
        coef[:, seen] = np.stack([-fit.coef_[0] / 2, fit.coef_[0] / 2], axis=1) if binary else fit.coef_.T
        intercept[seen] = [-fit.intercept_[0] / 2, fit.intercept_[0] / 2] if binary else fit.intercept_
        return Classifier(coef, intercept, single_label=True)

    def _regression(self, key: int, x: FloatArray, truth: Any, *, c: float) -> LogisticRegression:
        fit = self._started.setdefault(
            key, LogisticRegression(warm_start=True, max_iter=MOST_ITERATIONS, tol=TOLERANCE)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit.set_params(C=c).fit(x, truth)
        self.not_converged += int(fit.n_iter_.max() >= MOST_ITERATIONS)
        return fit


def held_out_losses(
    folds: Folds,
    *,
    cs: tuple[float, ...],
    single_label: bool,
    fallback: FloatArray,
) -> Mapping[float, float]:
    """Mean log loss of held-out trials at each candidate, from the strongest penalty on until it rises.

    A weaker penalty than one that is too weak is not tried: such fits take longest.

    Parameters
    ----------
    folds : callable
        Gives the folds anew for each candidate, always in the same order.
    cs : tuple of float
    single_label, fallback
        As in ``LogisticPath``.

    Returns
    -------
    mapping of float to float
        By candidate; empty where nothing is held out.
    """
    paths: dict[int, LogisticPath] = {}
    losses: dict[float, float] = {}
    with long_work(
        "Logistic regressions at each strength of the penalty", len(cs), "strength", at_most=True
    ) as work:
        for c in sorted(cs):
            total, n = 0.0, 0
            for f, fold in enumerate(folds()):
                path = paths.setdefault(f, LogisticPath(single_label=single_label, fallback=fallback))
                loss, known = path.fit(fold.x, fold.y, c=c).loss(fold.held_out_x, fold.held_out_y)
                total, n = total + loss, n + known
            if n == 0:
                return {}
            losses[c] = total / n
            work.advance()
            if losses[c] > min(losses.values()):
                break
    return losses


def choose_c(losses: Mapping[float, float], *, cs: tuple[float, ...]) -> float:
    """Return the candidate of the smallest held-out loss; the middle one where nothing could be held out."""
    return min(losses, key=lambda c: losses[c]) if losses else sorted(cs)[len(cs) // 2]


def fit_classifier(
    x: FloatArray, y: FloatArray, *, c: float, single_label: bool, fallback: FloatArray, whose: str
) -> Classifier:
    """Fit at one penalty; says where the optimiser did not come to an end."""
    path = LogisticPath(single_label=single_label, fallback=fallback)
    classifier = path.fit(x, y, c=c)
    if path.not_converged:
        logger.warning(
            "%s: %d logistic regression(s) at C = %g stopped after %d iterations before they converged.",
            whose, path.not_converged, c, MOST_ITERATIONS,
        )  # fmt: skip
    return classifier
