"""Ridge regressions of one participant each, or of all together; with held-out predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipmused_bids.methods.alignment import semantic_targets
from clipmused_bids.methods.base import label_frequency
from clipmused_bids.methods.ridge_solver import RidgeFit, array_rows, fit_ridge, trial_rows
from clipmused_bids.records import FloatArray, TrialData


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

    In a common space one map reads the voxels. In native space one map reads the semantic targets that each
    participant's own ridge predicts; it is fitted to held-out predictions, so that it learns how far each target
    can be trusted, and the product of both is each participant's map.
    """
    frequency = label_frequency(train.labels)
    if train.common_space:
        fit = fit_ridge(trial_rows(train), train.labels, group=train.group, alphas=alphas)
        return LinearFit({"": _map(fit, frequency=frequency)}, {"all": fit.alpha}, fit.held_out)
    own, held_out = _each(train, semantic_targets(train), alphas=alphas)
    shared = fit_ridge(array_rows(np.nan_to_num(held_out)), train.labels, group=train.group, alphas=alphas)
    last = _map(shared, frequency=frequency)
    maps = {
        name: LinearMap(fit.coef @ last.coef, np.nan_to_num(fit.intercept) @ last.coef + last.intercept)
        for name, fit in own.items()
    }
    alpha = {name: fit.alpha for name, fit in own.items()} | {"all": shared.alpha}
    return LinearFit(maps, alpha, shared.held_out)


def _each(
    train: TrialData, targets: FloatArray, *, alphas: tuple[float, ...]
) -> tuple[dict[str, RidgeFit], FloatArray]:
    fits = {}
    held_out = np.full(targets.shape, np.nan)
    for p, name in enumerate(train.participants):
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
