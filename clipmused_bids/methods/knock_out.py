"""What a decoder says when a part of the brain is silent: its predictions with each region knocked out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from clipmused_bids.methods.randomised import Predictor
from clipmused_bids.records import FloatArray, IntArray, ResponseTable, TrialData

VALUES_AT_ONCE = 2**25  # of responses in memory: 128 MB

Done = Callable[[int], None]


def knocked_out(
    method: Predictor, data: TrialData, region: IntArray, *, n_regions: int, done: Done | None = None
) -> FloatArray:
    """Predict trials as they are, and with the responses of each region at the mean of the training data.

    Responses are standardised, so that this mean is 0. Each trial is read once.

    Parameters
    ----------
    method : Predictor
    data : TrialData
        Of a single participant.
    region : ndarray of int, shape (n_voxels,)
        Region of each voxel; -1 for one that always stays.
    n_regions : int
    done : callable, optional
        Called after each pass over some trials with their number.

    Returns
    -------
    ndarray of shape (n_regions + 1, n_trials, C)
        The first without any knock-out, then region by region.
    """
    table, n_voxels = data.responses[0], data.responses[0].n_voxels
    predicted = np.empty((n_regions + 1, *data.labels.shape))
    step = max(1, VALUES_AT_ONCE // max(1, n_voxels))
    for start in range(0, data.n_trials, step):
        index = np.arange(start, min(start + step, data.n_trials))
        some = data.subset(index)
        held = _held(table, some.row)
        for k in range(n_regions + 1):
            kept = np.ones(n_voxels) if k == 0 else region != k - 1
            seen = replace(some, responses=(held.scaled(kept),), row=np.arange(len(index)))
            predicted[k, index] = method.predict_proba(seen)
            if done is not None:
                done(len(index))
    return predicted


def _held(table: ResponseTable, rows: IntArray) -> ResponseTable:
    """Rows of a table, in memory."""
    values = table.read(rows)
    n_voxels = values.shape[1]
    zero, one = np.zeros(n_voxels, dtype=np.float32), np.ones(n_voxels, dtype=np.float32)
    return ResponseTable((values,), (np.arange(n_voxels),), (zero,), (one,))
