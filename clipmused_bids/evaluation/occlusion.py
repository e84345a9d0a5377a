"""What a decoder loses when a region of the brain is knocked out: the drop of its average precision."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.evaluation.floors import random_average_precision
from clipmused_bids.evaluation.map_reliability import split_half, stimulus_halves
from clipmused_bids.evaluation.metrics import scorable
from clipmused_bids.records import BoolArray, FloatArray, IntArray

NAN = float("nan")


@dataclass(frozen=True)
class Occlusion:
    """Drops of one decoder's scores on one participant's test trials; means over folds where there are several.

    Parameters
    ----------
    drop : ndarray of shape (R,)
        Of mAP, by the region that is knocked out.
    of_label : ndarray of shape (R, C)
        Of each label's average precision; NaN where a label cannot be scored.
    top1 : ndarray of shape (R,)
        Of the share of trials whose label is the most probable one; NaN where trials have several labels.
    intact, floor : float
        mAP without any knock-out, and what a random ranking of the same trials is expected to reach.
    n_labels : int
        Labels that can be scored in some fold.
    split_half : float
        Reliability of ``drop`` over halves of the stimuli; NaN where it cannot be told.
    """

    drop: FloatArray
    of_label: FloatArray
    top1: FloatArray
    intact: float
    floor: float
    n_labels: int
    split_half: float


def occlusion(
    labels: FloatArray,
    probabilities: FloatArray,
    *,
    fold: IntArray,
    stimulus_id: Sequence[str],
    single_label: bool,
    seed: int,
) -> Occlusion:
    """Score trials with and without each region.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        1, 0, or NaN where unknown.
    probabilities : ndarray of shape (R + 1, n, C)
        The first without any knock-out; NaN for a label that the decoder of a trial's fold does not know.
    fold : ndarray of int, shape (n,)
        Decoder of each trial; ranks of trials are compared only where one decoder ranked them.
    stimulus_id : sequence of str, length n
    single_label : bool
    seed : int
        Of the halves.
    """
    halves = stimulus_halves(stimulus_id, seed=seed)
    selections = [np.ones(len(labels), dtype=bool), *(half for pair in halves for half in pair)]
    precision = np.stack(
        [_precisions_of_fold(labels, probabilities, fold == k, selections) for k in np.unique(fold)]
    )
    lost = precision[:, :, :1] - precision[:, :, 1:]
    maps = _mean_of_known(_mean_of_known(lost, axis=3), axis=0)
    of_label = _mean_of_known(lost[:, 0], axis=0)
    return Occlusion(
        drop=maps[0],
        of_label=of_label,
        top1=_top1_drop(labels, probabilities, fold) if single_label else np.full(len(maps[0]), NAN),
        intact=float(_mean_of_known(_mean_of_known(precision[:, 0, 0], axis=1), axis=0)),
        floor=_floor(labels, probabilities[0], fold),
        n_labels=int(np.isfinite(of_label).all(axis=0).sum()),
        split_half=split_half(maps[1::2], maps[2::2]) if halves else NAN,
    )


def average_precisions(truth: FloatArray, scores: FloatArray, selections: Sequence[BoolArray]) -> FloatArray:
    """Average precision of one label by many scores, in several selections of trials.

    Equal to scikit-learn's; the trials are sorted once for each score. Equal scores are one step.

    Parameters
    ----------
    truth : ndarray of shape (n,)
        1 or 0.
    scores : ndarray of shape (S, n)
    selections : sequence of ndarray of bool, each of shape (n,)

    Returns
    -------
    ndarray of shape (n_selections, S)
        NaN where a selection lacks positives or negatives.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, true = np.take_along_axis(scores, order, axis=1), truth[order]
    found = np.full((len(selections), len(scores)), NAN)
    for k, chosen in enumerate(selections):
        n_positive = truth[chosen].sum()
        if 0 < n_positive < chosen.sum():
            kept, shape = chosen[order], (len(scores), int(chosen.sum()))
            found[k] = _step_sums(true[kept].reshape(shape), ranked[kept].reshape(shape)) / n_positive
    return found


def _step_sums(truth: FloatArray, ranked: FloatArray) -> FloatArray:
    """Sum over positives of the precision at the end of their tie, (S,); scores fall along each row."""
    n = truth.shape[1]
    ends = np.ones_like(truth, dtype=bool)
    ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    place = np.where(ends, np.arange(n), n)
    end = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    through = np.take_along_axis(np.cumsum(truth, axis=1), end, axis=1)
    return np.asarray((truth * through / (end + 1)).sum(axis=1))


def _precisions_of_fold(
    labels: FloatArray, probabilities: FloatArray, mine: BoolArray, selections: Sequence[BoolArray]
) -> FloatArray:
    """Average precision of each label among the trials of a fold, (n_selections, R + 1, C)."""
    n_labels = labels.shape[1]
    found = np.full((len(selections), len(probabilities), n_labels), NAN)
    for c in range(n_labels):
        known = mine & ~np.isnan(labels[:, c]) & ~np.isnan(probabilities[0, :, c])
        if known.any():
            chosen = [selection[known] for selection in selections]
            found[:, :, c] = average_precisions(labels[known, c], probabilities[:, known, c], chosen)
    return found


def _floor(labels: FloatArray, probabilities: FloatArray, fold: IntArray) -> float:
    """Expected mAP of a random ranking, mean over labels and folds."""
    known = np.where(np.isnan(probabilities), NAN, labels)
    chances = np.full((len(np.unique(fold)), labels.shape[1]), NAN)
    for f, k in enumerate(np.unique(fold)):
        mine = known[fold == k]
        for c in np.flatnonzero(scorable(mine)):
            truth = mine[~np.isnan(mine[:, c]), c]
            chances[f, c] = random_average_precision(int(truth.sum()), len(truth))
    return float(_mean_of_known(_mean_of_known(chances, axis=1), axis=0))


def _top1_drop(labels: FloatArray, probabilities: FloatArray, fold: IntArray) -> FloatArray:
    """Drop of top-1, (R,); mean over folds."""
    rows = (np.nansum(labels, axis=1) == 1) & ~np.isnan(labels).any(axis=1)
    hits = np.where(np.isnan(probabilities), -np.inf, probabilities).argmax(axis=2) == labels.argmax(axis=1)
    means = [hits[:, rows & (fold == k)].mean(axis=1) for k in np.unique(fold[rows])]
    if not means:
        return np.full(len(probabilities) - 1, NAN)
    mean = np.mean(means, axis=0)
    return np.asarray(mean[0] - mean[1:])


def _mean_of_known(values: FloatArray, *, axis: int) -> FloatArray:
    with warnings.catch_warnings():
        # Of nothing: NaN, which is what is meant.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=axis))
