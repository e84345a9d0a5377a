"""Stacks of linear decoders: how well each predicts trials it has not seen decides what it counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax

from clipmused_bids.config import LabelLoss, VoxelWeights
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.base import label_frequency
from clipmused_bids.methods.linear_fit import (
    MOST_OPERATIONS,
    LinearFit,
    LinearMap,
    fit_each,
    fit_pooled,
    linear_map,
    operations,
    pooled_path,
    predict,
    sizes_of,
)
from clipmused_bids.methods.ridge_solver import folds_of, ridge_path, trial_rows
from clipmused_bids.methods.voxel_weights import label_weights, weighted
from clipmused_bids.records import BoolArray, FloatArray, IntArray, TrialData

logger = logging.getLogger(__name__)

# Of the weights: a standard deviation of 0.3 around equal ones that sum to 1.
PRIOR = 10.0

Maps = tuple[LinearMap, ...]
Candidates = Callable[[TrialData], list[Maps]]
Fit = Callable[..., LinearFit]


@dataclass(frozen=True)
class Member:
    """A linear decoder, and what it says of trials it has not seen.

    Parameters
    ----------
    maps : tuple of LinearMap
        One for each participant, to predictions of the labels.
    held_out : ndarray of shape (n, C)
        Prediction of each training trial by a fit without its group; NaN where there is none.
    """

    maps: Maps
    held_out: FloatArray


def fit_members(
    train: TrialData, *, alphas: tuple[float, ...], voxel_weights: VoxelWeights, loss: LabelLoss
) -> dict[str, Member]:
    """Fit the decoders that are stacked: ridge regressions.

    In native space each participant's own and (of several participants) a pooled one; in a common space of several
    participants pooled ones alone, so that one map serves all.

    Each reads the voxels as they are and, with ``voxel_weights``, weighted by what they have to say
    (``label_weights``). Weights are learnt from labels, and so is the first step of a pooled ridge in native space:
    held-out predictions need everything refitted without each fold. Where that is more than ``MOST_OPERATIONS``, the
    regressions of unweighted voxels alone are stacked, by the held-out predictions that come with their fits.

    Parameters
    ----------
    train : TrialData
    alphas : tuple of float
        Penalties of the ridge regressions.
    voxel_weights : {"none", "labels"}
    loss : {"binary", "softmax"}
        The labels' loss, which penalties are chosen by.
    """
    several = len(train.participants) > 1
    # In a common space one more participant costs tokens only, so one map serves all.
    kinds: dict[str, Fit] = {} if several and train.common_space else {"each": fit_each}
    if several:
        kinds["pooled"] = fit_pooled
    fold = folds_of(train.group)
    needed = refit_operations(train)
    if needed > MOST_OPERATIONS or len(np.unique(fold)) < 2:
        logger.info(
            "readout: no decoder is refitted for each fold (%.1g operations), so voxels are not weighted.",
            needed,
        )
        return {name: closed_form(train, fit(train, alphas=alphas)) for name, fit in kinds.items()}
    members = {}
    for name, path in (("each", _each), ("pooled", _pooled)):
        if name in kinds:
            members[name] = cross_fit(train, partial(path, alphas=alphas), fold=fold, loss=loss)
            if voxel_weights == "labels":
                fit = _of_weighted_voxels(partial(path, alphas=alphas))
                members[f"{name}, weighted"] = cross_fit(train, fit, fold=fold, loss=loss)
    return members


def refit_operations(train: TrialData) -> float:
    """Floating-point operations of refitting all weighted decoders, by the cubes of their Gram matrices."""
    sizes = sizes_of(train)
    if train.common_space and len(train.participants) > 1:
        sizes = [(train.n_trials, train.responses[0].n_voxels)] * 2
    else:
        sizes = sizes * 4
    n_folds = len(np.unique(folds_of(train.group)))
    return operations(sizes, n_fits=n_folds + 1)


def cross_fit(train: TrialData, fit: Candidates, *, fold: IntArray, loss: LabelLoss) -> Member:
    """Fit without each fold, predict it, and keep the candidate that predicts best once it is scaled (``stack``).

    Whatever ``fit`` learns is learnt without the fold that it predicts; which candidate is kept (a penalty, common
    to all participants) is chosen by these predictions themselves.

    Parameters
    ----------
    train : TrialData
    fit : callable
        ``fit(data)`` gives the same number of candidates for any part of the data.
    fold : ndarray of int, shape (n,)
        At least two folds.
    loss : {"binary", "softmax"}
    """
    predictions: list[FloatArray] = []
    with each_of(
        np.unique(fold).tolist(), "Linear decoders without each fold of the training trials", "fold"
    ) as folds:
        for number in folds:
            out = np.flatnonzero(fold == number)
            found = fit(train.subset(np.flatnonzero(fold != number)))
            if not predictions:
                predictions = [np.full(train.labels.shape, np.nan) for _ in found]
            for prediction, maps in zip(predictions, found, strict=True):
                prediction[out] = predict(maps, train.subset(out))
    losses = [stack([scores_of(one, train)], train, loss=loss).loss for one in predictions]
    best = int(np.argmin(losses))
    return Member(fit(train)[best], predictions[best])


@dataclass(frozen=True)
class Stack:
    """Weights (K,) of decoders, and the labels' loss of their sum, mean over known labels (or trials)."""

    weights: FloatArray
    loss: float


