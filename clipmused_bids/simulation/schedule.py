"""Who sees what when: stimuli drawn from the bank, runs, onsets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.simulation.parameters import SimulationParameters

# Seconds before the first and after the last onset, and between onsets (drawn evenly).
_LEAD_IN, _LEAD_OUT = 8.0, 16.0
_INTERVALS = (4.0, 5.0, 6.0)
_N_COPIES = 10


@dataclass(frozen=True)
class StimulusSet:
    """All stimuli of a study.

    Parameters
    ----------
    scene : ndarray of int, shape (n_stimuli,)
        Scene of the bank behind each stimulus; unique but for planted copies.
    shared : ndarray of int, shape (n_shared,)
        Stimuli that every participant sees.
    own : tuple of ndarray of int
        Stimuli of each participant alone; the first ``n_repeated_own`` of them come back.
    """

    scene: NDArray[np.int64]
    shared: NDArray[np.int64]
    own: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True)
class RunSchedule:
    """One run: ``stimulus`` (n_trials,), ``onset`` in s (n_trials,), number of scans."""

    stimulus: NDArray[np.int64]
    onset: NDArray[np.float64]
    n_scans: int


def draw_stimuli(parameters: SimulationParameters) -> StimulusSet:
    """Choose the study's stimuli from the bank."""
    rng = np.random.default_rng([parameters.seed, 10])
    scene = rng.permutation(parameters.n_bank)[: parameters.n_stimuli]
    shared = np.arange(parameters.n_shared)
    first = parameters.n_shared + parameters.n_own * np.arange(parameters.n_participants)
    own = tuple(start + np.arange(parameters.n_own) for start in first)
    if parameters.leak == "copies":
        for mine in own:
            copied = mine[parameters.n_repeated_own :][: min(_N_COPIES, parameters.n_shared)]
            scene[copied] = scene[shared[: len(copied)]]
    return StimulusSet(scene=scene, shared=shared, own=own)


def draw_schedule(
    stimuli: StimulusSet, parameters: SimulationParameters, *, participant: int
) -> tuple[RunSchedule, ...]:
    """Lay one participant's trials out over runs; presentations of one stimulus fall into different runs."""
    rng = np.random.default_rng([parameters.seed, 11, participant])
    own = stimuli.own[participant]
    repeated = np.concatenate([stimuli.shared, own[: parameters.n_repeated_own]])
    once = rng.permutation(own[parameters.n_repeated_own :])
    runs: list[list[int]] = [[] for _ in range(parameters.n_runs)]
    for stimulus in rng.permutation(repeated):
        room = np.array([len(run) for run in runs]) + rng.random(parameters.n_runs)
        for k in range(parameters.n_repeats):
            runs[np.argsort(room)[k % parameters.n_runs]].append(int(stimulus))
    per_run = parameters.n_trials // parameters.n_runs
    rest = iter(once.tolist())
    for run in runs:
        run.extend(islice(rest, max(0, per_run - len(run))))
    return tuple(_timed(np.array(run), parameters, rng=rng) for run in runs)


def _timed(
    stimulus: NDArray[np.int64], parameters: SimulationParameters, *, rng: np.random.Generator
) -> RunSchedule:
    order = rng.permutation(stimulus)
    gaps = rng.choice(_INTERVALS, size=len(order) - 1)
    onset = _LEAD_IN + np.concatenate([[0.0], np.cumsum(gaps)])
    n_scans = int(np.ceil((onset[-1] + _LEAD_OUT) / parameters.repetition_time))
    return RunSchedule(stimulus=order, onset=onset, n_scans=n_scans)
