"""Where the decoder's linear maps start: fitted to the training trials, before the training itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from clipmused_bids.config import ModelOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.roi import AlignedFeatures, OwnRegionPatches, SharedRegionPatches
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.alignment import align, name_of_targets, semantic_targets, voxels_of
from clipmused_bids.methods.ridge_solver import fit_ridge, trial_rows
from clipmused_bids.methods.voxel_weights import label_weights, weighted
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
    weights: list[FloatArray] = [np.ones(table.n_voxels) for table in train.responses]
    if options.voxel_weights == "labels":
        weights = list(label_weights(train))
        train = weighted(train, weights)
    if isinstance(patches, SharedRegionPatches):
        _start_shared_regions(patches, train, region=regions[0], weight=weights[0], alphas=alphas, seed=seed)
        return f"ridge to {name_of_targets(train)}"
    if isinstance(patches, AlignedFeatures):
        alignment = align(train, how=options.alignment, n_shared=options.n_shared, alphas=alphas, seed=seed)
        patches.start_from(_of_voxels(alignment.maps, weights))
        return alignment.source
    maps = [np.zeros((table.n_voxels, options.n_shared), dtype=np.float32) for table in train.responses]
    sources = set()
    with each_of(range(patches.n_patches), "Starts of the maps of each region", "region") as numbers:
        for r in numbers:
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
    patches.start_from(_of_voxels(maps, weights))
    return "; ".join(sorted(sources))


def _of_voxels(maps: Sequence[FloatArray], weights: Sequence[FloatArray]) -> list[FloatArray]:
    """Maps of weighted voxels as maps of the voxels."""
    return [
        np.asarray(weight[:, None] * one, dtype=np.float32) for one, weight in zip(maps, weights, strict=True)
    ]


def _start_shared_regions(
    patches: SharedRegionPatches,
    train: TrialData,
    *,
    region: IntArray,
    weight: FloatArray,
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
    patches.maps.start_from(_of_voxels([maps], [weight])[0])