def stack(
    scores: Sequence[FloatArray], train: TrialData, *, loss: LabelLoss, start: FloatArray | None = None
) -> Stack:
    """Weigh decoders, none negatively, so that the sum of their scores predicts held-out labels best.

    Minimises over ``w >= 0`` the labels' loss, summed, of the logits ``start + sum_k w_k s_k``, plus
    ``PRIOR / 2 || w - 1/K ||^2``: with few trials, decoders count alike and as much as they say themselves. So they do
    where all trials are one group, and nothing can be held out fairly.

    Parameters
    ----------
    scores : sequence of K ndarray, each of shape (n, C)
        Held-out scores of the training trials (``scores_of``).
    train : TrialData
        Its labels are read.
    loss : {"binary", "softmax"}
    start : ndarray of shape (n, C), optional
        Logits that the scores are added to; ``prior_logits`` otherwise.

    References
    ----------
    Breiman 1996, Stacked regressions, doi:10.1007/BF00117832; van der Laan, Polley, Hubbard 2007, Super learner,
    doi:10.2202/1544-6115.1309.
    """
    usable, truth, counted, n_terms = _counted(train.labels, loss=loss)
    equal = np.full(len(scores), 1 / len(scores))
    if n_terms == 0:
        return Stack(equal, float("nan"))
    each = np.stack([score[usable] for score in scores])
    first = prior_logits(train, loss=loss) if start is None else start[usable]

    def of_weights(weights: FloatArray) -> tuple[float, FloatArray]:
        value, slope = _summed_loss(first + np.tensordot(weights, each, axes=1), truth, counted, loss=loss)
        away = weights - equal
        value += float(PRIOR / 2 * away @ away)
        return value / n_terms, (np.tensordot(each, slope, axes=2) + PRIOR * away) / n_terms

    if len(np.unique(train.group)) < 2:
        # Parts of a single run hold out conditions that the rest may never show: they say nothing of weights.
        return Stack(equal, float(of_weights(equal)[0]))
    found = minimize(of_weights, equal, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(scores))
    return Stack(np.asarray(found.x), float(found.fun))


def mean_loss(logits: FloatArray, labels: FloatArray, *, loss: LabelLoss) -> float:
    """Loss of labels (n, C) given logits (n, C), mean over known labels (``softmax``: trials); NaN without any."""
    usable, truth, counted, n_terms = _counted(labels, loss=loss)
    if n_terms == 0:
        return float("nan")
    return _summed_loss(logits[usable], truth, counted, loss=loss)[0] / n_terms


