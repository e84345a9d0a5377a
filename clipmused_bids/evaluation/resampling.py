"""The Bayesian bootstrap over stimuli: random weights of stimuli, and scores under them.

Stimuli are weighted at random rather than drawn, so that no label loses its last positive and the set of scored
labels stays fixed. A stimulus has one weight in all its trials, of all participants and under all methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.evaluation.metrics import checked
from clipmused_bids.evaluation.split_design import codes
from clipmused_bids.evaluation.weighted import Metric, weighted_metric
from clipmused_bids.records import BoolArray, FloatArray, IntArray

SMALLEST_STRATUM = 10  # stimuli
SMALLEST_SHAPE = 1 / 3  # of three stimuli; the spread of fewer says nothing of others


@dataclass(frozen=True)
class StimulusWeights:
    """Weights of stimuli, drawn once for all methods that are compared.

    Parameters
    ----------
    stimulus : ndarray of int, shape (n,)
        Code of each trial's stimulus.
    weights : ndarray of shape (n_resamples + 1, n_stimuli)
        The first row holds ones.
    """

    stimulus: IntArray
    weights: FloatArray

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli."""
        return int(self.weights.shape[1])


def draw_weights(
    labels: FloatArray, stimulus_id: Sequence[str], *, n_resamples: int, rng: np.random.Generator
) -> StimulusWeights:
    """Draw weights whose sum is the same in each stratum: the stimuli that share their rarest label.

    `stratified_weights` says how.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
    stimulus_id : sequence of str, length n
    n_resamples : int
    rng : numpy.random.Generator

    References
    ----------
    Rubin 1981, doi:10.1214/aos/1176345338
    """
    stimulus = codes(stimulus_id)
    drawn = stratified_weights(rarest_labels(labels, stimulus), n_resamples=n_resamples, rng=rng)
    return StimulusWeights(stimulus, np.vstack([np.ones(drawn.shape[1]), drawn]))


def resampled_scores(
    labels: FloatArray,
    probabilities: FloatArray,
    weights: StimulusWeights,
    *,
    participant: Sequence[str],
    fold: Sequence[str] | None = None,
    metric: Metric,
) -> NDArray[np.float64]:
    """Score each participant's predictions under each set of weights.

    Under cross-validation a participant's score is the mean over folds of the fold's score; folds in which nothing
    can be scored do not enter.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
    weights : StimulusWeights
        Of the same trials.
    participant : sequence of str, length n
    fold : sequence of str, length n, optional
    metric : {"mAP", "AUC", "Hamming", "top1"}

    Returns
    -------
    ndarray of shape (n_participants, n_resamples + 1)
        Participants in sorted order. The first column holds the plain scores; NaN where nothing can be scored.

    Raises
    ------
    DataError
        If shapes differ or a probability is not finite.
    """
    labels, probabilities = checked(labels, probabilities)
    person = codes(participant)
    folds = np.zeros(len(person), dtype=np.int64) if fold is None else codes(fold)
    scores = np.full((int(person.max()) + 1, len(weights.weights)), np.nan)
    for p in range(len(scores)):
        own = [(person == p) & (folds == f) for f in np.unique(folds[person == p])]
        values = [
            weighted_metric(
                labels[rows], probabilities[rows], weights.weights[:, weights.stimulus[rows]], metric=metric
            )
            for rows in own
        ]
        scored = [v for v in values if np.isfinite(v[0])]
        if scored:
            scores[p] = np.mean(scored, axis=0)
    return scores


def rarest_labels(labels: FloatArray, stimulus: IntArray) -> IntArray:
    """Each stimulus's rarest label.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
    stimulus : ndarray of int, shape (n,)
        Code of each trial's stimulus, 0 to n_stimuli - 1.

    Returns
    -------
    ndarray of int, shape (n_stimuli,)
        C for stimuli without a label.
    """
    has: BoolArray = np.zeros((int(stimulus.max()) + 1, labels.shape[1]), dtype=bool)
    trial, label = np.nonzero(labels == 1)
    has[stimulus[trial], label] = True
    frequency = np.where(has, has.sum(axis=0), len(has) + 1)
    return np.asarray(np.where(has.any(axis=1), frequency.argmin(axis=1), labels.shape[1]))


def strata(rarest: IntArray) -> IntArray:
    """Stratum of each stimulus: its rarest label; strata of fewer than 10 stimuli are pooled as -1."""
    return np.asarray(np.where(_sizes(rarest) >= SMALLEST_STRATUM, rarest, -1))


def stratified_weights(
    rarest: IntArray, *, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw positive weights whose mean is 1 in each stratum.

    A stimulus that shares its rarest label with m - 1 others has a gamma weight of shape (m - 2)/m, at least 1/3.
    With it the variance of a weighted mean of these m stimuli is S^2/m, that of the mean of m others like them, S^2
    their sample variance. With exponential weights (Rubin 1981) it is (m - 1)/(m + 1) of that, too small where labels
    are rare.

    Parameters
    ----------
    rarest : ndarray of int, shape (n_stimuli,)
        From `rarest_labels`.
    n_resamples : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_resamples, n_stimuli)
    """
    size = _sizes(rarest)
    shape = np.maximum((size - 2) / size, SMALLEST_SHAPE)
    # A gamma variable of small shape may underflow to 0.
    weights = np.maximum(rng.gamma(shape, size=(n_resamples, len(shape))) / shape, 1e-12)
    stratum = strata(rarest)
    for s in np.unique(stratum):
        members = stratum == s
        weights[:, members] /= weights[:, members].mean(axis=1, keepdims=True)
    return weights


def _sizes(rarest: IntArray) -> IntArray:
    """Stimuli that share each stimulus's rarest label."""
    return np.asarray(np.bincount(rarest)[rarest])
