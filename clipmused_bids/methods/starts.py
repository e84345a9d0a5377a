"""Where the decoder's linear maps start: fitted to the training trials, before the training itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from clipmused_bids.config import ModelOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import AlignedFeatures, OwnRegionPatches, SharedRegionPatches
from clipmused_bids.methods.alignment import align, name_of_targets, semantic_targets, voxels_of
from clipmused_bids.methods.base import label_frequency
from clipmused_bids.methods.linear_fit import LinearFit, fit_each, fit_pooled
from clipmused_bids.methods.ridge_solver import fit_ridge, trial_rows
from clipmused_bids.records import FloatArray, IntArray, TrialData

logger = logging.getLogger(__name__)


def start_maps(
    model: Network,
    train: TrialData,
    *,
    regions: Sequence[IntArray],
    options: ModelOptions,
    alphas: tuple[float, ...],
    seed: int,
) -> str:
    """Start the maps from voxels to patches from the training trials.

    Parameters
    ----------
    model : Network
        Changed in place.
    train : TrialData
        Training trials.
    regions : sequence of ndarray of int
        Region of each voxel: one array for all, or one for each participant.
    options : ModelOptions
        ``alignment`` and ``n_shared`` are read.
    alphas : tuple of float
        Penalties of ridge regressions.
    seed : int

    Returns
    -------
    str
        What they were fitted to; ``random`` where they keep their random start.
    """
    patches = model.patches
    if options.alignment == "random" or not isinstance(
        patches, AlignedFeatures | OwnRegionPatches | SharedRegionPatches
    ):
        return "random"
    if isinstance(patches, SharedRegionPatches):
        _start_shared_regions(patches, train, region=regions[0], alphas=alphas, seed=seed)
        return f"ridge to {name_of_targets(train)}"
    if isinstance(patches, AlignedFeatures):
        alignment = align(train, how=options.alignment, n_shared=options.n_shared, alphas=alphas, seed=seed)
        patches.start_from(alignment.maps)
        return alignment.source
    maps = [np.zeros((table.n_voxels, options.n_shared), dtype=np.float32) for table in train.responses]
    sources = set()
    for r in range(patches.n_patches):
        columns = [np.flatnonzero(region == r) for region in regions]
        if min(len(chosen) for chosen in columns) == 0:
            logger.warning("patches: region %d is empty in a participant.", r)
            continue
        alignment = align(
            voxels_of(train, columns),
            how=options.alignment,
            n_shared=options.n_shared,
            alphas=alphas,
            seed=seed + r,
        )
        sources.add(alignment.source)
        for one, chosen, found in zip(maps, columns, alignment.maps, strict=True):
            one[chosen] = found
    patches.start_from(maps)
    return "; ".join(sorted(sources))


def _start_shared_regions(
    patches: SharedRegionPatches,
    train: TrialData,
    *,
    region: IntArray,
    alphas: tuple[float, ...],
    seed: int,
) -> None:
    """Start each region's map from a ridge to the semantic targets, along random directions of the D."""
    generator = np.random.default_rng(seed)
    targets = semantic_targets(train)
    maps = np.zeros((len(region), patches.maps.weight.shape[1]), dtype=np.float32)
    for r in range(patches.n_patches):
        chosen = np.flatnonzero(region == r)
        if len(chosen) == 0:
            continue
        part = voxels_of(train, [chosen] * len(train.participants))
        fit = fit_ridge(trial_rows(part), targets, group=train.group, alphas=alphas)
        mixed = fit.coef @ generator.standard_normal((fit.coef.shape[1], maps.shape[1]))
        spread = np.concatenate([x @ mixed for x in part.read()]).std()
        maps[chosen] = mixed / max(spread, 1e-8)
    patches.maps.start_from(maps)


def start_bias(model: Network, train: TrialData) -> None:
    """Start the classifier's bias at the labels' log-odds."""
    frequency = bounded_frequency(train)
    model.start_at(torch.as_tensor(np.log(frequency / (1 - frequency)), dtype=torch.float32))


def bounded_frequency(train: TrialData) -> FloatArray:
    """Label frequencies, none nearer to 0 or 1 than one trial in twice as many."""
    smallest = 1 / (2 * train.n_trials)
    return np.clip(label_frequency(train.labels), smallest, 1 - smallest)


def start_readout(model: Network, train: TrialData, *, alphas: tuple[float, ...]) -> FloatArray | None:
    """Fit the fixed readout of a model that has one.

    In a common space it is one ridge for all. In native space it is each participant's own ridge or the pooled one
    over aligned participants, whichever predicts held-out training trials better. A score is the ridge's
    prediction less the label's frequency p, over p (1 - p): the slope of the log-odds at p, so that scores of rare
    and frequent labels are of one size.

    Returns
    -------
    ndarray of shape (n_trials, C) or None
        Scores of the training trials by fits without their fold: what the readout says of unseen trials.
    """
    if not isinstance(model.readout, FixedReadout):
        return None
    fit = fit_pooled(train, alphas=alphas)
    if not train.common_space:
        each = fit_each(train, alphas=alphas)
        own_is_better = _held_out_error(each, train) < _held_out_error(fit, train)
        logger.info("readout: %s ridge.", "each participant's own" if own_is_better else "pooled")
        fit = each if own_is_better else fit
    frequency = bounded_frequency(train)
    spread = frequency * (1 - frequency)
    scores = np.nan_to_num((fit.held_out - frequency) / spread)
    maps = list(fit.maps.values())
    model.readout.start_from(
        [one.coef / spread for one in maps],
        [(one.intercept - frequency) / spread for one in maps],
        weight=_best_weight(scores, train.labels, frequency=frequency),
    )
    return np.asarray(scores)


def _held_out_error(fit: LinearFit, train: TrialData) -> float:
    return float(np.nanmean(np.square(fit.held_out - train.labels)))


def _best_weight(scores: FloatArray, labels: FloatArray, *, frequency: FloatArray) -> float:
    """Weight of the scores, in [0, 10], that predicts held-out labels best in the sense of L_c."""
    known = ~np.isnan(labels)
    log_odds = np.broadcast_to(np.log(frequency / (1 - frequency)), labels.shape)[known]
    sign = np.where(labels[known] > 0.5, -1.0, 1.0)

    def loss(weight: float) -> float:
        return float(np.logaddexp(0.0, sign * (log_odds + weight * scores[known])).mean())

    return float(minimize_scalar(loss, bounds=(0.0, 10.0), method="bounded").x)
