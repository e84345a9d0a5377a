"""From stored responses to a stored decoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clipmused_bids import __version__
from clipmused_bids.config import as_tables, build_hyperparameters, merge
from clipmused_bids.dataset.files.atomic import remove
from clipmused_bids.dataset.files.comparison import differences, grid_fields
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.description import write_descriptions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    config_path,
    history_path,
    model_path,
    save_model,
    stored_participants,
    voxel_hash,
)
from clipmused_bids.errors import CannotCreateError
from clipmused_bids.methods.registry import METHODS, create
from clipmused_bids.records import Split
from clipmused_bids.stages.atlas import atlas_hash, choose_atlas
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.illustrate import draw_training
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import mask_setting
from clipmused_bids.stages.progress import epoch_report
from clipmused_bids.stages.splitting import keep_split, split_hash
from clipmused_bids.stages.stored_model import standardization_tensors, voxel_tensors
from clipmused_bids.stages.target_source import TargetSource, source_identity, stored_hyperparameters
from clipmused_bids.stages.training_set import TrainingSet, standardization_unit, stimuli_in, training_set

logger = logging.getLogger(__name__)

FORMAT = 1


def train_group(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    *,
    method: str,
    model_label: str,
    maker: TargetSource | None,
    device: str,
) -> None:
    """Train one decoder for all participants; methods that know one participant get one decoder each."""
    for members, participant in decoders_of(plan, method=method):
        train_decoder(
            plan, tree, catalogue, split, members=members, participant=participant, method=method,
            model_label=model_label, maker=maker, device=device,
        )  # fmt: skip


def decoders_of(plan: Plan, *, method: str) -> list[tuple[list[str], str | None]]:
    """Members of each decoder that is trained, and the participant it is of; None for everyone's."""
    if plan.config.level == "participant" or METHODS[method].per_participant:
        return [([p], p) for p in plan.participants]
    return [(list(plan.participants), None)]


def refuse_other_decoders(plan: Plan, split: Split, tree: OutputTree, *, maker: TargetSource | None) -> None:
    """Refuse to train over decoders of another configuration, before anything is computed.

    Who takes part and with which runs is compared when training starts, since participants may fail before.

    Raises
    ------
    CannotCreateError
        Names the difference.
    """
    if plan.config.overwrite:
        return
    for members, participant in decoders_of(plan, method=plan.config.method):
        request = decoder_request(plan, split, members=members, method=plan.config.method, maker=maker)
        for name in ("participants", "runs", "mask", "atlas_sha256"):
            request.pop(name)
        _is_done(tree.model_folder(plan.config.model_label), participant, request, overwrite=False)


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
    maker: TargetSource | None,
    device: str,
) -> None:
    """Train one decoder for ``members`` and store it, unless it is stored already.

    Raises
    ------
    CannotCreateError
        If a decoder of another configuration is stored under this label and ``overwrite`` is off.
    """
    folder = tree.model_folder(model_label)
    request = {
        **decoder_request(plan, split, members=members, method=method, maker=maker),
        "left_out": list(catalogue.left_out),
        "stimuli": catalogue.hashes_of(
            set(stimuli_in(plan, split, "train", "val")),
            guiding=METHODS[method].guided and plan.config.inputs.targets is None,
        ),
    }
    whose = f"sub-{participant}" if participant else "group"
    _clear_the_way(folder, participant, request, overwrite=plan.config.overwrite)
    done = _is_done(folder, participant, request, overwrite=plan.config.overwrite)
    # Not before a decoder of another configuration is refused: its split must stay as it is.
    keep_split(split, tree, model_label=model_label, overwrite=plan.config.overwrite)
    if done:
        logger.info("%s: decoder %s reused.", whose, model_label)
        return
    with ExitStack() as scratch:
        training = training_set(plan, tree, catalogue, split, members=members, method=method, maker=maker,
                                scratch=scratch)  # fmt: skip
        options = plan.hyperparameters.training
        logger.info(
            "%s: %s %s: %d training and %d validation trials of %d participant(s), %d labels%s.",
            whose, "training" if METHODS[method].deep else "fitting", method, training.train.n_trials,
            training.validation.n_trials, len(members), len(training.train.label_names),
            f"; at most {options.max_epochs} epochs of {-(-training.train.n_trials // options.batch_size)} steps"
            if METHODS[method].deep else "",
        )  # fmt: skip
        portable = build_hyperparameters(stored_hyperparameters(plan, maker))
        fitted = create(method, hyperparameters=portable, seed=plan.config.random_seed, device=device)
        history = fitted.fit(training.train, training.validation, report=epoch_report(options.max_epochs))
    tensors = {f"decoder.{name}": value for name, value in fitted.state().items()}
    tensors |= standardization_tensors(members, training.standardizations)
    tensors |= voxel_tensors(training.train)
    config = {
        **request,
        **fitted_config(training, plan, catalogue),
        "decoder": fitted.config(),
        "parameters": fitted.summary(),
        "best_epoch": history.best_epoch,
        "stopped": history.stopped,
    }
    save_model(folder, participant=participant, tensors=tensors, config=config, history=history)
    if METHODS[method].deep:
        draw_training(folder, history, participant=participant)
    write_descriptions(tree)
    logger.info("%s: decoder stored as %s.", whose, model_path(folder, participant=participant))


