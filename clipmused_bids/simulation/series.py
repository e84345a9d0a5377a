"""From amplitudes to scanner data: haemodynamics, drift, motion, correlated noise, confounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray
from clipmused_bids.simulation.anatomy import Anatomy, smooth_fields
from clipmused_bids.simulation.brains import AMPLITUDE_SD
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.schedule import RunSchedule

# Correlation of the noise of successive scans.
AUTOCORRELATION = 0.4
# Percent signal change (standard deviations over scans) of what is not white: drift, motion, physiology.
_DRIFT, _MOTION, _PHYSIOLOGY = 0.5, 0.25, 0.2
_HIGH_PASS = 1 / 128
_N_SHARED_NOISE = 10
_NOISE_MM = 20.0
_FINE_STEP = 0.05  # s


@dataclass(frozen=True)
class Nuisance:
    """What moves the signal besides the stimuli, one column each, of shape (n_scans, k).

    Parameters
    ----------
    cosines : ndarray
        Slow drift, without the constant.
    motion : ndarray of shape (n_scans, 6)
        Translations in mm, rotations in rad.
    physiology : ndarray of shape (n_scans, 2)
        Fluctuations seen in white matter and in cerebrospinal fluid.
    """

    cosines: NDArray[np.float64]
    motion: NDArray[np.float64]
    physiology: NDArray[np.float64]

    @property
    def columns(self) -> NDArray[np.float64]:
        """All of them beside each other."""
        return np.concatenate([self.cosines, self.motion, self.physiology], axis=1)


def frame_times(n_scans: int, parameters: SimulationParameters) -> FloatArray:
    """Time in s of each scan's reference slice, (n_scans,)."""
    times: FloatArray = parameters.start_time + parameters.repetition_time * np.arange(n_scans)
    return times


def trial_regressors(run: RunSchedule, parameters: SimulationParameters) -> NDArray[np.float64]:
    """Response of a voxel of amplitude one to each trial, canonical haemodynamics: (n_scans, n_trials).

    A lone trial peaks at 1, so that amplitudes read as percent signal change.
    """
    lag = frame_times(run.n_scans, parameters)[:, None] - np.asarray(run.onset)
    fine, shape = _response_shape(parameters.duration)
    regressors: NDArray[np.float64] = np.interp(lag, fine, shape, left=0.0, right=0.0)
    return regressors


def draw_nuisance(
    run: RunSchedule, parameters: SimulationParameters, *, rng: np.random.Generator
) -> Nuisance:
    """Draw one run's drift, motion and physiology."""
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    times = frame_times(run.n_scans, parameters)
    motion = np.cumsum(rng.normal(size=(run.n_scans, 6)), axis=0) * np.array([0.02] * 3 + [0.0004] * 3)
    physiology = _autoregressive(rng.normal(size=(run.n_scans, 2)), coefficient=0.7)
    return Nuisance(
        cosines=create_cosine_drift(_HIGH_PASS, times)[:, :-1], motion=motion, physiology=physiology
    )


def noise_covariance(anatomy: Anatomy, parameters: SimulationParameters) -> NDArray[np.float64]:
    """Covariance over voxels of the noise of one scan, in percent signal change squared, (n_voxels, n_voxels)."""
    loadings = _noise_loadings(anatomy, parameters)
    own = (1 - parameters.noise_correlation) * np.eye(len(anatomy.place))
    covariance: NDArray[np.float64] = noise_sd(parameters) ** 2 * (own + loadings @ loadings.T)
    return covariance


def noise_sd(parameters: SimulationParameters) -> float:
    """Standard deviation of the noise of one scan, in percent signal change."""
    return AMPLITUDE_SD / parameters.snr


