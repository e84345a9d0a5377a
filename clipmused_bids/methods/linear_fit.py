"""Ridge regressions of one participant each, or of all together; with held-out predictions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.long_work import each_of
from clipmused_bids.methods.alignment import semantic_targets
from clipmused_bids.methods.base import label_frequency
from clipmused_bids.methods.ridge_solver import (
    RidgeFit,
    array_rows,
    fit_ridge,
    folds_of,
    ridge_path,
    trial_rows,
)
from clipmused_bids.records import FloatArray, TrialData

logger = logging.getLogger(__name__)

# About an hour of one core: refitting a decoder for each fold is left out beyond it.
MOST_OPERATIONS = 2e14


@dataclass(frozen=True)
class LinearMap:
    """``x @ coef + intercept``: (V, C) and (C,)."""

    coef: FloatArray
    intercept: FloatArray


@dataclass(frozen=True)
class LinearFit:
    """Linear maps of participants, or of all.

    Parameters
    ----------
    maps : mapping of str to LinearMap
        By participant; "" for one map of all.
    alpha : mapping of str to float
        Chosen penalties, by participant; ``all`` for one of all.
    held_out : ndarray of shape (n_trials, C)
        Predictions of the training trials by fits without their fold; NaN where the label is unknown.
    """

    maps: Mapping[str, LinearMap]
    alpha: Mapping[str, float]
    held_out: FloatArray


def fit_each(train: TrialData, *, alphas: tuple[float, ...]) -> LinearFit:
    """Fit each participant alone."""
    fits, held_out = _each(train, train.labels, alphas=alphas)
    frequency = label_frequency(train.labels)
    return LinearFit(
        maps={name: _map(fit, frequency=frequency) for name, fit in fits.items()},
        alpha={name: fit.alpha for name, fit in fits.items()},
        held_out=held_out,
    )


def fit_pooled(train: TrialData, *, alphas: tuple[float, ...]) -> LinearFit:
    """Fit all participants together.

    In a common space one map reads the voxels. In native space there are two steps, ``pooled_path``. There the first
    step reads labels too: its held-out prediction of one trial knows the labels of all others, so a second step that
    leaves those others out in closed form still sees them, and trusts the first too much. Its penalty is chosen, and
    the held-out predictions are made, by refitting both steps without each fold. Where that is more than
    ``MOST_OPERATIONS`` the closed form stays, whose leak shrinks with the number of trials.
    """
    frequency = label_frequency(train.labels)
    if train.common_space:
        fit = fit_ridge(trial_rows(train), train.labels, group=train.group, alphas=alphas)
        return LinearFit({"": _map(fit, frequency=frequency)}, {"all": fit.alpha}, fit.held_out)
    own, features = _predicted_targets(train, alphas=alphas)
    needed, n_folds = _refit_operations(train), len(np.unique(folds_of(train.group)))
    if needed > MOST_OPERATIONS or n_folds < 2:
        logger.info("pooled ridge: nothing is refitted for each fold (%.1g operations).", needed)
        fit = fit_ridge(array_rows(features), train.labels, group=train.group, alphas=alphas)
        alpha, held_out, last = fit.alpha, fit.held_out, _map(fit, frequency=frequency)
    else:
        alpha, held_out = _nested(train, alphas=alphas)
        (one,) = ridge_path(array_rows(features), train.labels, alphas=(alpha,))
        last = linear_map(*one, frequency=frequency)
    chosen = {name: fit.alpha for name, fit in own.items()} | {"all": alpha}
    return LinearFit(_products(own, last), chosen, held_out)


def pooled_path(train: TrialData, *, alphas: tuple[float, ...]) -> list[dict[str, LinearMap]]:
    """Fit the pooled ridge of native space at each penalty of its second step; none is chosen.

    First each participant's own ridge predicts semantic targets. Then one map for all reads the predictions of
    held-out trials, so that it learns how far each target can be trusted; the product is each participant's map.
    """
    frequency = label_frequency(train.labels)
    own, features = _predicted_targets(train, alphas=alphas)
    path = ridge_path(array_rows(features), train.labels, alphas=alphas)
    return [_products(own, linear_map(*one, frequency=frequency)) for one in path]


def predict(maps: Sequence[LinearMap], data: TrialData) -> FloatArray:
    """Predictions (n, C) of all trials, in the order of ``data``; a map for each participant."""
    out = np.empty(data.labels.shape)
    for p, (name, one) in enumerate(zip(data.participants, maps, strict=True)):
        mine = np.flatnonzero(data.participant == p)
        rows = trial_rows(data.of_participant(name))
        for place, block in rows.blocks(np.arange(len(mine))):
            out[mine[place]] = block @ one.coef + one.intercept
    return out


def operations(sizes: Sequence[tuple[int, int]], *, n_fits: int) -> float:
    """Operations of ridge regressions of (trials, voxels): a Gram matrix and its eigendecomposition each."""
    return float(n_fits * sum(n * v * min(n, v) + 9 * min(n, v) ** 3 for n, v in sizes))


def sizes_of(train: TrialData) -> list[tuple[int, int]]:
    """Trials and voxels of each participant."""
    return [(int((train.participant == p).sum()), table.n_voxels) for p, table in enumerate(train.responses)]


def _refit_operations(train: TrialData) -> float:
    return operations(sizes_of(train), n_fits=len(np.unique(folds_of(train.group))))


def _nested(train: TrialData, *, alphas: tuple[float, ...]) -> tuple[float, FloatArray]:
    """Choose the second step's penalty by predictions of trials that neither step has seen, and return these."""
    fold = folds_of(train.group)
    predictions = np.empty((len(alphas), *train.labels.shape))
    with each_of(np.unique(fold).tolist(), "Ridge without each fold of the training trials", "fold") as folds:
        for number in folds:
            out = np.flatnonzero(fold == number)
            rest, held = train.subset(np.flatnonzero(fold != number)), train.subset(out)
            for a, maps in enumerate(pooled_path(rest, alphas=alphas)):
                predictions[a, out] = predict([maps[name] for name in train.participants], held)
    errors = np.nanmean(np.square(predictions - train.labels), axis=(1, 2))
    best = int(np.argmin(errors))
    return alphas[best], np.where(np.isnan(train.labels), np.nan, predictions[best])


