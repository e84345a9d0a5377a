"""What each metric gives when nothing is known."""

from __future__ import annotations

import numpy as np

from clipmused_bids.records import FloatArray


def random_average_precision(n_positive: int, n: int) -> float:
    """Give the expected average precision of a random ranking without ties.

    (R - 1)/(n - 1) (n - H_n)/n + H_n/n for R positives of n, H_n the n-th harmonic number: position k holds a
    positive with probability R/n, and then 1 + (k - 1)(R - 1)/(n - 1) of the first k are expected to be
    positive. It lies above the prevalence R/n: 0.071 for 3 of 100.

    Returns
    -------
    float
        NaN where nothing is positive.
    """
    if n_positive == 0:
        return float("nan")
    if n == 1:
        return 1.0
    harmonic = float(np.sum(1.0 / np.arange(1, n + 1)))
    return (n_positive - 1) / (n - 1) * (n - harmonic) / n + harmonic / n


def blind_f1(prevalence: FloatArray) -> FloatArray:
    """F1 of predicting every label of every trial: 2 p / (1 + p). Guessing fewer gives less on average."""
    return np.asarray(2 * prevalence / (1 + prevalence))


def chance_top_k(k: int, n_classes: int) -> float:
    """Probability that the true class is among k guessed ones."""
    return min(k / n_classes, 1.0)
