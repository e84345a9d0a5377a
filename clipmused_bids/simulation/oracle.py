"""What the best decoder could know: true noise ceilings, and the posterior with true weights and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray
from clipmused_bids.simulation.brains import Brain
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.series import AUTOCORRELATION, noise_covariance


@dataclass(frozen=True)
class Estimates:
    """Best linear unbiased estimates of single-trial amplitudes, nuisance and autocorrelation known.

    Parameters
    ----------
    amplitude : ndarray of shape (n_trials, n_voxels)
    variance : ndarray of shape (n_trials,)
        Noise variance of an estimate, in units of the noise variance of one scan.
    """

    amplitude: FloatArray
    variance: NDArray[np.float64]


def best_estimates(
    series: NDArray[np.float64], regressors: NDArray[np.float64], nuisance: NDArray[np.float64]
) -> Estimates:
    """Estimate all trials of a run at once by generalised least squares.

    Parameters
    ----------
    series : ndarray of shape (n_scans, n_voxels)
    regressors : ndarray of shape (n_scans, n_trials)
    nuisance : ndarray of shape (n_scans, k)
        Without the constant, which is added.
    """
    n_scans = len(series)
    basis, _ = np.linalg.qr(_whitened(np.column_stack([np.ones(n_scans), nuisance])))
    design, data = _whitened(regressors), _whitened(series)
    design = design - basis @ (basis.T @ design)
    amplitude = np.linalg.lstsq(design, data, rcond=None)[0]
    variance = (1 - AUTOCORRELATION**2) * np.diag(np.linalg.inv(design.T @ design))
    return Estimates(amplitude, variance)


def trial_covariance(
    brain: Brain, variance: NDArray[np.float64], parameters: SimulationParameters
) -> NDArray[np.float64]:
    """Covariance over voxels of single-trial estimates of one scene, (n_voxels, n_voxels).

    Noise of the scans, at the mean variance of the estimates, and what varies between trials.
    """
    spread = brain.amplitude - brain.amplitude.mean(axis=0)
    within = parameters.variability * spread.T @ spread / len(spread)
    covariance: NDArray[np.float64] = variance.mean() * noise_covariance(brain.anatomy, parameters) + within
    return covariance


def true_ncsnr(
    brain: Brain, variance: NDArray[np.float64], parameters: SimulationParameters
) -> NDArray[np.float64]:
    """Signal over noise standard deviation of single-trial estimates, (n_voxels,).

    References
    ----------
    Noise ceiling SNR of Allen et al. 2022, doi:10.1038/s41593-021-00962-x, with true variances in place of estimates.
    """
    noise = np.diag(trial_covariance(brain, variance, parameters))
    ratio: NDArray[np.float64] = brain.amplitude.std(axis=0) / np.sqrt(noise)
    return ratio


def scene_evidence(
    estimates: Sequence[Estimates], brain: Brain, parameters: SimulationParameters
) -> NDArray[np.float64]:
    """Log-likelihood of every scene of the bank for every trial, up to a constant per trial.

    Parameters
    ----------
    estimates : sequence of Estimates
        One for each run; trials count on over the runs.
    brain : Brain

    Returns
    -------
    ndarray of shape (n_trials, n_bank)
    """
    from scipy.linalg import cholesky, solve_triangular

    variance = np.concatenate([run.variance for run in estimates])
    amplitude = np.concatenate([run.amplitude for run in estimates])
    factor = cholesky(trial_covariance(brain, variance, parameters), lower=True)
    white = solve_triangular(factor, np.concatenate([amplitude, brain.amplitude]).T, lower=True).T
    trials, scenes = white[: len(amplitude)], white[len(amplitude) :]
    evidence: NDArray[np.float64] = trials @ scenes.T - 0.5 * (scenes**2).sum(axis=1)
    return evidence


def posterior_labels(
    evidence: NDArray[np.float64], labels: NDArray[np.int64], *, groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probability of each label, all scenes of the bank equally likely beforehand.

    Parameters
    ----------
    evidence : ndarray of shape (n_trials, n_bank)
    labels : ndarray of shape (n_bank, C)
    groups : ndarray of int, shape (n_trials,)
        Trials of one group show one scene and are judged together; -1 leaves a trial out.

    Returns
    -------
    ndarray of shape (n_groups, C)
        In the order of the sorted group numbers.
    """
    joint = np.stack([evidence[groups == group].sum(axis=0) for group in np.unique(groups[groups >= 0])])
    weight = np.exp(joint - joint.max(axis=1, keepdims=True))
    probability: NDArray[np.float64] = weight @ labels / weight.sum(axis=1, keepdims=True)
    return probability


def mean_average_precision(labels: NDArray[np.int64], probability: NDArray[np.float64]) -> float:
    """Macro mAP over labels that occur and do not always occur."""
    from sklearn.metrics import average_precision_score

    positives = labels.sum(axis=0)
    scorable = (positives > 0) & (positives < len(labels))
    return float(average_precision_score(labels[:, scorable], probability[:, scorable], average="macro"))


def _whitened(values: NDArray[np.float64]) -> NDArray[np.float64]:
    first = np.sqrt(1 - AUTOCORRELATION**2) * values[:1]
    return np.concatenate([first, values[1:] - AUTOCORRELATION * values[:-1]])