def stored_decoder_serves(
    tree: OutputTree,
    *,
    participant: str | None,
    model_label: str,
    request: Mapping[str, Any],
    overwrite: bool,
) -> bool:
    """Whether the decoder that is asked for is stored already; nothing is changed.

    Raises
    ------
    CannotCreateError
        If a decoder of another configuration is in the way and ``overwrite`` is off.
    """
    folder = tree.model_folder(model_label)
    if not overwrite:
        _clear_the_way(folder, participant, request, overwrite=False)
    return _is_done(folder, participant, request, overwrite=overwrite)


def decoder_request(
    plan: Plan, split: Split, *, members: Sequence[str], method: str, maker: TargetSource | None
) -> dict[str, Any]:
    """What decides about a decoder before anything is read; equal requests give equal decoders."""
    hyperparameters = stored_hyperparameters(plan, maker)
    # Alignments and readouts of the deep method are ridge regressions, so it reads the linear options too.
    used = {"responses", "min_label_frequency", "fit_on", "linear"} | (
        {"model", "training"} if METHODS[method].deep else set()
    )
    if METHODS[method].guided:
        used.add("targets")
    inputs = as_tables(plan.config.inputs)
    for name in (
        "derivatives", "betas", "stimuli_dirs", "stimulus_map", "labels", "captions", "targets", "movie", "mask",
    ):  # fmt: skip
        # Places differ between machines; what they held is compared by hashes and names.
        inputs.pop(name, None)
    inputs.pop("atlas", None)
    atlas = choose_atlas(plan) if METHODS[method].reads_regions else None
    return {
        "format": FORMAT,
        "method": method,
        "participants": list(members),
        "preset": plan.preset if METHODS[method].deep else None,
        "hyperparameters": merge(
            {name: value for name, value in hyperparameters.items() if name in used},
            {"responses": {"kind": plan.kind}},
        ),
        "inputs": {**inputs, "atlas": None if atlas is None else atlas.label},
        "atlas_sha256": None if atlas is None else atlas_hash(atlas, members),
        "mask": mask_setting(plan, members[0]),
        "response_kind": plan.kind,
        "space": plan.runs[0].space,
        "common_space": plan.common_space,
        "tasks": sorted({run.task for run in plan.runs}),
        "runs": sorted(run.key for run in plan.runs if run.participant in members),
        "clip": None if maker is None else source_identity(maker),
        "split": {"rule": split.rule, "regime": split.regime, "hash": split_hash(split)},
        "random_seed": plan.config.random_seed,
        "version": __version__,
    }


def _clear_the_way(
    folder: Path, participant: str | None, request: Mapping[str, Any], *, overwrite: bool
) -> None:
    """See that no other decoder under this label would decode these people instead of the one to be trained.

    Raises
    ------
    CannotCreateError
        If there is one and ``overwrite`` is off; names it.
    """
    # The group's decoder and a participant's own are rivals where the group knows the participant.
    others: list[str | None] = [] if participant is not None else list(stored_participants(folder))
    if participant is not None and model_path(folder, participant=None).exists():
        others.append(None)
    for other in others:
        stored = read_json(config_path(folder, participant=other))
        if not set(stored["participants"]) & set(request["participants"]):
            continue
        path = model_path(folder, participant=other)
        if not overwrite:
            raise CannotCreateError(
                f"{folder.name}: {path.name} (method {stored['method']}) is stored under this label for "
                f"{', '.join(f'sub-{p}' for p in stored['participants'])}.",
                hint="another --model-label keeps both; --overwrite removes it",
            )
        for old in (path, config_path(folder, participant=other), history_path(folder, participant=other)):
            remove(old)


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


def fitted_config(training: TrainingSet, plan: Plan, catalogue: Catalogue) -> dict[str, Any]:
    """What was fitted beside the decoder, and to what, as stored with it."""
    data = training.train
    targets = data.targets
    return {
        "label_names": list(data.label_names),
        "labels_left_out": [name for name in catalogue.stimuli.label_names if name not in data.label_names],
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
        "atlas_images": list(training.atlas_images),
        "standardization": {
            "unit": standardization_unit(plan),
            "scaling": plan.hyperparameters.responses.scaling,
            "sources": {
                name: statistics.source
                for one in training.standardizations
                for name, statistics in one.statistics.items()
            },
        },
        "voxel_choice": training.voxel_choice,
        "guidance": {
            "high": targets.high_source if targets is not None else "none",
            "low": targets.low_source if targets is not None and targets.low is not None else "off",
        },
    }
