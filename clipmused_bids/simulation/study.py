"""A whole study in memory, participant by participant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.simulation.anatomy import common_anatomy, native_anatomy
from clipmused_bids.simulation.brains import Brain, SceneBank, draw_amplitudes, make_bank, make_brain
from clipmused_bids.simulation.oracle import (
    Estimates,
    best_estimates,
    mean_average_precision,
    posterior_labels,
    scene_evidence,
    true_ncsnr,
)
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.scenes import draw_scenes, render
from clipmused_bids.simulation.schedule import RunSchedule, StimulusSet, draw_schedule, draw_stimuli
from clipmused_bids.simulation.series import confounds_table, draw_nuisance, draw_series, trial_regressors


@dataclass(frozen=True)
class SimulatedRun:
    """One run: what was shown, percent signal change (n_scans, n_voxels), confounds by name (NaN: no value)."""

    schedule: RunSchedule
    series: NDArray[np.float64]
    confounds: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Truth:
    """What only the simulator knows about one participant.

    Parameters
    ----------
    ncsnr : ndarray of shape (n_voxels,)
        True signal over noise standard deviation of the best single-trial estimates.
    oracle_single, oracle_averaged : float or None
        mAP of the posterior with true weights and noise, over the shared stimuli: of single trials, and of all
        repeats of a stimulus together. None without shared stimuli.
    """

    ncsnr: NDArray[np.float64]
    oracle_single: float | None
    oracle_averaged: float | None

    @property
    def noise_ceiling(self) -> NDArray[np.float64]:
        """Share of the variance of single-trial estimates that is signal, (n_voxels,)."""
        ceiling: NDArray[np.float64] = self.ncsnr**2 / (self.ncsnr**2 + 1)
        return ceiling


@dataclass(frozen=True)
class SimulatedParticipant:
    """One participant: brain, runs, truth."""

    brain: Brain
    runs: tuple[SimulatedRun, ...]
    truth: Truth


@dataclass(frozen=True)
class Study:
    """Scenes and stimuli of a study; participants are made when asked for."""

    parameters: SimulationParameters
    bank: SceneBank
    stimuli: StimulusSet


def make_study(parameters: SimulationParameters) -> Study:
    """Draw and render the scenes, and choose the stimuli."""
    scenes = draw_scenes(parameters.n_bank, seed=parameters.seed)
    images = np.stack([render(scene) for scene in scenes])
    bank = make_bank(scenes, images, seed=parameters.seed)
    return Study(parameters, bank, draw_stimuli(parameters))


def make_participant(study: Study, participant: int) -> SimulatedParticipant:
    """Scan one participant (numbered from 0); independent of how many others there are."""
    parameters = study.parameters
    anatomy_of = native_anatomy if parameters.native else common_anatomy
    anatomy = anatomy_of(participant=participant, seed=parameters.seed)
    brain = make_brain(study.bank, anatomy, parameters, participant=participant)
    runs: list[SimulatedRun] = []
    estimates: list[Estimates] = []
    for number, schedule in enumerate(draw_schedule(study.stimuli, parameters, participant=participant)):
        rng = np.random.default_rng([parameters.seed, 50, participant, number])
        regressors = trial_regressors(schedule, parameters)
        nuisance = draw_nuisance(schedule, parameters, rng=rng)
        amplitude = draw_amplitudes(brain, study.stimuli.scene[schedule.stimulus], parameters, rng=rng)
        series = draw_series(amplitude, regressors, nuisance, anatomy=anatomy, parameters=parameters, rng=rng)
        runs.append(SimulatedRun(schedule, series, confounds_table(series, nuisance, rng=rng)))
        estimates.append(best_estimates(series, regressors, nuisance.columns))
    return SimulatedParticipant(brain, tuple(runs), _truth(study, brain, runs, estimates))


def _truth(study: Study, brain: Brain, runs: list[SimulatedRun], estimates: list[Estimates]) -> Truth:
    variance = np.concatenate([run.variance for run in estimates])
    ncsnr = true_ncsnr(brain, variance, study.parameters)
    stimulus = np.concatenate([run.schedule.stimulus for run in runs])
    shared = stimulus < study.parameters.n_shared
    if not shared.any():
        return Truth(ncsnr, None, None)
    evidence = scene_evidence(estimates, brain, study.parameters)
    scores = []
    for group in (np.arange(len(stimulus)), stimulus):
        groups = np.where(shared, group, -1)
        _, first = np.unique(groups[shared], return_index=True)
        labels = study.bank.labels[study.stimuli.scene[stimulus[shared][first]]]
        probability = posterior_labels(evidence, study.bank.labels, groups=groups)
        scores.append(mean_average_precision(labels, probability))
    return Truth(ncsnr, scores[0], scores[1])
