"""A new participant's own linear maps in native space: from voxels into features that others share already.

Shapes: n trials, V voxels, F shared features (K of each part), C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clipmused_bids.config import LabelLoss
from clipmused_bids.methods.own_scores import LinearScores, weighted_sum
from clipmused_bids.methods.ridge_solver import array_rows, fit_ridge, folds_of
from clipmused_bids.methods.stacking import mean_loss
from clipmused_bids.methods.template import Template
from clipmused_bids.records import FloatArray, IntArray, TrialData

Fit = Literal["ridge", "procrustes"]
FITS: tuple[Fit, ...] = ("ridge", "procrustes")

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
    weights : mapping of str to float
        Of the participant's own decoders and of ``shared``, the classifier that all share; empty without a readout.
    """

    maps: FloatArray
    readout: FloatArray | None
    offset: FloatArray | None
    features: FloatArray
    scores: FloatArray | None
    source: str
    weights: Mapping[str, float]


def fit_link(
    template: Template,
    data: TrialData,
    *,
    logits: Logits,
    own: Mapping[str, LinearScores],
    readout_weight: float | None,
    parts: Sequence[Part],
    alphas: tuple[float, ...],
    loss: LabelLoss,
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
        ``logits(features)``: the frozen decoder's logits (n, C) without a fixed readout.
    own : mapping of str to LinearScores
        Linear decoders of his own (``own_scores``), which are summed with the shared classifier.
    readout_weight : float or None
        Weight of the decoder's fixed readout; None where it has none.
    parts : sequence of (ndarray of int, slice)
        Voxels and features of each region; one part for all where there are no regions.
    alphas : tuple of float
        Penalties of ridges.
    loss : {"binary", "softmax"}
        L_c that the decoder was trained by: maps and weights are judged by it.

    Returns
    -------
    Link

    References
    ----------
    Chen et al. 2015 (Procrustes maps into shared features), A Reduced-Dimension fMRI Shared Response Model, NeurIPS.
    """
    x = np.asarray(data.read()[0], dtype=np.float64)
    can_choose = len(np.unique(data.group)) > 1
    best, least = None, np.inf
    for matched_by, targets in template.targets(data).items():
        for fit in FITS if can_choose else FITS[:1]:
            maps, held_out = _fit_maps(x, targets, data.group, fit=fit, parts=parts, alphas=alphas)
            maps, held_out = _as_spread(x, maps, held_out, template=template, parts=parts)
            source = f"{fit} to features matched by {matched_by}"
            link, found = _with_readout(
                Link(maps, None, None, held_out, None, source, {}),
                own, data, template=template, logits=logits, readout_weight=readout_weight, parts=parts, loss=loss,
            )  # fmt: skip
            if best is None or (can_choose and found < least):
                best, least = link, found
    assert best is not None
    return best


def apply_maps(x: FloatArray, maps: FloatArray, parts: Sequence[Part]) -> FloatArray:
    """Shared features (n, F) of responses (n, V)."""
    width = sum(features.stop - features.start for _, features in parts)
    out = np.zeros((len(x), width))
    for voxels, features in parts:
        out[:, features] = x[:, voxels] @ maps[voxels]
    return out


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
    own: Mapping[str, LinearScores],
    data: TrialData,
    *,
    template: Template,
    logits: Logits,
    readout_weight: float | None,
    parts: Sequence[Part],
    loss: LabelLoss,
) -> tuple[Link, float]:
    """Add the fixed readout, and tell the label loss of held-out trials."""
    net = logits(link.features)
    if readout_weight is None:
        return link, mean_loss(net, data.labels, loss=loss)
    every = {**own, "shared": _shared_scores(link, template, parts)}
    total, weights, value = weighted_sum(every, data, start=net, readout_weight=readout_weight, loss=loss)
    done = replace(link, readout=total.coef, offset=total.offset, scores=total.held_out, weights=weights)
    return done, value


def _shared_scores(link: Link, template: Template, parts: Sequence[Part]) -> LinearScores:
    """Scores of the classifier that all share, read through the participant's map."""
    p = template.frequency
    spread = p * (1 - p)
    through = np.zeros((len(link.maps), len(p)))
    for voxels, features in parts:
        through[voxels] = link.maps[voxels] @ template.classifier[features]
    return LinearScores(
        through / spread, (template.classifier[-1] - p) / spread, template.label_scores(link.features)
    )
