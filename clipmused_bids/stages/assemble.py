"""Stored responses, voxels, labels and targets of several participants as one ``TrialData``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.images.series import check_grid
from clipmused_bids.dataset.outputs.response_files import StoredResponses, read_responses
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.records import (
    FloatArray,
    Grid,
    IntArray,
    ResponseTable,
    Run,
    Targets,
    TrialData,
    VoxelSpace,
)
from clipmused_bids.stages.grids import OTHER_GRID

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParticipantResponses:
    """Stored responses of one participant, run by run.

    Parameters
    ----------
    participant : str
    runs : tuple of Run
    stored : tuple of StoredResponses
        One for each run; memory-mapped.
    """

    participant: str
    runs: tuple[Run, ...]
    stored: tuple[StoredResponses, ...]

    @property
    def grid(self) -> Grid:
        """Grid of the first run; all runs were checked against it."""
        return self.stored[0].grid

    @property
    def run_key(self) -> tuple[str, ...]:
        """Run of each row."""
        return tuple(
            run.key for run, file in zip(self.runs, self.stored, strict=True) for _ in range(len(file.values))
        )

    @property
    def stimulus_id(self) -> tuple[str, ...]:
        """Stimulus of each row."""
        return tuple(name for file in self.stored for name in file.trials.stimulus_id)


def open_responses(
    tree: OutputTree, participant: str, runs: Sequence[Run], *, kind: str
) -> ParticipantResponses:
    """Open what is stored of one participant's runs.

    Raises
    ------
    DataError
        If nothing is stored, or the grids of the runs differ.
    """
    files = [(run, tree.responses(run, kind=kind)) for run in runs]
    files = [(run, path) for run, path in files if path.exists()]
    if not files:
        raise DataError(f"sub-{participant}: no {kind} responses are stored.", hint="run --prepare first")
    stored = tuple(read_responses(path) for _, path in files)
    for file in stored[1:]:
        if not file.grid.agrees_with(stored[0].grid):
            raise DataError(
                f"sub-{participant}: grids differ between runs: {stored[0].path.name} has {stored[0].grid.shape}, "
                f"{file.path.name} has {file.grid.shape}.",
                hint="choose images of one resolution with --space",
            )
    return ParticipantResponses(participant, tuple(run for run, _ in files), stored)


def usable_voxels(people: Sequence[ParticipantResponses], *, common_space: bool) -> tuple[IntArray, ...]:
    """Voxels (flat indices) with signal in every run; in a common space, of every participant.

    Raises
    ------
    DataError
        If grids of a common space differ, or no voxel is left; names the participants.
    """
    own = [_voxels_with_signal(person) for person in people]
    if not common_space or len(people) == 1:
        return tuple(own)
    first = people[0]
    shared = own[0]
    for person, voxels in zip(people[1:], own[1:], strict=True):
        check_grid(
            person.grid,
            first.grid,
            path=person.stored[0].path,
            other=f"sub-{first.participant}'s responses",
            hint=OTHER_GRID,
        )
        shared = np.intersect1d(shared, voxels, assume_unique=True)
    if len(shared) == 0:
        raise DataError("no voxel lies in the masks of all participants.", hint="give one with --mask")
    n_any = len(np.unique(np.concatenate(own)))
    logger.info(
        "Mask: %d voxels common to %d participants (%.0f %% of the %d in any).",
        len(shared),
        len(people),
        100 * len(shared) / n_any,
        n_any,
    )
    return tuple(shared for _ in people)


def trial_data(
    people: Sequence[ParticipantResponses],
    tables: Sequence[ResponseTable],
    spaces: Sequence[VoxelSpace],
    *,
    common_space: bool,
    labels: FloatArray,
    label_names: tuple[str, ...],
    single_label: bool,
    targets: Targets | None,
    group_by: str,
) -> TrialData:
    """All rows of several participants, in order of participant and run.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        Of all rows in this order.
    group_by : {"run", "stimulus"}
        What stays together when hyper-parameters are chosen.
    """
    stimulus_id = tuple(name for person in people for name in person.stimulus_id)
    row_of = {name: k for k, name in enumerate(targets.stimulus_id)} if targets is not None else {}
    sizes = [table.n_rows for table in tables]
    names = [_run_group(run) for person in people for run in _run_of_row(person)]
    _, group = np.unique(names if group_by == "run" else np.array(stimulus_id), return_inverse=True)
    return TrialData(
        participants=tuple(person.participant for person in people),
        responses=tuple(tables),
        spaces=tuple(spaces),
        common_space=common_space,
        participant=np.repeat(np.arange(len(people)), sizes),
        row=np.concatenate([np.arange(size) for size in sizes]),
        labels=labels.astype(np.float32),
        label_names=label_names,
        single_label=single_label,
        stimulus=np.array([row_of.get(name, -1) for name in stimulus_id], dtype=np.int64),
        stimulus_id=stimulus_id,
        targets=targets,
        group=group,
    )


def voxels_with_signal(stored: Sequence[StoredResponses]) -> IntArray:
    """Voxels, as C-order flat indices in ascending order, that have a signal in every one of these runs."""
    voxels: IntArray = np.asarray(stored[0].voxels[stored[0].valid])
    for file in stored[1:]:
        voxels = np.intersect1d(voxels, file.voxels[file.valid], assume_unique=True)
    return voxels


def _voxels_with_signal(person: ParticipantResponses) -> IntArray:
    voxels = voxels_with_signal(person.stored)
    if len(voxels) == 0:
        raise DataError(
            f"sub-{person.participant}: no voxel has a signal in every run.", hint="check the mask"
        )
    lost = len(person.stored[0].voxels) - len(voxels)
    if lost:
        logger.info("sub-%s: %d voxel(s) without signal in some run are left out.", person.participant, lost)
    return voxels


def _run_of_row(person: ParticipantResponses) -> list[Run]:
    return [
        run for run, file in zip(person.runs, person.stored, strict=True) for _ in range(len(file.values))
    ]


def _run_group(run: Run) -> str:
    """The same run index of all participants is one group, as in the split by runs."""
    return f"{run.session}-{run.run}" if run.run is not None else run.key
