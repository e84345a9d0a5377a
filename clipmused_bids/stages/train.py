"""From stored responses to a stored decoder."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.config import as_tables
from clipmused_bids.dataset.comparison import differences, grid_fields
from clipmused_bids.dataset.contents import read_json
from clipmused_bids.dataset.description import write_descriptions
from clipmused_bids.dataset.outputs import OutputTree
from clipmused_bids.dataset.weights import config_path, model_path, save_model, voxel_hash
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.methods.registry import METHODS, create
from clipmused_bids.records import BoolArray, FloatArray, SetName, Split, Targets, TrialData, VoxelSpace
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    Standardization,
    fit_standardization,
    open_responses,
    response_table,
    staged,
    trial_data,
    usable_voxels,
)
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import TargetMaker, load_targets
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import mask_setting
from clipmused_bids.stages.regions import voxel_spaces
from clipmused_bids.stages.splitting import sets_of_runs, split_hash
from clipmused_bids.stages.stored_model import standardization_tensors, voxel_tensors

logger = logging.getLogger(__name__)

FORMAT = 1
SMALLEST_LABELLED_SHARE = 0.5


@dataclass(frozen=True)
class TrainingSet:
    """Everything a method is fitted to, and what must be stored with it.

    Parameters
    ----------
    train, validation : TrialData
    standardizations : tuple of Standardization
        One for each participant.
    label_rows : ndarray of int
        Labels kept, as positions among all labels of the catalogue.
    """

    train: TrialData
    validation: TrialData
    standardizations: tuple[Standardization, ...]


def train_group(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    *,
    method: str,
    model_label: str,
    maker: TargetMaker | None,
    device: str,
) -> None:
    """Train one decoder for all participants; methods that know one participant get one decoder each."""
    people = (
        [[p] for p in plan.participants] if METHODS[method].per_participant else [list(plan.participants)]
    )
    for members in people:
        participant = members[0] if METHODS[method].per_participant else None
        train_decoder(
            plan, tree, catalogue, split, members=members, participant=participant, method=method,
            model_label=model_label, maker=maker, device=device,
        )  # fmt: skip


def train_decoder(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    *,
    members: Sequence[str],
    participant: str | None,
    method: str,
    model_label: str,
    maker: TargetMaker | None,
    device: str,
) -> None:
    """Train one decoder for ``members`` and store it, unless it is stored already.

    Raises
    ------
    CannotCreateError
        If a decoder of another configuration is stored under this label and ``overwrite`` is off.
    """
    folder = tree.model_folder(model_label)
    request = decoder_request(plan, split, members=members, method=method, maker=maker)
    whose = f"sub-{participant}" if participant else "group"
    if _is_done(folder, participant, request, overwrite=plan.config.overwrite):
        logger.info("%s: decoder %s reused.", whose, model_label)
        return
    with ExitStack() as scratch:
        training = training_set(plan, tree, catalogue, split, members=members, method=method, maker=maker,
                                scratch=scratch)  # fmt: skip
        logger.info(
            "%s: %s %s: %d training and %d validation trials of %d participant(s), %d labels.",
            whose, "training" if METHODS[method].deep else "fitting", method, training.train.n_trials,
            training.validation.n_trials, len(members), len(training.train.label_names),
        )  # fmt: skip
        fitted = create(
            method, hyperparameters=plan.hyperparameters, seed=plan.config.random_seed, device=device
        )
        history = fitted.fit(training.train, training.validation, report=_log_epoch)
    tensors = {f"decoder.{name}": value for name, value in fitted.state().items()}
    tensors |= standardization_tensors(members, training.standardizations)
    tensors |= voxel_tensors(training.train)
    config = {
        **request,
        **_fitted_config(training, plan),
        "decoder": fitted.config(),
        "parameters": fitted.summary(),
        "best_epoch": history.best_epoch,
        "stopped": history.stopped,
    }
    save_model(folder, participant=participant, tensors=tensors, config=config, history=history)
    write_descriptions(tree)
    logger.info("%s: decoder stored as %s.", whose, model_path(folder, participant=participant))


def decoder_request(
    plan: Plan, split: Split, *, members: Sequence[str], method: str, maker: TargetMaker | None
) -> dict[str, Any]:
    """What decides about a decoder before anything is read; equal requests give equal decoders."""
    hyperparameters = as_tables(plan.hyperparameters)
    used = {"responses", "min_label_frequency"} | (
        {"targets", "model", "training"} if METHODS[method].deep else {"linear"}
    )
    inputs = as_tables(plan.config.inputs)
    for name in ("derivatives", "stimuli_dirs", "labels", "captions", "mask"):
        # Places differ between machines; what they held is compared by hashes and names.
        inputs.pop(name, None)
    atlas = inputs.pop("atlas", None)
    return {
        "format": FORMAT,
        "method": method,
        "participants": list(members),
        "preset": plan.preset if METHODS[method].deep else None,
        "hyperparameters": {name: value for name, value in hyperparameters.items() if name in used},
        "inputs": {**inputs, "atlas": Path(atlas).name if atlas else None},
        "mask": mask_setting(plan, members[0]),
        "response_kind": plan.kind,
        "space": plan.runs[0].space,
        "common_space": plan.common_space,
        "tasks": sorted({run.task for run in plan.runs}),
        "runs": sorted(run.key for run in plan.runs if run.participant in members),
        "clip": None
        if maker is None
        else {"model": maker.clip.name, "weights_sha256": maker.clip.weights_hash},
        "split": {"rule": split.rule, "regime": split.regime, "hash": split_hash(split)},
        "random_seed": plan.config.random_seed,
        "version": __version__,
    }


def training_set(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    *,
    members: Sequence[str],
    method: str,
    maker: TargetMaker | None,
    scratch: ExitStack,
) -> TrainingSet:
    """Open responses and lay out training and validation trials; test responses are never among them."""
    people = [open_responses(tree, p, plan.runs_of(p), kind=plan.kind) for p in members]
    voxels = usable_voxels(people, common_space=plan.common_space)
    sets = [row_sets(person, plan, split) for person in people]
    unit = standardization_unit(plan)
    standardizations = tuple(
        fit_standardization(person, own, unit=unit, train=np.array([name == "train" for name in names]))
        for person, own, names in zip(people, voxels, sets, strict=True)
    )
    tables = [
        response_table(person, own, standardization)
        for person, own, standardization in zip(people, voxels, standardizations, strict=True)
    ]
    if plan.config.work_dir is not None:
        folder = scratch.enter_context(_scratch_folder(plan.config.work_dir))
        tables = [
            staged(table, str(Path(folder) / f"{p}.npy")) for p, table in zip(members, tables, strict=True)
        ]
    spaces = [
        VoxelSpace(person.grid, own, np.full(len(own), -1), ())
        for person, own in zip(people, voxels, strict=True)
    ]
    names = np.array([name for person in sets for name in person])
    stimuli = tuple(name for person in people for name in person.stimulus_id)
    labels = catalogue.labels_of(stimuli)
    kept, label_names = _training_labels(
        labels,
        catalogue.stimuli.label_names,
        train=names == "train",
        least=plan.hyperparameters.min_label_frequency,
    )
    data = trial_data(
        people, tables, spaces, common_space=plan.common_space, labels=labels[:, kept], label_names=label_names,
        single_label=catalogue.stimuli.single_label,
        targets=_targets(maker, catalogue, stimuli, names),
        group_by="run" if split.rule in {"runs", "tail"} else "stimulus",
    )  # fmt: skip
    labelled: BoolArray = np.asarray((~np.isnan(data.labels)).any(axis=1))
    _require_labelled(labelled, names)
    train = data.subset(np.flatnonzero((names == "train") & labelled))
    if METHODS[method].deep:
        regions = voxel_spaces(plan, train)
        train, data = replace(train, spaces=regions), replace(data, spaces=regions)
    validation = data.subset(np.flatnonzero((names == "val") & labelled))
    return TrainingSet(train=train, validation=validation, standardizations=standardizations)


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


def _targets(
    maker: TargetMaker | None, catalogue: Catalogue, stimuli: Sequence[str], names: Any
) -> Targets | None:
    """Targets of training and validation stimuli only: what is not loaded cannot leak."""
    if maker is None:
        return None
    seen = sorted(
        {stimulus for stimulus, name in zip(stimuli, names, strict=True) if name in {"train", "val"}}
    )
    targets = load_targets(maker, catalogue, seen)
    logger.info("Guidance: high level from %s; low level %s.", targets.high_source,
                "from the images" if targets.low is not None else "off (no images)")  # fmt: skip
    return targets


def _training_labels(
    labels: FloatArray, names: tuple[str, ...], *, train: BoolArray, least: float
) -> tuple[Any, tuple[str, ...]]:
    """Labels that occur, and are frequent enough, in the training data."""
    known = ~np.isnan(labels[train])
    frequency = np.nansum(labels[train], axis=0) / np.maximum(known.sum(axis=0), 1)
    kept = np.flatnonzero((frequency > 0) & (frequency >= least))
    lost = [name for k, name in enumerate(names) if k not in set(kept.tolist())]
    if lost:
        logger.warning("%d label(s) too rare in the training data are left out: %s%s.", len(lost),
                       ", ".join(lost[:5]), ", ..." if len(lost) > 5 else "")  # fmt: skip
    if len(kept) == 0:
        raise DataError("no label occurs in the training data.", hint="check --labels and --split")
    return kept, tuple(names[k] for k in kept)


def _require_labelled(labelled: BoolArray, names: Any) -> None:
    split_rows = np.isin(names, ["train", "val", "test"])
    share = labelled[split_rows].mean() if split_rows.any() else 0.0
    if share < 1:
        logger.warning("%d trial(s) without a label are left out.", int((~labelled[split_rows]).sum()))
    if share < SMALLEST_LABELLED_SHARE:
        raise DataError(
            f"{share:.0%} of the trials have a label; expected at least {SMALLEST_LABELLED_SHARE:.0%}.",
            hint="check that --labels names the stimuli as the events do",
        )


def _is_done(folder: Path, participant: str | None, request: Mapping[str, Any], *, overwrite: bool) -> bool:
    if not model_path(folder, participant=participant).exists() or overwrite:
        return False
    stored = read_json(config_path(folder, participant=participant))
    lines = differences({name: stored.get(name) for name in request}, request, sides=("then", "now"))
    if lines:
        raise CannotCreateError(
            f"{folder.name}: a decoder of another configuration is stored: {'; '.join(lines[:6])}.",
            hint="--overwrite trains it again; another --model-label keeps both",
        )
    return True


def _fitted_config(training: TrainingSet, plan: Plan) -> dict[str, Any]:
    data = training.train
    targets = data.targets
    return {
        "label_names": list(data.label_names),
        "single_label": data.single_label,
        "n_training_trials": data.n_trials,
        "n_validation_trials": training.validation.n_trials,
        "grids": {
            p: grid_fields(space.grid) for p, space in zip(data.participants, data.spaces, strict=True)
        },
        "masks": {
            p: voxel_hash(space.grid, space.voxels)
            for p, space in zip(data.participants, data.spaces, strict=True)
        },
        "region_names": list(data.spaces[0].region_names),
        "standardization": {
            "unit": standardization_unit(plan),
            "sources": {
                name: statistics.source
                for one in training.standardizations
                for name, statistics in one.statistics.items()
            },
        },
        "guidance": {
            "high": targets.high_source if targets is not None else "none",
            "low": "images" if targets is not None and targets.low is not None else "off",
        },
    }


def _scratch_folder(work_dir: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="clipmused_", dir=work_dir)
    except OSError as error:
        raise CannotCreateError(f"--work-dir {work_dir}: {error.strerror}.") from error


def _log_epoch(values: dict[str, Any]) -> None:
    logger.debug("%s", ", ".join(f"{name} {_shown(value)}" for name, value in values.items()))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
