"""A new participant's own linear maps in native space: from voxels into features that others share already.

Shapes: n trials, V voxels, F shared features (K of each part), C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from clipmused_bids.methods.ridge_solver import array_rows, fit_ridge, folds_of
from clipmused_bids.methods.template import Template
from clipmused_bids.records import FloatArray, IntArray, TrialData

Fit = Literal["ridge", "procrustes"]
FITS: tuple[Fit, ...] = ("ridge", "procrustes")
# Held-out trials are few, and weights that nothing speaks for should stay near these.
EVEN = (0.5, 0.5)
WEIGHT_PRIOR = 0.1
MOST_WEIGHT = 10.0

Logits = Callable[[FloatArray], FloatArray]
Part = tuple[IntArray, slice]


@dataclass(frozen=True)
class Link:
    """What was fitted to a new participant's trials, and what it says of trials it was not fitted to.

    Parameters
    ----------
    maps : ndarray of shape (V, K)
        Own linear map; each region's voxels into the K features of the region.
    readout, offset : ndarray of shape (V, C) and (C,), or None
        Scores of a fixed readout; None where the decoder has none.
    features : ndarray of shape (n, F)
        Shared features of each trial by a map that was fitted without the trial's fold.
    scores : ndarray of shape (n, C) or None
        Scores of the readout, fitted without the trial's fold.
    source : str
        What the map was fitted to, in words.
    weights : tuple of float
        Of the participant's own ridge and of the classifier that all share.
    """

    maps: FloatArray
    readout: FloatArray | None
    offset: FloatArray | None
    features: FloatArray
    scores: FloatArray | None
    source: str
    weights: tuple[float, float]


def fit_link(
    template: Template,
    data: TrialData,
    *,
    logits: Logits,
    readout_weight: float | None,
    parts: Sequence[Part],
    alphas: tuple[float, ...],
) -> Link:
    """Fit a new participant's maps to the features that his trials should have, as the template knows them.

    Ridge regressions and Procrustes rotations to each kind of target compete; the frozen decoder's label loss on
    held-out trials (groups are left out) decides. Every feature is scaled to the spread it has among the known
    participants. With a single group nothing can be held out fairly: a label that is shown once is unknown to
    whatever is fitted without it. The ridge to the means of stimuli and even weights are taken then.

    Parameters
    ----------
    template : Template
    data : TrialData
        Training trials of one participant.
    logits : callable
        ``logits(features)``: the frozen decoder's log-odds (n, C) without a fixed readout.
    readout_weight : float or None
        Weight of the decoder's fixed readout; None where it has none.
    parts : sequence of (ndarray of int, slice)
        Voxels and features of each region; one part for all where there are no regions.
    alphas : tuple of float
        Penalties of ridges.

    Returns
    -------
    Link

    References
    ----------
    Chen et al. 2015 (Procrustes maps into shared features), A Reduced-Dimension fMRI Shared Response Model, NeurIPS.
    """
    x = np.asarray(data.read()[0], dtype=np.float64)
    can_choose = len(np.unique(data.group)) > 1
    own = None if readout_weight is None else _OwnRidge.fit(x, data, template=template, alphas=alphas)
    best, least = None, np.inf
    for matched_by, targets in template.targets(data).items():
        for fit in FITS if can_choose else FITS[:1]:
            maps, held_out = _fit_maps(x, targets, data.group, fit=fit, parts=parts, alphas=alphas)
            maps, held_out = _as_spread(x, maps, held_out, template=template, parts=parts)
            source = f"{fit} to features matched by {matched_by}"
            link, loss = _with_readout(
                Link(maps, None, None, held_out, None, source, (0.0, 0.0)),
                own, data.labels, template=template, logits=logits, readout_weight=readout_weight, parts=parts,
                choose=can_choose,
            )  # fmt: skip
            if best is None or (can_choose and loss < least):
                best, least = link, loss
    assert best is not None
    return best


def apply_maps(x: FloatArray, maps: FloatArray, parts: Sequence[Part]) -> FloatArray:
    """Shared features (n, F) of responses (n, V)."""
    width = sum(features.stop - features.start for _, features in parts)
    out = np.zeros((len(x), width))
    for voxels, features in parts:
        out[:, features] = x[:, voxels] @ maps[voxels]
    return out


@dataclass(frozen=True)
class _OwnRidge:
    """Label scores of a ridge of the participant's own: map, offset, and held out."""

    coef: FloatArray
    offset: FloatArray
    held_out: FloatArray

    @classmethod
    def fit(
        cls, x: FloatArray, data: TrialData, *, template: Template, alphas: tuple[float, ...]
    ) -> _OwnRidge:
        p = template.frequency
        spread = p * (1 - p)
        fit = fit_ridge(
            array_rows(x), np.asarray(data.labels, dtype=np.float64), group=data.group, alphas=alphas
        )
        intercept = np.where(np.isnan(fit.intercept), p, fit.intercept)
        return cls(fit.coef / spread, (intercept - p) / spread, np.nan_to_num((fit.held_out - p) / spread))


