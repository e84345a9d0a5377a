"""Bringing people whose voxels do not correspond into shared features; fitted on training trials only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clipmused_bids.methods.matching import shared_rows
from clipmused_bids.methods.ridge_solver import fit_ridge, trial_rows
from clipmused_bids.records import FloatArray, IntArray, TrialData

logger = logging.getLogger(__name__)

How = Literal["auto", "srm", "ridge", "random"]
SRM_ITERATIONS = 20


def shared_response_model(
    responses: Sequence[FloatArray], *, n_shared: int, seed: int, iterations: int = SRM_ITERATIONS
) -> list[FloatArray]:
    """Orthogonal maps of each participant into shared features (deterministic SRM).

    Minimises ``sum_n || X_n - S W_n' ||_F^2`` with ``W_n' W_n = I`` by turns: ``S = mean_n X_n W_n``, then
    ``W_n = U V'`` of the singular value decomposition of ``X_n' S`` (Procrustes).

    Parameters
    ----------
    responses : sequence of ndarray, each of shape (n_rows, n_voxels_n)
        Matched rows; columns are centred here.
    n_shared : int
        K; at most the smallest number of voxels.
    seed : int
        Of the random orthogonal start.

    Returns
    -------
    list of ndarray, each of shape (n_voxels_n, K)

    References
    ----------
    Chen et al. 2015, A Reduced-Dimension fMRI Shared Response Model, NeurIPS.
    """
    generator = np.random.default_rng(seed)
    centred = [x - x.mean(axis=0) for x in responses]
    maps = [np.linalg.qr(generator.standard_normal((x.shape[1], n_shared)))[0] for x in centred]
    for _ in range(iterations):
        shared = np.mean([x @ w for x, w in zip(centred, maps, strict=True)], axis=0)
        maps = [_procrustes(x.T @ shared) for x in centred]
    return maps


def _procrustes(cross: FloatArray) -> FloatArray:
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    return np.asarray(left @ right)


@dataclass(frozen=True)
class Alignment:
    """Linear maps of each participant into K shared features of unit variance over the training trials.

    Parameters
    ----------
    maps : tuple of ndarray, each of shape (n_voxels_n, K)
    source : str
        What they were fitted to, in words.
    """

    maps: tuple[FloatArray, ...]
    source: str


def align(data: TrialData, *, how: How, n_shared: int, alphas: tuple[float, ...], seed: int) -> Alignment:
    """Fit each participant's map into K shared features, on the trials of ``data`` (training trials).

    Parameters
    ----------
    data : TrialData
    how : {"auto", "srm", "ridge", "random"}
        ``auto`` is ``srm`` where at least K rows are shared by all of several participants, else ``ridge``.
        Features beyond what a fit can determine start at random.
    n_shared : int
        K.
    alphas : tuple of float
        Penalties of ``ridge``.
    seed : int

    Returns
    -------
    Alignment
    """
    shared = None
    if how in {"auto", "srm"} and len(data.participants) > 1:
        shared = shared_rows(data, minimum=n_shared)
    enough = shared is not None and (how == "srm" or len(shared.responses[0]) >= n_shared)
    if how == "srm" and not enough:
        logger.warning("alignment: the participants share no stimuli; ridge takes the place of SRM.")
    if shared is not None and enough:
        rank = min(n_shared, *(x.shape[1] for x in shared.responses))
        maps = shared_response_model(shared.responses, n_shared=rank, seed=seed)
        source = f"SRM on {len(shared.responses[0])} shared rows matched by {shared.matched_by}"
    elif how == "random":
        maps, source = [np.zeros((table.n_voxels, 0)) for table in data.responses], "random"
    else:
        maps, source = ridge_maps(data, n_shared=n_shared, alphas=alphas), f"ridge to {name_of_targets(data)}"
    return Alignment(_unit_variance(data, _filled(maps, n_shared=n_shared, seed=seed)), source)


def voxels_of(data: TrialData, columns: Sequence[IntArray]) -> TrialData:
    """Return the same trials with some voxels of each participant only (the spaces stay as they are)."""
    tables = tuple(table.of_voxels(chosen) for table, chosen in zip(data.responses, columns, strict=True))
    return replace(data, responses=tables)


def semantic_targets(data: TrialData) -> FloatArray:
    """What people can be aligned by without shared stimuli: labels, and high-level CLIP features where known.

    Both blocks are centred and have total variance 1, so that neither rules by its size.

    Returns
    -------
    ndarray of shape (n_trials, n_targets)
        NaN where unknown.
    """
    blocks = [np.asarray(data.labels, dtype=np.float64)]
    if _has_high_level(data):
        assert data.targets is not None
        high = np.asarray(data.targets.high, dtype=np.float64)[np.maximum(data.stimulus, 0)]
        unknown = (data.stimulus < 0) | ~np.any(high, axis=1)
        blocks.append(np.where(unknown[:, None], np.nan, high))
    return np.concatenate([_unit_block(block) for block in blocks if not np.isnan(block).all()], axis=1)


def name_of_targets(data: TrialData) -> str:
    """Name what ``semantic_targets`` are made of."""
    return "labels and CLIP targets" if _has_high_level(data) else "labels"


def _has_high_level(data: TrialData) -> bool:
    return data.targets is not None and data.targets.high is not None and bool((data.stimulus >= 0).any())


def _unit_block(block: FloatArray) -> FloatArray:
    block = block[:, ~np.isnan(block).all(axis=0)]
    centred = block - np.nanmean(block, axis=0)
    return np.asarray(centred / max(np.sqrt(np.nansum(np.nanvar(block, axis=0))), 1e-12))


def ridge_maps(data: TrialData, *, n_shared: int, alphas: tuple[float, ...]) -> list[FloatArray]:
    """Maps by each participant's own ridge to the semantic targets, reduced to at most K by one shared PCA.

    The PCA is of the held-out predictions of all participants.

    Returns
    -------
    list of ndarray, each of shape (n_voxels_n, k), k <= K
    """
    targets = semantic_targets(data)
    fits = []
    for p, name in enumerate(data.participants):
        mine = data.of_participant(name)
        y = targets[data.participant == p]
        fits.append(fit_ridge(trial_rows(mine), y, group=mine.group, alphas=alphas))
    predicted = np.nan_to_num(np.concatenate([fit.held_out for fit in fits]))
    _, spread, axes = np.linalg.svd(predicted - predicted.mean(axis=0), full_matrices=False)
    rank = min(n_shared, int((spread > 1e-6 * max(spread[0], 1e-12)).sum()))
    return [np.asarray(fit.coef @ axes[:rank].T) for fit in fits]


def _filled(maps: Sequence[FloatArray], *, n_shared: int, seed: int) -> list[FloatArray]:
    generator = np.random.default_rng(seed)
    return [np.column_stack([m, generator.standard_normal((len(m), n_shared - m.shape[1]))]) for m in maps]


def _unit_variance(data: TrialData, maps: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
    scaled = []
    for name, one in zip(data.participants, maps, strict=True):
        rows = trial_rows(data.of_participant(name))
        features = np.concatenate([block @ one for _, block in rows.blocks(np.arange(rows.n_rows))])
        scaled.append((one / np.maximum(features.std(axis=0), 1e-8)).astype(np.float32))
    return tuple(scaled)
