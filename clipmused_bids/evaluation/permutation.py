r"""Permutation tests of fixed predictions: how often do rearranged labels fit them as well as the true ones.

The null hypothesis: *the predictions for the test trials carry no information about which of the exchangeable test
stimuli was shown*. The decoder stays as it is, and the labels of the test trials are rearranged against its
predictions; nothing is fitted again, so the test holds for any method. It speaks about these participants and this
decoder. With T the metric's value (for Hamming, its negative),

.. math:: p = \frac{1 + \#\{T_\text{null} \ge T_\text{observed}\}}{1 + n_\text{permutations}}

which never is 0 and is at most :math:`\alpha` with probability :math:`\alpha` or less under the null (Phipson and
Smyth 2010, doi:10.2202/1544-6115.1585).

What may be exchanged, `evaluation.exchange` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.exchange import Exchange, Scheme
from clipmused_bids.evaluation.metrics import checked, direction
from clipmused_bids.evaluation.permuted import permuted_metric
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.records import BoolArray, FloatArray

ROUNDING = 1e-12  # equal values that were summed in another order are equal


@dataclass(frozen=True)
class PermutationResult:
    """A metric's value beside its distribution under the null hypothesis.

    Parameters
    ----------
    observed : float
        NaN where no label can be scored.
    chance : float
        Mean under the null hypothesis.
    p_value : float
        One-sided. NaN where nothing is scored, or nothing can be exchanged.
    """

    observed: float
    chance: float
    p_value: float


@dataclass(frozen=True)
class PermutationTest:
    """Permutation test of one decoder's predictions.

    Parameters
    ----------
    metric : str
    scheme : {"stimuli", "trials within runs", "circular shifts"}
    n_permutations, n_units : int
        Permutations, and units (stimuli or trials) that they move.
    participants : mapping of str to PermutationResult
    group : PermutationResult
        Of the mean over participants, all under the same permutations.
    """

    metric: str
    scheme: Scheme
    n_permutations: int
    n_units: int
    participants: Mapping[str, PermutationResult]
    group: PermutationResult


def permutation_test(
    labels: FloatArray, probabilities: FloatArray, exchange: Exchange, *, metric: Metric
) -> PermutationTest:
    """Test predictions against permuted labels, for each participant and for their mean.

    Under cross-validation a participant's value is the mean over folds of the fold's value. Folds, and participants,
    without a label that can be scored do not enter.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
        In the order of the trials from which ``exchange`` was drawn. Unknown labels (NaN) move with their stimulus.
    exchange : Exchange
        From `exchange_stimuli` or `exchange_trials`.
    metric : {"mAP", "AUC", "Hamming", "top1"}

    Raises
    ------
    DataError
        If shapes differ, a probability is not finite, or trials of one stimulus have different labels.
    """
    labels, probabilities = checked(labels, probabilities)
    of_unit = _labels_of_units(labels, exchange)
    person = np.asarray(exchange.participant)
    values = {
        str(p): _mean_over_folds(of_unit, probabilities, exchange, person == p, metric=metric)
        for p in np.unique(person)
    }
    moves = {p: bool(exchange.moves[exchange.unit[person == p]].any()) for p in values}
    scored = [p for p in values if np.isfinite(values[p][0])]
    unscored = np.full(exchange.n_permutations + 1, np.nan)
    group = np.mean([values[p] for p in scored], axis=0) if scored else unscored
    return PermutationTest(
        metric=metric,
        scheme=exchange.scheme,
        n_permutations=exchange.n_permutations,
        n_units=int(exchange.moves.sum()),
        participants={p: _result(values[p], metric=metric, moved=moves[p]) for p in values},
        group=_result(group, metric=metric, moved=any(moves[p] for p in scored)),
    )


def _mean_over_folds(
    of_unit: FloatArray, probabilities: FloatArray, exchange: Exchange, own: BoolArray, *, metric: Metric
) -> NDArray[np.float64]:
    fold = np.asarray(exchange.fold)
    values = []
    for f in np.unique(fold[own]):
        rows = np.flatnonzero(own & (fold == f))
        units = np.unique(exchange.unit[rows])
        place = np.zeros(len(of_unit), dtype=np.int32)
        place[units] = np.arange(len(units))
        source = place[exchange.source[:, exchange.unit[rows]]]
        values.append(permuted_metric(of_unit[units], source, probabilities[rows], metric=metric))
    scored = [v for v in values if np.isfinite(v[0])]
    return np.asarray(np.mean(scored, axis=0) if scored else values[0])


def _result(values: FloatArray, *, metric: str, moved: bool) -> PermutationResult:
    observed, null = float(values[0]), values[1:]
    if not np.isfinite(observed) or not moved:
        return PermutationResult(observed, float("nan"), float("nan"))
    sign = -1.0 if direction(metric) == "lower" else 1.0
    as_good = int((sign * null >= sign * observed - ROUNDING).sum())
    return PermutationResult(observed, float(null.mean()), (1 + as_good) / (1 + len(null)))


def _labels_of_units(labels: FloatArray, exchange: Exchange) -> FloatArray:
    if len(labels) != len(exchange.unit):
        raise DataError(f"permutation test: {len(labels)} trials for permutations of {len(exchange.unit)}.")
    of_unit = np.empty((exchange.source.shape[1], labels.shape[1]))
    of_unit[exchange.unit] = labels
    same = (of_unit[exchange.unit] == labels) | (np.isnan(of_unit[exchange.unit]) & np.isnan(labels))
    if not same.all():
        n_bad = len(np.unique(exchange.unit[~same.all(axis=1)]))
        raise DataError(
            f"permutation test: {n_bad} stimuli have different labels in different trials.",
            hint="exchange trials within runs where labels belong to trials rather than stimuli",
        )
    return of_unit