def _fit_maps(
    x: FloatArray,
    targets: FloatArray,
    group: IntArray,
    *,
    fit: Fit,
    parts: Sequence[Part],
    alphas: tuple[float, ...],
) -> tuple[FloatArray, FloatArray]:
    """Map (V, K) and held-out features (n, F); no intercept, since responses are standardised."""
    width = parts[0][1].stop - parts[0][1].start
    maps = np.zeros((x.shape[1], width))
    held_out = np.zeros(targets.shape)
    for voxels, features in parts:
        if len(voxels) == 0:
            continue
        chosen = x[:, voxels]
        if fit == "ridge":
            found = fit_ridge(array_rows(chosen), targets[:, features], group=group, alphas=alphas)
            maps[voxels] = found.coef
            held_out[:, features] = found.held_out - _mean_without_fold(targets[:, features], group)
        else:
            maps[voxels] = _procrustes(chosen, targets[:, features])
            for rows in _folds(group):
                others = np.setdiff1d(np.arange(len(x)), rows)
                held_out[rows, features] = chosen[rows] @ _procrustes(
                    chosen[others], targets[others, features]
                )
    return maps, held_out


def _procrustes(x: FloatArray, targets: FloatArray) -> FloatArray:
    """``U V'`` of the singular value decomposition of ``X' T``, in the directions that the trials determine."""
    centred = targets - targets.mean(axis=0)
    left, values, right = np.linalg.svd((x - x.mean(axis=0)).T @ centred, full_matrices=False)
    kept = values > 1e-6 * max(values[0], 1e-12)
    return np.asarray(left[:, kept] @ right[kept])


def _mean_without_fold(targets: FloatArray, group: IntArray) -> FloatArray:
    mean = np.zeros(targets.shape)
    for rows in _folds(group):
        mean[rows] = np.delete(targets, rows, axis=0).mean(axis=0)
    return mean


def _folds(group: IntArray) -> Iterator[IntArray]:
    fold = folds_of(group)
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        if len(rows) < len(fold):
            yield rows


def _as_spread(
    x: FloatArray, maps: FloatArray, held_out: FloatArray, *, template: Template, parts: Sequence[Part]
) -> tuple[FloatArray, FloatArray]:
    """Scale each feature to its spread among the known participants; held-out features by the same factor."""
    found = apply_maps(x, maps, parts).std(axis=0)
    factor = np.where(found > 1e-8, template.spread / np.maximum(found, 1e-8), 0.0)
    scaled = maps.copy()
    for voxels, features in parts:
        scaled[voxels] = maps[voxels] * factor[features]
    return scaled, held_out * factor


def _with_readout(
    link: Link,
    own: _OwnRidge | None,
    labels: FloatArray,
    *,
    template: Template,
    logits: Logits,
    readout_weight: float | None,
    parts: Sequence[Part],
    choose: bool,
) -> tuple[Link, float]:
    """Add the fixed readout, and tell the label loss of held-out trials."""
    net = logits(link.features)
    if own is None or readout_weight is None:
        return link, _loss(net, labels)
    shared = template.label_scores(link.features)
    weights = EVEN
    if choose:
        weights = _best_weights(net, readout_weight * own.held_out, readout_weight * shared, labels)
    scores = weights[0] * own.held_out + weights[1] * shared
    scale = weights[1] / (template.frequency * (1 - template.frequency))
    through = np.zeros(own.coef.shape)
    for voxels, features in parts:
        through[voxels] = link.maps[voxels] @ template.classifier[features]
    done = Link(
        maps=link.maps,
        readout=weights[0] * own.coef + through * scale,
        offset=weights[0] * own.offset + scale * (template.classifier[-1] - template.frequency),
        features=link.features,
        scores=scores,
        source=link.source,
        weights=weights,
    )
    return done, _loss(net + readout_weight * scores, labels)


def _best_weights(
    net: FloatArray, own: FloatArray, shared: FloatArray, labels: FloatArray
) -> tuple[float, float]:
    """Weights of both scores that predict held-out labels best in the sense of L_c, drawn a little to even ones."""

    def objective(weights: FloatArray) -> float:
        distance = float(np.square(weights - np.array(EVEN)).sum())
        prior = WEIGHT_PRIOR * distance / len(labels)
        return _loss(net + weights[0] * own + weights[1] * shared, labels) + prior

    found = minimize(objective, np.array(EVEN), bounds=[(0.0, MOST_WEIGHT)] * 2, method="L-BFGS-B")
    return float(found.x[0]), float(found.x[1])


def _loss(logits: FloatArray, labels: FloatArray) -> float:
    known = ~np.isnan(labels)
    sign = np.where(labels[known] > 0.5, -1.0, 1.0)
    return float(np.logaddexp(0.0, sign * logits[known]).mean())
