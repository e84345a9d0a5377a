"""Stored responses of several participants as what a method is fitted to; test responses are never among them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import (
    BoolArray,
    FloatArray,
    IntArray,
    ResponseTable,
    SetName,
    Split,
    TrialData,
    VoxelSpace,
)
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    open_responses,
    trial_data,
    usable_voxels,
)
from clipmused_bids.stages.atlas import choose_atlas
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.regions import label_images, voxel_spaces
from clipmused_bids.stages.splitting import sets_of_runs
from clipmused_bids.stages.standardized import (
    Standardization,
    fit_standardization,
    response_table,
    staged,
)
from clipmused_bids.stages.target_source import TargetSource, guiding_targets
from clipmused_bids.stages.voxel_choice import VoxelChoice, choose_voxels

logger = logging.getLogger(__name__)

SMALLEST_LABELLED_SHARE = 0.5


@dataclass(frozen=True)
class TrainingSet:
    """Everything a method is fitted to, and what must be stored with it.

    Parameters
    ----------
    train, validation : TrialData
    standardizations : tuple of Standardization
        One for each participant.
    atlas_images : tuple of str
        File names of the label images that the regions were read from.
    voxel_choice : mapping or None
        How the voxels were chosen; None where all are read.
    """

    train: TrialData
    validation: TrialData
    standardizations: tuple[Standardization, ...]
    voxel_choice: Mapping[str, Any] | None
    atlas_images: tuple[str, ...] = ()


def training_set(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    *,
    members: Sequence[str],
    method: str,
    maker: TargetSource | None,
    scratch: ExitStack,
) -> TrainingSet:
    """Open responses and lay out training and validation trials; test responses are never among them."""
    people = [open_responses(tree, p, plan.runs_of(p), kind=plan.kind) for p in members]
    voxels = usable_voxels(people, common_space=plan.common_space)
    sets = [row_sets(person, plan, split) for person in people]
    names = np.array([name for person in sets for name in person])
    standardizations = [
        participant_standardization(plan, person, own, split)
        for person, own in zip(people, voxels, strict=True)
    ]
    _say_transductive(standardizations)
    tables = [
        response_table(person, own, scaling)
        for person, own, scaling in zip(people, voxels, standardizations, strict=True)
    ]
    choice = _voxel_choice(plan, people, tables, sets)
    if choice is not None:
        voxels = tuple(own[kept] for own, kept in zip(voxels, choice.kept, strict=True))
        tables = [table.of_voxels(kept) for table, kept in zip(tables, choice.kept, strict=True)]
        standardizations = [
            scaling.of_voxels(kept) for scaling, kept in zip(standardizations, choice.kept, strict=True)
        ]
    stimuli = tuple(name for person in people for name in person.stimulus_id)
    label_names = training_labels(plan, catalogue, split)
    labels = catalogue.labels_of(stimuli, names=label_names)
    _require_labelled(labels, names)
    data = trial_data(
        people,
        _gathered(people, tables, work_dir=plan.config.work_dir, scratch=scratch),
        [
            VoxelSpace(person.grid, own, np.full(len(own), -1), ())
            for person, own in zip(people, voxels, strict=True)
        ],
        common_space=plan.common_space,
        labels=labels,
        label_names=label_names,
        single_label=catalogue.stimuli.single_label,
        targets=guiding_targets(maker, catalogue, stimuli, names.tolist()),
        group_by="stimulus" if "unseen stimuli" in split.regime and not _shows_movies(plan) else "run",
    )
    known = _known(labels)
    _require_everyone_trains(data, (names == "train") & known)
    train = data.subset(np.flatnonzero((names == "train") & known))
    validation = data.subset(np.flatnonzero((names == "val") & known))
    images: tuple[str, ...] = ()
    if METHODS[method].reads_regions:
        atlas = choose_atlas(plan)
        regions = voxel_spaces(train, atlas)
        images = tuple(sorted({path.name for path in label_images(atlas, train)}))
        train, validation = replace(train, spaces=regions), replace(validation, spaces=regions)
    chosen = None if choice is None else choice.config
    return TrainingSet(train, validation, tuple(standardizations), chosen, images)


def stimuli_in(plan: Plan, split: Split, *wanted: SetName) -> list[str]:
    """Stimulus of each trial of these sets, of all participants."""
    sets = sets_of_runs(split, plan.event_runs, plan.trials)
    return [
        stimulus
        for run in plan.event_runs
        for stimulus, name in zip(plan.trials[run.key].stimulus_id, sets[run.key], strict=True)
        if name in wanted
    ]


def training_labels(plan: Plan, catalogue: Catalogue, split: Split) -> tuple[str, ...]:
    """Labels that occur, and are frequent enough, in the training trials of all participants.

    The same for a group's decoder and for each participant's own, so that their scores can be compared.

    Raises
    ------
    DataError
        If no label is left.
    """
    labels = catalogue.labels_of(stimuli_in(plan, split, "train"))
    frequency = np.nansum(labels, axis=0) / np.maximum((~np.isnan(labels)).sum(axis=0), 1)
    kept = (frequency > 0) & (frequency >= plan.hyperparameters.min_label_frequency)
    names = catalogue.stimuli.label_names
    lost = [name for name, keep in zip(names, kept, strict=True) if not keep]
    if lost:
        shown = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        logger.warning("%d label(s) too rare in the training data are left out: %s.", len(lost), shown)
    if len(lost) == len(names):
        raise DataError("no label occurs in the training data.", hint="check --labels and --split")
    return tuple(name for name, keep in zip(names, kept, strict=True) if keep)


def row_sets(person: ParticipantResponses, plan: Plan, split: Split | None) -> tuple[SetName, ...]:
    """Set of each stored row of a participant."""
    by_run = sets_of_runs(split, person.runs, plan.trials)
    return tuple(
        by_run[run.key][int(number) - 1]
        for run, file in zip(person.runs, person.stored, strict=True)
        for number in file.trial_number
    )


def standardization_unit(plan: Plan) -> str:
    """Unit of the z-scores: as asked for, else sessions for betas and runs otherwise."""
    wanted = plan.hyperparameters.responses.standardize
    if wanted != "auto":
        return wanted
    return "session" if plan.kind == "betas" else "run"


def _shows_movies(plan: Plan) -> bool:
    """Neighbouring samples of a movie are nearly one stimulus: only runs stay apart."""
    return any(plan.trials[run.key].continuous for run in plan.runs)


def participant_standardization(
    plan: Plan, person: ParticipantResponses, voxels: IntArray, split: Split
) -> Standardization:
    """Standardise one participant's voxels as the configuration says, by training trials of the split."""
    return fit_standardization(
        person,
        voxels,
        unit=standardization_unit(plan),
        scaling=plan.hyperparameters.responses.scaling,
        train=np.array([name == "train" for name in row_sets(person, plan, split)]),
    )