def draw_series(
    amplitude: NDArray[np.float64],
    regressors: NDArray[np.float64],
    nuisance: Nuisance,
    *,
    anatomy: Anatomy,
    parameters: SimulationParameters,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """One run as the scanner would see it.

    Parameters
    ----------
    amplitude : ndarray of shape (n_trials, n_voxels)
        Percent signal change of each trial.
    regressors : ndarray of shape (n_scans, n_trials)
    nuisance : Nuisance

    Returns
    -------
    ndarray of shape (n_scans, n_voxels)
        Percent signal change around the baseline.
    """
    n_scans, n_voxels = len(regressors), amplitude.shape[1]
    loadings = _noise_loadings(anatomy, parameters)
    own = np.sqrt(1 - parameters.noise_correlation) * rng.normal(size=(n_scans, n_voxels))
    common = rng.normal(size=(n_scans, loadings.shape[1])) @ loadings.T
    noise = noise_sd(parameters) * _autoregressive(own + common, coefficient=AUTOCORRELATION)
    scales = np.concatenate(
        [
            _DRIFT / np.sqrt(np.arange(1, nuisance.cosines.shape[1] + 1)) / _spread(nuisance.cosines),
            _MOTION / np.sqrt(6) / _spread(nuisance.motion),
            _PHYSIOLOGY / _spread(nuisance.physiology),
        ]
    )
    weights = scales[:, None] * rng.normal(size=(len(scales), n_voxels))
    return regressors @ amplitude + nuisance.columns @ weights + noise


def confounds_table(
    series: NDArray[np.float64], nuisance: Nuisance, *, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Confounds under fMRIPrep's names; NaN where a derivative has no value (first row)."""
    n_scans = len(series)
    table: dict[str, NDArray[np.float64]] = {}
    noisy = nuisance.physiology + 0.3 * rng.normal(size=(n_scans, 2))
    tissue = {"csf": noisy[:, 1], "white_matter": noisy[:, 0], "global_signal": series.mean(axis=1)}
    for name, values in tissue.items():
        table |= _expanded(name, 100 * (100 + values))
    table["std_dvars"], table["dvars"] = _dvars(series)
    for k, name in enumerate(("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")):
        table |= _expanded(name, nuisance.motion[:, k])
    steps = np.abs(np.diff(nuisance.motion, axis=0)) * np.array([1, 1, 1, 50, 50, 50])
    table["framewise_displacement"] = np.concatenate([[np.nan], steps.sum(axis=1)])
    components = np.linalg.svd(noisy - noisy.mean(axis=0), full_matrices=False)[0]
    for k in range(components.shape[1]):
        table[f"a_comp_cor_{k:02d}"] = components[:, k]
    for k in range(nuisance.cosines.shape[1]):
        table[f"cosine{k:02d}"] = nuisance.cosines[:, k]
    return table


def _expanded(name: str, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    derivative = np.concatenate([[np.nan], np.diff(values)])
    return {
        name: values,
        f"{name}_derivative1": derivative,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": derivative**2,
    }


def _dvars(series: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    step = np.sqrt((np.diff(series, axis=0) ** 2).mean(axis=1))
    dvars = np.concatenate([[np.nan], step])
    return dvars / np.median(step), dvars


def _noise_loadings(anatomy: Anatomy, parameters: SimulationParameters) -> NDArray[np.float64]:
    rng = np.random.default_rng([parameters.seed, 40])
    fields = smooth_fields(anatomy.place, n_fields=_N_SHARED_NOISE, length=_NOISE_MM, rng=rng)
    length = np.linalg.norm(fields, axis=1, keepdims=True)
    loadings: NDArray[np.float64] = np.sqrt(parameters.noise_correlation) * fields / length
    return loadings


def _autoregressive(innovations: NDArray[np.float64], *, coefficient: float) -> NDArray[np.float64]:
    """Stationary AR(1) series with the variance of its innovations, along the first axis."""
    from scipy.signal import lfilter

    scaled = np.sqrt(1 - coefficient**2) * innovations
    scaled[0] = innovations[0]
    series: NDArray[np.float64] = lfilter([1.0], [1.0, -coefficient], scaled, axis=0)
    return series


def _spread(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    sd: NDArray[np.float64] = columns.std(axis=0)
    spread: NDArray[np.float64] = np.where(sd > 0, sd, 1.0)
    return spread


@lru_cache
def _response_shape(duration: float) -> tuple[FloatArray, NDArray[np.float64]]:
    """Response to one trial at fine steps after its onset: times in s, and values that peak at 1."""
    from nilearn.glm.first_level import spm_hrf

    kernel = spm_hrf(_FINE_STEP, oversampling=1, time_length=32.0)
    shape = np.convolve(kernel, np.ones(max(1, round(duration / _FINE_STEP))))
    return _FINE_STEP * np.arange(len(shape), dtype=np.float64), np.asarray(
        shape / shape.max(), dtype=np.float64
    )
