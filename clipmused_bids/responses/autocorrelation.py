"""Noise that depends on the scan before (AR(1)): its coefficient, and weights for data whitened by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray, IntArray, Series
from clipmused_bids.responses.projection import VOXEL_BLOCK, centred_blocks, remove_subspace

HUNDREDTHS = 100  # parts of the coefficient; voxels of one part share their weights


def autocorrelation(
    bold: Series, basis: FloatArray, *, sample_mask: IntArray, voxel_block: int = VOXEL_BLOCK
) -> IntArray:
    """Coefficient of first-order autocorrelation of each voxel's residuals, in hundredths, as nilearn has it.

    With r the residuals beside ``basis`` and n kept scans, the coefficient is

        (sum_t r_t r_{t-1} / (n - 1)) / (sum_t r_t^2 / n),

    cut (not rounded) to hundredths. Kept scans count as neighbours across censored ones, as in nilearn.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels)
        Any unit.
    basis : ndarray of shape (n_kept_scans, rank)
        Orthonormal basis of the regressors that the residuals are taken from.
    sample_mask : ndarray of int, shape (n_kept_scans,)
    voxel_block : int

    Returns
    -------
    ndarray of int, shape (n_voxels,)
        0 for a voxel without residuals, or with NaN.
    """
    # The level of a block is a constant, of which something is left only if the basis has none.
    of_level = remove_subspace(np.ones((len(basis), 1)), basis)
    into, back = basis.T, np.hstack([basis, -of_level])
    if bold.dtype != np.float64:
        into, back = into.astype(np.float32), back.astype(np.float32)
    found = np.empty(bold.shape[1], dtype=np.intp)
    for here, block in centred_blocks(bold, sample_mask=sample_mask, voxel_block=voxel_block):
        with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not valid may hold anything
            coordinates = np.vstack([into @ block[:-1], block[-1]])
            found[here] = _hundredths(block[:-1] - back @ coordinates)
    return found


def whitened(columns: FloatArray, coefficient: float) -> NDArray[np.float64]:
    """Take from each row ``coefficient`` times the row before; the first stays, as in nilearn."""
    out = np.array(columns, dtype=np.float64)
    out[1:] -= coefficient * columns[:-1]
    return out


def weights_for_unwhitened(weights: FloatArray, coefficient: float) -> NDArray[np.float64]:
    """Turn weights for whitened data, of shape (n, n_scans), into weights for the data: W A of W (A Y)."""
    out = np.array(weights, dtype=np.float64)
    out[:, :-1] -= coefficient * weights[:, 1:]
    return out


def _hundredths(residuals: FloatArray) -> IntArray:
    n_scans = len(residuals)
    energy = np.einsum("tv,tv->v", residuals, residuals) / n_scans
    covariance = np.einsum("tv,tv->v", residuals[1:], residuals[:-1]) / (n_scans - 1)
    usable = np.isfinite(covariance) & (energy > 0)
    coefficient = np.divide(covariance, energy, out=np.zeros_like(energy), where=usable)
    return np.asarray(HUNDREDTHS * coefficient, dtype=np.intp)
