"""From a simulated participant to one response per trial, as ``--prepare`` makes it from the written images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import ResponseOptions
from clipmused_bids.dataset.images.confound_tables import select_columns
from clipmused_bids.dataset.images.confounds import default_options
from clipmused_bids.dataset.images.voxel_checks import VoxelChecks
from clipmused_bids.records import BoolArray, FloatArray, IntArray, ResponseTable, RunResponses, Trials
from clipmused_bids.responses.estimate import estimate_responses
from clipmused_bids.responses.standardize import block_scaling, unit_statistics
from clipmused_bids.simulation.anatomy import Anatomy
from clipmused_bids.simulation.files import as_written
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.run_files import stored_series
from clipmused_bids.simulation.study import SimulatedParticipant, SimulatedRun
from clipmused_bids.simulation.writer import TASK, picture_name

_IN_MEMORY = Path("simulated")


@dataclass(frozen=True)
class ScannedPerson:
    """One participant's responses, run by run.

    Parameters
    ----------
    label : str
    anatomy : Anatomy
    run_key : tuple of str
        One for each run.
    trials : tuple of Trials
    responses : tuple of RunResponses
    """

    label: str
    anatomy: Anatomy
    run_key: tuple[str, ...]
    trials: tuple[Trials, ...]
    responses: tuple[RunResponses, ...]

    @property
    def stimulus_id(self) -> tuple[str, ...]:
        """Stimulus of each response, over all runs."""
        return tuple(
            run.stimulus_id[k]
            for run, responses in zip(self.trials, self.responses, strict=True)
            for k in responses.kept.tolist()
        )

    @property
    def run_of_row(self) -> tuple[str, ...]:
        """Key of the run of each response."""
        pairs = zip(self.run_key, self.responses, strict=True)
        return tuple(key for key, responses in pairs for _ in responses.kept)

    def usable(self) -> IntArray:
        """Voxels with a signal in every run: flat indices into the grid."""
        valid = np.logical_and.reduce([responses.valid for responses in self.responses])
        return np.flatnonzero(self.anatomy.mask)[valid]


def scan(participant: SimulatedParticipant, *, label: str, parameters: SimulationParameters) -> ScannedPerson:
    """Estimate the responses of one participant, with the confounds that are used by default."""
    anatomy = participant.brain.anatomy
    trials = tuple(_trials(run, parameters) for run in participant.runs)
    return ScannedPerson(
        label=label,
        anatomy=anatomy,
        run_key=tuple(f"sub-{label}_task-{TASK}_run-{k + 1}" for k in range(len(participant.runs))),
        trials=trials,
        responses=tuple(
            _responses(run, of_run, anatomy, parameters)
            for run, of_run in zip(participant.runs, trials, strict=True)
        ),
    )


def standardized(person: ScannedPerson, voxels: IntArray, *, train: BoolArray) -> ResponseTable:
    """Responses at some voxels, standardised within runs by the training trials.

    Parameters
    ----------
    person : ScannedPerson
    voxels : ndarray of int, shape (n_voxels,)
        Flat indices into the grid.
    train : ndarray of bool, shape (n_rows,)
        Training trials over all runs in order.
    """
    columns = np.searchsorted(np.flatnonzero(person.anatomy.mask), voxels)
    blocks = [np.asarray(responses.values) for responses in person.responses]
    valid = [responses.valid[columns] for responses in person.responses]
    statistics = unit_statistics(
        [block[:, columns] for block in blocks],
        person.run_key,
        train=_by_run(train, blocks),
        valid=valid,
    )
    scales = [
        block_scaling(statistics[key], of_run) for key, of_run in zip(person.run_key, valid, strict=True)
    ]
    return ResponseTable(
        blocks=tuple(blocks),
        columns=(columns,) * len(blocks),
        mean=tuple(mean for mean, _ in scales),
        sd=tuple(sd for _, sd in scales),
    )


def _trials(run: SimulatedRun, parameters: SimulationParameters) -> Trials:
    schedule, nothing = run.schedule, np.empty(0)
    n_trials = len(schedule.onset)
    return Trials(
        onset=schedule.onset,
        duration=np.full(n_trials, parameters.duration),
        stimulus_id=tuple(picture_name(int(k)) for k in schedule.stimulus),
        condition=("scene",) * n_trials,
        columns={},
        nuisance_onset=nothing,
        nuisance_duration=nothing,
        nuisance_kind=(),
        n_rows=n_trials,
        n_rows_in_trials=n_trials,
        excluded={},
        stimulus_column="stim_file",
    )


def _responses(
    run: SimulatedRun, trials: Trials, anatomy: Anatomy, parameters: SimulationParameters
) -> RunResponses:
    bold = stored_series(run, anatomy).astype(np.float32)
    checks = VoxelChecks(_IN_MEMORY, n_scans=bold.shape[0], n_voxels=bold.shape[1])
    checks.look(bold)
    confounds, names = _confounds(run.confounds)
    return estimate_responses(
        bold,
        valid=checks.valid,
        trials=trials,
        options=ResponseOptions(),
        kind="lss",
        repetition_time=parameters.repetition_time,
        start_time=parameters.start_time,
        confounds=confounds,
        confound_names=names,
        has_cosines=True,
    )


def _confounds(table: dict[str, NDArray[np.float64]]) -> tuple[FloatArray, tuple[str, ...]]:
    import pandas as pd

    frame = pd.DataFrame({name: as_written(values) for name, values in table.items()})
    selected, _ = select_columns(frame, default_options(frame), path=_IN_MEMORY, strategy="default")
    return selected.to_numpy(dtype=float), tuple(str(name) for name in selected.columns)


def _by_run(rows: BoolArray, blocks: Sequence[FloatArray]) -> list[BoolArray]:
    ends = np.cumsum([len(block) for block in blocks])
    return np.split(rows, ends[:-1])
