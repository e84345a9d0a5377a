"""How much each voxel has to say about the labels, as weights that linear fits read the voxels with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clipmused_bids.methods.ridge_solver import Rows, trial_rows
from clipmused_bids.records import FloatArray, TrialData


def label_weights(train: TrialData) -> tuple[FloatArray, ...]:
    """Weigh voxels by the share of their variance that the labels explain.

    With U an orthonormal basis (n, r) of the centred labels, ``R^2_v = || U' x_v ||^2 / || x_v - mean ||^2``, adjusted
    for chance, ``1 - (1 - R^2) (n - 1) / (n - 1 - r)``, not below 0. A ridge penalty on coefficients of weighted
    voxels is a prior whose standard deviation is the weight: voxels that no label moves do not take part, and there
    are many of them in a whole brain. In a common space voxels are weighed by all participants' trials together.

    Parameters
    ----------
    train : TrialData
        Trials that may be learnt from; an unknown label counts as the label's mean.

    Returns
    -------
    tuple of ndarray, each of shape (n_voxels_n,)
        Root mean square 1 for each participant; all 1 where the trials are too few to say.
    """
    if train.common_space:
        return (_weights(trial_rows(train), train.labels),) * len(train.participants)
    return tuple(
        _weights(trial_rows(train.of_participant(name)), train.labels[train.participant == p])
        for p, name in enumerate(train.participants)
    )


def weighted(data: TrialData, weights: Sequence[FloatArray]) -> TrialData:
    """Return the same trials with each participant's voxels multiplied by weights (n_voxels_n,)."""
    tables = tuple(table.scaled(one) for table, one in zip(data.responses, weights, strict=True))
    return replace(data, responses=tables)


def _weights(x: Rows, labels: FloatArray) -> FloatArray:
    basis = _label_basis(labels)
    n, rank = basis.shape
    if rank == 0 or n - 1 - rank < 1:
        return np.ones(x.n_columns)
    projection = np.zeros((rank, x.n_columns))
    total, squares = np.zeros(x.n_columns), np.zeros(x.n_columns)
    for place, block in x.blocks(np.arange(n)):
        projection += basis[place].T @ block
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    variance = squares - np.square(total) / n
    explained = np.square(projection).sum(axis=0) / np.where(variance > 0, variance, np.inf)
    adjusted = np.maximum(1 - (1 - explained) * (n - 1) / (n - 1 - rank), 0.0)
    size = np.sqrt(np.mean(np.square(adjusted)))
    return adjusted / size if size > 0 else np.ones(x.n_columns)


def _label_basis(labels: FloatArray) -> FloatArray:
    """Orthonormal basis (n, r) of the centred labels."""
    known = ~np.isnan(labels)
    mean = np.where(known, labels, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, labels - mean, 0.0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    # A label that all trials have leaves rounding behind.
    return np.asarray(left[:, size > 1e-6 * np.sqrt(max(1, len(labels)))])
