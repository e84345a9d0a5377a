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
    stratum = strata(labels, stimulus)
    drawn = stratified_weights(stratum, n_resamples=n_resamples, rng=rng)
    return StimulusWeights(stimulus, np.vstack([np.ones(len(stratum)), drawn]))


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


def strata(labels: FloatArray, stimulus: IntArray) -> IntArray:
    """Stratum of each stimulus: its rarest label; strata of fewer than 10 stimuli are pooled.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
    stimulus : ndarray of int, shape (n,)
        Code of each trial's stimulus, 0 to n_stimuli - 1.

    Returns
    -------
    ndarray of int, shape (n_stimuli,)
        -1 for the pooled stratum.
    """
    has: BoolArray = np.zeros((int(stimulus.max()) + 1, labels.shape[1]), dtype=bool)
    trial, label = np.nonzero(labels == 1)
    has[stimulus[trial], label] = True
    frequency = np.where(has, has.sum(axis=0), len(has) + 1)
    stratum = np.where(has.any(axis=1), frequency.argmin(axis=1), labels.shape[1])
    size = np.bincount(stratum, minlength=labels.shape[1] + 1)
    return np.where(size[stratum] >= SMALLEST_STRATUM, stratum, -1)


def stratified_weights(stratum: IntArray, *, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Random positive weights of shape (n_resamples, n_stimuli); their mean is 1 in each stratum."""
    weights = rng.standard_exponential((n_resamples, len(stratum)))
    for s in np.unique(stratum):
        members = stratum == s
        weights[:, members] /= weights[:, members].mean(axis=1, keepdims=True)
    return weights
