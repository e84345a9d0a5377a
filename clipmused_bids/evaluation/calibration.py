"""Probabilities that mean what they say: Platt calibration on validation data, and how far they are off.

All methods are calibrated alike. A calibration that belongs to one label keeps the order of its trials, so that mAP
and AUC do not change; Hamming distance, F1 and micro-AP may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.metrics import checked, prevalences, scorable
from clipmused_bids.records import BoolArray, FloatArray, Score

Scope = Literal["label", "pooled"]
Origin = Literal["label", "pooled", "identity"]

FEWEST = 10  # positives, and negatives, that two numbers are fitted to
# Linear baselines are clipped to [0, 1], where log-odds have no end. Squeezing keeps the order; clipping would not.
MARGIN = 1e-6


@dataclass(frozen=True)
class Calibration:
    """A logistic map of log-odds for each label: ``expit(slope * logit(p) + intercept)``.

    Parameters
    ----------
    slope, intercept : tuple of float, length C
        Slopes are positive.
    origin : tuple of {"label", "pooled", "identity"}, length C
        What a label's numbers were fitted to: its own trials, all labels' pooled, or nothing (slope 1, intercept 0).
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    origin: tuple[Origin, ...]

    def apply(self, probabilities: FloatArray) -> NDArray[np.float64]:
        """Calibrate probabilities; columns of origin ``identity`` come back as they are.

        Parameters
        ----------
        probabilities : ndarray of shape (n, C)

        Raises
        ------
        DataError
            If the number of labels differs.
        """
        probabilities = np.asarray(probabilities, dtype=np.float64)
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self.slope):
            raise DataError(
                f"calibration: it is of {len(self.slope)} labels, the predictions have shape {probabilities.shape}."
            )
        mapped = expit(np.array(self.slope) * log_odds(probabilities) + np.array(self.intercept))
        return np.where(np.array(self.origin) == "identity", probabilities, mapped)


def fit_calibration(labels: FloatArray, probabilities: FloatArray, *, scope: Scope) -> Calibration:
    """Fit a Platt calibration on trials that the decoder was not fitted to.

    A logistic regression of the label on the log-odds, without penalty, with Platt's targets
    (N+ + 1)/(N+ + 2) and 1/(N- + 2) in place of 1 and 0: they keep the slope finite where the classes are separable.

    A label with fewer than 10 positive or 10 negative trials, or whose slope is not positive (it would turn the
    ranking round), takes the fit to the known entries of all labels pooled; where that one fails in the same way,
    probabilities stay as they are. Data with one label per trial need ``pooled``: one map for all labels keeps
    the highest of a trial the highest.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        1, 0, or NaN where unknown.
    probabilities : ndarray of shape (n, C)
        In [0, 1].
    scope : {"label", "pooled"}

    Raises
    ------
    DataError
        If shapes differ or a probability is not finite or outside [0, 1].

    References
    ----------
    Platt 1999, Probabilistic outputs for support vector machines, in: Advances in Large Margin Classifiers.
    """
    labels, probabilities = _probabilities(labels, probabilities)
    known = ~np.isnan(labels)
    odds = log_odds(probabilities)
    pooled = _platt(labels[known], odds[known])
    fits: list[tuple[float, float, Origin]] = []
    for c, of_label in enumerate(known.T):
        own = _platt(labels[of_label, c], odds[of_label, c]) if scope == "label" else None
        if own is not None:
            fits.append((*own, "label"))
        elif pooled is not None:
            fits.append((*pooled, "pooled"))
        else:
            fits.append((1.0, 0.0, "identity"))
    slopes, intercepts, origins = zip(*fits, strict=True)
    return Calibration(slopes, intercepts, origins)


def log_odds(probabilities: FloatArray) -> NDArray[np.float64]:
    """Log-odds of probabilities squeezed into [1e-6, 1 - 1e-6]."""
    return np.asarray(logit(MARGIN + (1 - 2 * MARGIN) * np.asarray(probabilities, dtype=np.float64)))


def calibration_scores(
    labels: FloatArray, probabilities: FloatArray, *, n_bins: int = 15
) -> tuple[Score, Score]:
    r"""Score how far probabilities are from frequencies: means over scorable labels; lower is better.

    ``Brier`` is a label's mean of :math:`(p - y)^2`; its floor is that of predicting the prevalence,
    :math:`\pi (1 - \pi)`. ``ECE``, the classwise expected calibration error, sorts a label's trials into bins of equal
    width: :math:`\sum_b n_b / n \, |\bar p_b - \bar y_b|`. Predicting the prevalence scores 0 there, its floor: the
    calibration error of a decoder says nothing about how much it knows. With few trials per bin it is too high, for
    all methods alike.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        1, 0, or NaN where unknown.
    probabilities : ndarray of shape (n, C)
        In [0, 1].
    n_bins : int

    Returns
    -------
    tuple of Score
        ``Brier`` and ``ECE``; NaN where no label can be scored.

    Raises
    ------
    DataError
        If shapes differ or a probability is not finite or outside [0, 1].

    References
    ----------
    Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2. Kull et al. 2019, arXiv:1910.12656.
    """
    labels, probabilities = _probabilities(labels, probabilities)
    use = scorable(labels)
    truth, guess = labels[:, use], probabilities[:, use]
    known = ~np.isnan(truth)
    counts = int(use.sum()), int(known.any(axis=1).sum())
    if not use.any():
        nan = float("nan")
        return Score("Brier", nan, nan, *counts), Score("ECE", nan, nan, *counts)
    of_label = [(truth[k, c], guess[k, c]) for c, k in enumerate(known.T)]
    brier = np.mean([brier_score_loss(y == 1, p) for y, p in of_label])
    error = np.mean([expected_calibration_error(y == 1, p, n_bins=n_bins) for y, p in of_label])
    prevalence = prevalences(labels)[use]
    floor = float((prevalence * (1 - prevalence)).mean())
    return Score("Brier", float(brier), floor, *counts), Score("ECE", float(error), 0.0, *counts)


def expected_calibration_error(positive: BoolArray, probabilities: FloatArray, *, n_bins: int) -> float:
    """Mean distance between probability and frequency over bins of equal width, weighted by their sizes.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
    probabilities : ndarray of shape (n,)
        In [0, 1]; 1 belongs to the last bin.
    n_bins : int
    """
    bins = np.minimum((probabilities * n_bins).astype(int), n_bins - 1)
    excess = np.bincount(bins, probabilities - positive, minlength=n_bins)
    return float(np.abs(excess).sum() / len(probabilities))


def _platt(labels: FloatArray, odds: FloatArray) -> tuple[float, float] | None:
    """Slope and intercept; None where there is too little to fit, or the slope is not positive."""
    positive = labels == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < FEWEST or np.ptp(odds) == 0:
        return None
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    # A target between 0 and 1 is one trial of either class, weighted.
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8)
    fit.fit(
        np.concatenate([odds, odds])[:, None],
        np.repeat([1, 0], len(odds)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return (slope, intercept) if slope > 0 else None


def _probabilities(labels: FloatArray, probabilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    labels, probabilities = checked(labels, probabilities)
    outside = int(((probabilities < 0) | (probabilities > 1)).sum())
    if outside:
        raise DataError(f"calibration: {outside} predictions are outside [0, 1].")
    return labels, probabilities