def _counted(labels: FloatArray, *, loss: LabelLoss) -> tuple[BoolArray, FloatArray, BoolArray, int]:
    """Rows that count, their labels and which of these are known, and the number of terms of the loss."""
    known = ~np.isnan(labels)
    usable = np.asarray(known.all(axis=1) if loss == "softmax" else known.any(axis=1))
    truth, counted = np.nan_to_num(labels[usable]).astype(np.float64), known[usable]
    return usable, truth, counted, len(truth) if loss == "softmax" else int(counted.sum())


def _summed_loss(
    logits: FloatArray, truth: FloatArray, counted: BoolArray, *, loss: LabelLoss
) -> tuple[float, FloatArray]:
    """Sum of the labels' loss, and its gradient by the logits."""
    if loss == "softmax":
        log_probability = log_softmax(logits, axis=1)
        return float(-(truth * log_probability).sum()), np.exp(log_probability) - truth
    terms = -(truth * log_expit(logits) + (1 - truth) * log_expit(-logits))
    return float(terms[counted].sum()), (expit(logits) - truth) * counted


def scores_of(
    predictions: FloatArray, train: TrialData, *, frequency: FloatArray | None = None
) -> FloatArray:
    """Scores (n, C) of predictions of labels: less the label's frequency p, over p (1 - p); 0 where unknown.

    That is the slope of the log-odds at p, so that scores of rare and frequent labels are of one size. ``frequency``
    (C,) stands in for that of the training trials.
    """
    frequency = bounded_frequency(train) if frequency is None else frequency
    return np.asarray(np.nan_to_num((predictions - frequency) / (frequency * (1 - frequency))))


def prior_logits(train: TrialData, *, loss: LabelLoss) -> FloatArray:
    """Logits (C,) that say the labels' frequencies: log-odds, or log-probabilities for ``softmax``."""
    frequency = bounded_frequency(train)
    return np.asarray(np.log(frequency) if loss == "softmax" else np.log(frequency / (1 - frequency)))


def bounded_frequency(train: TrialData) -> FloatArray:
    """Label frequencies, none nearer to 0 or 1 than one trial in twice as many."""
    smallest = 1 / (2 * train.n_trials)
    return np.clip(label_frequency(train.labels), smallest, 1 - smallest)


def closed_form(train: TrialData, fit: LinearFit) -> Member:
    """Read a fit with its own held-out predictions as a member."""
    one = fit.maps.get("")
    return Member(tuple(fit.maps[name] if one is None else one for name in train.participants), fit.held_out)


def _each(train: TrialData, *, alphas: tuple[float, ...]) -> list[Maps]:
    """Each participant's own ridge at each penalty; around the label frequencies of all participants.

    A participant's own frequencies would say little but which trials happen to be held out.
    """
    frequency = label_frequency(train.labels)
    paths = []
    for p, name in enumerate(train.participants):
        labels = train.labels[train.participant == p]
        shift = frequency - label_frequency(labels, fallback=frequency)
        path = ridge_path(trial_rows(train.of_participant(name)), labels, alphas=alphas)
        maps = [linear_map(*one, frequency=frequency) for one in path]
        paths.append([LinearMap(one.coef, one.intercept + shift) for one in maps])
    return [tuple(path[a] for path in paths) for a in range(len(alphas))]


def _pooled(train: TrialData, *, alphas: tuple[float, ...]) -> list[Maps]:
    """One ridge of all participants at each penalty; in native space at each penalty of its second step."""
    frequency = label_frequency(train.labels)
    if train.common_space:
        path = ridge_path(trial_rows(train), train.labels, alphas=alphas)
        return [(linear_map(*one, frequency=frequency),) * len(train.participants) for one in path]
    return [tuple(maps[name] for name in train.participants) for maps in pooled_path(train, alphas=alphas)]


def _of_weighted_voxels(fit: Candidates) -> Candidates:
    """Let a fit read weighted voxels; its maps are of the voxels as they are."""

    def weighted_fit(train: TrialData) -> list[Maps]:
        weights = label_weights(train)
        return [
            tuple(
                LinearMap(weight[:, None] * one.coef, one.intercept)
                for one, weight in zip(maps, weights, strict=True)
            )
            for maps in fit(weighted(train, weights))
        ]

    return weighted_fit