def _predicted_targets(
    train: TrialData, *, alphas: tuple[float, ...]
) -> tuple[dict[str, RidgeFit], FloatArray]:
    own, held_out = _each(train, semantic_targets(train), alphas=alphas)
    return own, np.nan_to_num(held_out)


def _products(own: Mapping[str, RidgeFit], last: LinearMap) -> dict[str, LinearMap]:
    return {
        name: LinearMap(fit.coef @ last.coef, np.nan_to_num(fit.intercept) @ last.coef + last.intercept)
        for name, fit in own.items()
    }


def _each(
    train: TrialData, targets: FloatArray, *, alphas: tuple[float, ...]
) -> tuple[dict[str, RidgeFit], FloatArray]:
    fits = {}
    held_out = np.full(targets.shape, np.nan)
    with each_of(train.participants, "Ridge of each participant", "participant") as people:
        for p, name in enumerate(people):
            mine = train.participant == p
            one = train.of_participant(name)
            fits[name] = fit_ridge(trial_rows(one), targets[mine], group=one.group, alphas=alphas)
            held_out[mine] = fits[name].held_out
    return fits, held_out


def _map(fit: RidgeFit, *, frequency: FloatArray) -> LinearMap:
    return linear_map(fit.coef, fit.intercept, frequency=frequency)


def linear_map(
    coef: FloatArray, intercept: FloatArray, *, frequency: FloatArray, weight: FloatArray | None = None
) -> LinearMap:
    """Join what a regression of (weighted) voxels found to a map of the voxels; weights are (V,)."""
    coef = coef if weight is None else weight[:, None] * coef
    # A label that is never known here gets its frequency among all.
    return LinearMap(coef, np.where(np.isnan(intercept), frequency, intercept))
