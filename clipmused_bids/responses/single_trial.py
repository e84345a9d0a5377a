"""One response per trial by a general linear model, all trials of a run in one product."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DesignError
from clipmused_bids.records import BoolArray, FloatArray, IntArray, Series
from clipmused_bids.responses.autocorrelation import (
    HUNDREDTHS,
    autocorrelation,
    weights_for_unwhitened,
    whitened,
)
from clipmused_bids.responses.design import NOTHING_LEFT, TrialDesign
from clipmused_bids.responses.least_squares import all_weights, separate_weights
from clipmused_bids.responses.projection import (
    VOXEL_BLOCK,
    orthonormal_basis,
    remove_subspace,
    weigh_groups,
    weigh_voxels,
)

logger = logging.getLogger(__name__)

Kind = Literal["lss", "lsa"]
Others = Literal["together", "by-condition"]
UNCERTAIN: dict[Kind, str] = {
    "lss": "cannot be told from the sum of all trials (of their condition): estimated without the others beside them",
    "lsa": "cannot be told apart: each got its share of their common response (minimum norm)",
}


def single_trial_responses(
    bold: Series,
    design: TrialDesign,
    *,
    kind: Kind = "lss",
    others: Others = "together",
    noise: Literal["ols", "ar1"] = "ols",
    voxel_block: int = VOXEL_BLOCK,
) -> FloatArray:
    """One response per trial by least squares - separate (LSS) or - all (LSA), all trials in closed form.

    With ``ar1`` the noise of each voxel depends on the scan before. As in nilearn, its coefficient comes from the
    residuals of ordinary least squares, is cut to hundredths, and data and design are whitened by it. The whitening
    is part of the weights, one matrix for each coefficient, so the data are not copied.

    A voxel has one coefficient for all its trials, from the model that they share: all trial regressors for
    LSA, and for LSS their sums (over all trials, or over each condition) with the nuisance. A loop of models, one for
    each trial, has one coefficient for each trial instead. Their residuals differ by one direction in the space
    of scans, so coefficients differ by about one over the number of scans, and some fall into the next hundredth.
    Noise is a property of the voxel, and trials are comparable only if they were weighed alike.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        BOLD signal of all scans, any unit; responses come back in that unit.
    design : TrialDesign
        Trial and nuisance regressors of the scans that are kept.
    kind : {"lss", "lsa"}
    others : {"together", "by-condition"}
        For ``lss``: all other trials are one regressor, or those of each condition are one.
    noise : {"ols", "ar1"}
    voxel_block : int
        Voxels worked on at a time.

    Returns
    -------
    ndarray of shape (n_trials, n_voxels)
        float64 for float64 input, else float32.

    Raises
    ------
    DesignError
        If a trial has nothing left beside the nuisance regressors, trials or conditions cannot be told apart, or
        the design is for other scans.

    References
    ----------
    Mumford et al. 2012, doi:10.1016/j.neuroimage.2011.08.076
    """
    weights = single_trial_weights(design, kind=kind, others=others)
    scans = design.sample_mask
    if noise == "ols":
        return weigh_voxels(weights, bold, sample_mask=scans, voxel_block=voxel_block)
    basis = orthonormal_basis(_shared_regressors(design, kind=kind, others=others))
    group = autocorrelation(bold, basis, sample_mask=scans, voxel_block=voxel_block)
    return weigh_groups(
        _weights_by_coefficient(design, np.unique(group), kind=kind, others=others),
        bold,
        group=group,
        sample_mask=scans,
        voxel_block=voxel_block,
    )


def single_trial_weights(
    design: TrialDesign, *, kind: Kind = "lss", others: Others = "together"
) -> NDArray[np.float64]:
    """Weights W of ordinary least squares: the responses are W Y, with Y the kept scans.

    Parameters
    ----------
    design : TrialDesign
        Trial regressors (n_scans, n_trials) and nuisance regressors (n_scans, n_nuisance).
    kind : {"lss", "lsa"}
    others : {"together", "by-condition"}
        For ``lss``: what stands beside a trial.

    Returns
    -------
    ndarray of shape (n_trials, n_scans)

    Raises
    ------
    DesignError
        If a trial's regressor is zero or lies in the span of the nuisance regressors (names the trials), or trials
        or conditions cannot be told apart.
    """
    basis = orthonormal_basis(design.nuisance)
    trials = remove_subspace(design.trials, basis)
    empty = (trials**2).sum(axis=0) <= NOTHING_LEFT * (design.trials**2).sum(axis=0)
    if empty.any():
        raise DesignError(
            f"nothing is left of trials {_numbers(design, empty)} beside the nuisance regressors."
        )
    if kind == "lsa" and trials.shape[1] + basis.shape[1] >= len(trials):
        raise DesignError(
            f"{trials.shape[1]} trials and {basis.shape[1]} nuisance regressors leave nothing of {len(trials)} "
            "kept scans for one model of all trials.",
            hint="--response lss has one model for each trial",
        )
    weights, uncertain = _weights(trials, design, kind=kind, others=others)
    if uncertain.any():
        logger.warning("Trials %s %s.", _numbers(design, uncertain), UNCERTAIN[kind])
    return weights


def _weights_by_coefficient(
    design: TrialDesign, hundredths: IntArray, *, kind: Kind, others: Others
) -> dict[int, NDArray[np.float64]]:
    """Weights for data whose noise has each of the coefficients, by their hundredths."""
    basis = orthonormal_basis(design.nuisance)
    found = {}
    for part in hundredths:
        coefficient = int(part) / HUNDREDTHS
        # Whitening can be undone, so that a basis keeps its rank and needs no pivots.
        directions, _ = np.linalg.qr(whitened(basis, coefficient))
        trials = remove_subspace(whitened(design.trials, coefficient), directions)
        weights, _ = _weights(trials, design, kind=kind, others=others)
        found[int(part)] = weights_for_unwhitened(weights, coefficient)
    return found


def _weights(
    trials: FloatArray, design: TrialDesign, *, kind: Kind, others: Others
) -> tuple[NDArray[np.float64], BoolArray]:
    if kind == "lsa":
        return all_weights(trials)
    return separate_weights(trials, _membership(design, others))


def _shared_regressors(design: TrialDesign, *, kind: Kind, others: Others) -> NDArray[np.float64]:
    trials = design.trials if kind == "lsa" else design.trials @ _membership(design, others)
    return np.hstack([trials, design.nuisance])


def _membership(design: TrialDesign, others: Others) -> NDArray[np.float64]:
    """Which trials are one regressor where they are others, of shape (n_trials, n_groups)."""
    if others == "together":
        return np.ones((design.trials.shape[1], 1))
    names = np.array(design.condition, dtype=object)
    return np.column_stack([names == name for name in sorted(set(design.condition))]).astype(np.float64)


def _numbers(design: TrialDesign, which: BoolArray) -> str:
    return ", ".join(str(i + 1) for i in design.kept[which])
