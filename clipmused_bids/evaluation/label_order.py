"""Whether labels of neighbouring trials are alike, so that the noise they share could decode them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.evaluation.hold_out import GAP
from clipmused_bids.records import BoolArray, FloatArray, IntArray

LAGS = (1, 2, 3, 4)
N_SHUFFLES = 199
SMALLEST_EXCESS = 0.05
# On pure noise ridge reaches an AUC of 0.6 where pairs across sets are so much alike (benchmarks/leaks.py); blocks of
# public datasets measure 0.7 and more, shuffled orders 0.
STRONG = 0.2
INTERLEAVED = 2.0  # switches: more than one stretch of test trials
LONGEST_PIECE = 1000  # trials; inner products of all pairs of a longer run are made piece by piece


@dataclass(frozen=True)
class LabelOrder:
    """Autocorrelation of labels within runs, above that of shuffled order.

    Parameters
    ----------
    excess : tuple of float
        For each of `LAGS`: mean inner product of the labels of two trials so many places apart, as a share of the
        labels' variance, less its expectation when the trials of each run are shuffled.
    above_shuffled : bool
        The largest is at least `SMALLEST_EXCESS`, and larger than in each of `N_SHUFFLES` shuffled orders.
    across_sets : float
        The same, the largest lag's, for pairs of a test trial with a training or validation trial of its run that are
        less than 15 s apart; 0 where it is no larger than in shuffled orders.
    switches : float
        How often a run goes from test trials to others or back, mean over the runs that hold both: one or two where
        the test trials are one stretch, more where sets interleave.
    """

    excess: tuple[float, ...]
    above_shuffled: bool
    across_sets: float
    switches: float

    @property
    def leaks(self) -> bool:
        """Whether what neighbours share tells the labels of test trials: strong across sets that interleave."""
        return self.across_sets >= STRONG and self.switches > INTERLEAVED


def label_order(
    labels: FloatArray, *, run_key: Sequence[str], onset: FloatArray, set_name: Sequence[str], seed: int = 0
) -> LabelOrder:
    """Measure how alike the labels of neighbouring trials are.

    Shuffling is within runs, so that runs of different labels are no autocorrelation.

    Parameters
    ----------
    labels : ndarray of shape (n_trials, C)
        1, 0, or NaN where unknown.
    run_key : sequence of str, length n_trials
    onset : ndarray of shape (n_trials,)
        In s from the start of the run.
    set_name : sequence of str, length n_trials
    seed : int
        Of the shuffled orders.
    """
    generator = np.random.default_rng(seed)
    centred = _centred(labels)
    sets = np.asarray(set_name, dtype=str)
    test, other = sets == "test", np.isin(sets, ("train", "val"))
    shape = (len(LAGS), 1 + N_SHUFFLES)
    every, across = np.zeros(shape), np.zeros(shape)
    n_every, n_across = np.zeros(len(LAGS)), np.zeros(len(LAGS))
    switches = []
    for rows in _runs(run_key, onset):
        products = centred[rows] @ centred[rows].T
        # Expectation of a pair's product in a shuffled run: the mean over all its pairs.
        products -= (products.sum() - np.trace(products)) / (len(rows) * (len(rows) - 1))
        tested = test[rows[test[rows] | other[rows]]]
        if tested.any() and not tested.all():
            switches.append(int((tested[1:] != tested[:-1]).sum()))
        orders = np.tile(np.arange(len(rows)), (1 + N_SHUFFLES, 1))
        orders[1:] = generator.permuted(orders[1:], axis=1)
        for k, lag in enumerate(LAGS[: len(rows) - 1]):
            found = products[orders[:, :-lag], orders[:, lag:]]
            crossing = _crossing(rows, lag, onset=onset, test=test, other=other)
            every[k] += found.sum(axis=1)
            across[k] += found[:, crossing].sum(axis=1)
            n_every[k] += found.shape[1]
            n_across[k] += crossing.sum()
    variance = max(float(np.square(centred).sum(axis=1).mean()), 1e-12)
    every /= np.maximum(n_every, 1)[:, None] * variance
    across /= np.maximum(n_across, 1)[:, None] * variance
    largest, of_pairs = every.max(axis=0), across.max(axis=0)
    return LabelOrder(
        excess=tuple(every[:, 0].tolist()),
        above_shuffled=bool(largest[0] >= SMALLEST_EXCESS and largest[0] > largest[1:].max()),
        across_sets=float(of_pairs[0]) if of_pairs[0] > of_pairs[1:].max() else 0.0,
        switches=float(np.mean(switches)) if switches else 0.0,
    )


def _centred(labels: FloatArray) -> NDArray[np.float32]:
    """Labels less their means; unknown ones say nothing."""
    known = ~np.isnan(labels)
    total = np.where(known, labels, 0).sum(axis=0)
    return np.where(known, labels - total / np.maximum(known.sum(axis=0), 1), 0).astype(np.float32)


def _runs(run_key: Sequence[str], onset: FloatArray) -> Iterator[IntArray]:
    """Trials of each run in order of their onsets; long runs in pieces, and none of a single trial."""
    _, run = np.unique(np.asarray(run_key, dtype=str), return_inverse=True)
    order = np.lexsort((onset, run))
    for rows in np.split(order, np.flatnonzero(np.diff(run[order])) + 1):
        for start in range(0, len(rows), LONGEST_PIECE):
            piece = rows[start : start + LONGEST_PIECE]
            if len(piece) > 1:
                yield piece


def _crossing(rows: IntArray, lag: int, *, onset: FloatArray, test: BoolArray, other: BoolArray) -> BoolArray:
    """Pairs of neighbours of which one is tested and the other learnt from, close in time."""
    first, second = rows[:-lag], rows[lag:]
    close = onset[second] - onset[first] < GAP - 1e-6
    return np.asarray(close & ((test[first] & other[second]) | (other[first] & test[second])))
