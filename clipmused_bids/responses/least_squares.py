"""Weights of least squares - separate (LSS) and - all (LSA): the responses are W Y, with Y the scans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DesignError
from clipmused_bids.records import BoolArray, FloatArray
from clipmused_bids.responses.projection import remove_subspace

PARALLEL = 1e-10  # share of a regressor's energy beside others below which it is one of their directions
NO_SHARE = 1e-6  # share of a trial in the amplitudes of others, above which they are mixed
TOGETHER = 'responses.others = "together" needs no conditions'


def separate_weights(trials: FloatArray, member: FloatArray) -> tuple[NDArray[np.float64], BoolArray]:
    """Weights of LSS: for trial i, its regressor x_i, the other trials of its group, and each other group.

    One group that holds all trials is plain LSS; one group for each condition is LSS by condition. The model of
    trial i of group c spans the same as x_i and the sums s_1 ... s_C over whole groups, and its response is the
    amplitude of x_i plus that of s_c there. With D the dual basis of the sums (D = S (S'S)^-1),
    e_i = x_i - S D'x_i and h_i = d_c'x_i,

        W_i = ((1 - h_i) / e_i'e_i) e_i' + d_c'.

    Where x_i is parallel to s_c (always so for the only trial of a group), "the others" are no regressor of their
    own; the row is that of ordinary least squares without them, d_c' / h_i. Where the nuisance leaves nothing of
    s_c, it is e_i' / e_i'e_i (the formula with d_c = 0).

    Parameters
    ----------
    trials : ndarray of shape (n_scans, n_trials)
        Trial regressors from which the nuisance has been removed.
    member : ndarray of shape (n_trials, n_groups)
        1 where a trial belongs to a group, else 0.

    Returns
    -------
    weights : ndarray of shape (n_trials, n_scans)
    alone : ndarray of bool, shape (n_trials,)
        Trials estimated without the others of their group though there are some.

    Raises
    ------
    DesignError
        If groups cannot be told from each other, or a trial from the other groups.

    References
    ----------
    Mumford et al. 2012, doi:10.1016/j.neuroimage.2011.08.076
    """
    energy = (trials**2).sum(axis=0)
    sums = trials @ member
    # A sum that the nuisance explains is rounding, and its direction means nothing.
    lives = (sums**2).sum(axis=0) > PARALLEL * (energy @ member)
    directions, dual = _dual_basis(sums[:, lives])
    own = dual @ member[:, lives].T
    h = (own * trials).sum(axis=0)
    rest = remove_subspace(trials, directions)
    left = (rest**2).sum(axis=0)
    inside = left <= PARALLEL * energy
    beyond_own = ((trials - h * (sums @ member.T)) ** 2).sum(axis=0)
    if (mixed := inside & (beyond_own > 100 * PARALLEL * energy)).any():
        raise DesignError(
            f"{mixed.sum()} of {len(mixed)} trials cannot be told from trials of other conditions.",
            hint=TOGETHER,
        )
    left[inside] = 1.0
    of_rest = np.where(inside, 0.0, (1 - h) / left)
    of_own = np.divide(1.0, h, out=np.ones_like(h), where=inside)
    alone = (inside | (member @ lives == 0)) & (member @ member.sum(axis=0) > 1)
    return np.ascontiguousarray((of_rest * rest + of_own * own).T), alone


def all_weights(trials: FloatArray) -> tuple[NDArray[np.float64], BoolArray]:
    """Weights of LSA: one model with a regressor for each trial, the pseudo-inverse of the regressors.

    Where trials cannot be told from each other (two at one time), the amplitudes are the smallest that fit
    (minimum norm, each regressor taken at unit length): two equal regressors get half of their response each.

    Parameters
    ----------
    trials : ndarray of shape (n_scans, n_trials)
        Trial regressors from which the nuisance has been removed.

    Returns
    -------
    weights : ndarray of shape (n_trials, n_scans)
    mixed : ndarray of bool, shape (n_trials,)
        Trials whose amplitude is mixed with those of others.

    References
    ----------
    Mumford et al. 2012, doi:10.1016/j.neuroimage.2011.08.076
    """
    length = np.linalg.norm(trials, axis=0)
    left, singular, right = np.linalg.svd(trials / length, full_matrices=False)
    kept = singular**2 > PARALLEL * singular[0] ** 2
    inverse = (right[kept].T / singular[kept]) @ left[:, kept].T
    mixed = 1 - (right[kept] ** 2).sum(axis=0) > NO_SHARE
    return np.asarray(inverse / length[:, None]), mixed


def _dual_basis(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal basis of the sums, and the vectors D of their span with D'S = 1; both (n_scans, n_groups)."""
    length = np.linalg.norm(sums, axis=0)
    if len(length) == 0:
        return sums, sums
    left, singular, right = np.linalg.svd(sums / length, full_matrices=False)
    if len(singular) < len(length) or singular[-1] ** 2 <= PARALLEL * singular[0] ** 2:
        raise DesignError(
            f"the {len(length)} conditions of the run cannot be told from each other.", hint=TOGETHER
        )
    return left, (left / singular) @ right / length