def _say_transductive(standardizations: Sequence[Standardization]) -> None:
    units = [one for scaling in standardizations for one in scaling.statistics.values()]
    n_transductive = sum(one.source == "transductive" for one in units)
    if n_transductive:
        logger.info(
            "Standardisation within %ss: %d of %d have too few training trials and are described by all their "
            "trials, without labels (transductive).",
            standardizations[0].unit, n_transductive, len(units),
        )  # fmt: skip


def _voxel_choice(
    plan: Plan,
    people: Sequence[ParticipantResponses],
    tables: Sequence[ResponseTable],
    sets: Sequence[Sequence[SetName]],
) -> VoxelChoice | None:
    n_voxels = plan.hyperparameters.responses.reliable_voxels
    if n_voxels == 0:
        return None
    return choose_voxels(
        tables,
        [person.stimulus_id for person in people],
        sets,
        participants=[person.participant for person in people],
        n_voxels=n_voxels,
        common_space=plan.common_space,
        seed=plan.config.random_seed,
    )


def _gathered(
    people: Sequence[ParticipantResponses],
    tables: Sequence[ResponseTable],
    *,
    work_dir: Path | None,
    scratch: ExitStack,
) -> list[ResponseTable]:
    """Rows of each participant; gathered on the fast disk where there is one."""
    if work_dir is None:
        return list(tables)
    folder = Path(scratch.enter_context(_scratch_folder(work_dir)))
    return [
        staged(table, folder / f"{person.participant}.float32")
        for person, table in zip(people, tables, strict=True)
    ]


def _require_everyone_trains(data: TrialData, train: BoolArray) -> None:
    """A decoder that claims a participant must have learnt something of them."""
    without = [p for k, p in enumerate(data.participants) if not train[data.participant == k].any()]
    if without:
        raise DataError(
            f"{', '.join(f'sub-{p}' for p in without)}: no labelled training trial in this split.",
            hint="leave them out with --exclude-participant-label, or make another --split",
        )


def _require_labelled(labels: FloatArray, names: Any) -> None:
    split_rows = np.isin(names, ["train", "val", "test"])
    known = _known(labels)[split_rows]
    if len(known) == 0:
        raise DataError(
            "no trial of these runs is in the split.", hint="--split names other runs; see split.tsv"
        )
    if not known.all():
        logger.warning("%d trial(s) without a label are left out.", int((~known).sum()))
    if known.mean() < SMALLEST_LABELLED_SHARE:
        raise DataError(
            f"{known.mean():.0%} of the trials have a label; expected at least {SMALLEST_LABELLED_SHARE:.0%}.",
            hint="check that --labels names the stimuli as the events do",
        )


def _known(labels: FloatArray) -> BoolArray:
    return np.asarray((~np.isnan(labels)).any(axis=1))


def _scratch_folder(work_dir: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="clipmused_", dir=work_dir)
    except OSError as error:
        raise CannotCreateError(
            f"--work-dir {work_dir}: {error.strerror}.", hint="choose another folder with --work-dir"
        ) from error
