"""Least squares - separate: a general linear model for each trial, all of them in one product."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DesignError
from clipmused_bids.records import FloatArray, Series
from clipmused_bids.responses.design import NOTHING_LEFT, TrialDesign
from clipmused_bids.responses.projection import VOXEL_BLOCK, orthonormal_basis, remove_subspace, weigh_voxels

logger = logging.getLogger(__name__)

PARALLEL = 1e-10  # d / (g_ii g_ss) below which "this trial" and "all others" are one direction


def single_trial_weights(design: TrialDesign) -> NDArray[np.float64]:
    """Weights W of least squares - separate (LSS): the responses are W Y, with Y the kept scans.

    For trial i, LSS fits three things: the trial's regressor x_i, the sum of all other trials, and the
    nuisance Z. With Q an orthonormal basis of Z, Xt = X - Q Q'X, s = sum_i xt_i, and

        g_ii = xt_i'xt_i,  g_is = xt_i's,  g_ss = s's,  d = g_ii g_ss - g_is^2,

    the row of W is  W_i = ((g_ss - g_is) / d) xt_i' + ((g_ii - g_is) / d) s'.

    Where xt_i is parallel to s (d <= eps g_ii g_ss; always so in a run of one trial) or s is zero, "the others"
    are no regressor of their own, and the row is that of ordinary least squares on x_i and Z, xt_i' / g_ii.

    Parameters
    ----------
    design : TrialDesign
        Trial regressors (n_scans, n_trials) and nuisance regressors (n_scans, n_nuisance).

    Returns
    -------
    ndarray of shape (n_trials, n_scans)

    Raises
    ------
    DesignError
        If a trial's regressor is zero or lies in the span of the nuisance regressors; names the trials.

    References
    ----------
    Mumford et al. 2012, doi:10.1016/j.neuroimage.2011.08.076
    """
    trials = remove_subspace(design.trials, orthonormal_basis(design.nuisance))
    total = trials.sum(axis=1)
    g_ii = (trials**2).sum(axis=0)
    empty = g_ii <= NOTHING_LEFT * (design.trials**2).sum(axis=0)
    if empty.any():
        raise DesignError(
            f"nothing is left of trials {_numbers(design, empty)} beside the nuisance regressors."
        )
    g_is, g_ss = trials.T @ total, float(total @ total)
    d = g_ii * g_ss - g_is**2
    # A sum that the nuisance explains is rounding, and its direction means nothing.
    parallel = (d <= PARALLEL * g_ii * g_ss) | (g_ss <= PARALLEL * g_ii.sum())
    if parallel.any() and len(parallel) > 1:
        logger.warning(
            "Trials %s cannot be told from the sum of all trials: estimated without the others beside them.",
            _numbers(design, parallel),
        )
    d[parallel] = 1.0
    of_trial = np.where(parallel, 1.0 / g_ii, (g_ss - g_is) / d)
    of_total = np.where(parallel, 0.0, (g_ii - g_is) / d)
    return np.asarray(of_trial[:, None] * trials.T + of_total[:, None] * total)


def single_trial_responses(
    bold: Series, design: TrialDesign, *, voxel_block: int = VOXEL_BLOCK
) -> FloatArray:
    """One response per trial by least squares - separate (LSS), all trials in closed form.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        BOLD signal of all scans, any unit; responses come back in that unit.
    design : TrialDesign
        Trial and nuisance regressors of the scans that are kept.
    voxel_block : int
        Voxels worked on at a time.

    Returns
    -------
    ndarray of shape (n_trials, n_voxels)
        float64 for float64 input, else float32.

    Raises
    ------
    DesignError
        If a trial has nothing left beside the nuisance regressors, or the design is for other scans.

    References
    ----------
    Mumford et al. 2012, doi:10.1016/j.neuroimage.2011.08.076
    """
    return weigh_voxels(
        single_trial_weights(design), bold, sample_mask=design.sample_mask, voxel_block=voxel_block
    )


def _numbers(design: TrialDesign, which: NDArray[np.bool_]) -> str:
    return ", ".join(str(i + 1) for i in design.kept[which])
