"""What decides about a decoder, and whether the one that is stored was made so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from clipmused_bids import __version__
from clipmused_bids.config import HOW_TRAINING_RUNS, as_tables, merge
from clipmused_bids.dataset.files.atomic import remove
from clipmused_bids.dataset.files.comparison import differences
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    config_path,
    history_path,
    model_path,
    read_config,
    stored_participants,
)
from clipmused_bids.errors import CannotCreateError
from clipmused_bids.evaluation.cross_validation import Part, fold_numbers, parts_of
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import Split
from clipmused_bids.stages.atlas import atlas_hash, choose_atlas
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import mask_setting
from clipmused_bids.stages.splitting import split_hash
from clipmused_bids.stages.target_source import TargetSource, source_identity, stored_hyperparameters

FORMAT = 1


def stored_decoder_serves(
    folder: Path,
    *,
    participant: str | None,
    request: Mapping[str, Any],
    overwrite: bool,
) -> bool:
    """Whether the decoder that is asked for is stored already; nothing is changed.

    Raises
    ------
    CannotCreateError
        If a decoder of another configuration is in the way and ``overwrite`` is off.
    """
    if not overwrite:
        clear_the_way(folder, participant, request, overwrite=False)
    return is_done(folder, participant, request, overwrite=overwrite)


def decoder_request(
    plan: Plan,
    split: Split,
    *,
    members: Sequence[str],
    method: str,
    maker: TargetSource | None,
    part: Part | None = None,
) -> dict[str, Any]:
    """What decides about a decoder before anything is read; equal requests give equal decoders."""
    plan = fitted_to_everything(plan) if part is not None and part.of_all_folds else plan
    hyperparameters = without_how_it_runs(stored_hyperparameters(plan, maker))
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
        "split": {
            "rule": split.rule,
            "regime": split.regime,
            "hash": split_hash(split),
            **_place_among_folds(split, part),
        },
        "random_seed": plan.config.random_seed,
        "version": __version__,
    }


def without_how_it_runs(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of hyper-parameters without those that are the business of a machine, and of no decoder."""
    if "training" not in hyperparameters:
        return dict(hyperparameters)
    training = hyperparameters["training"]
    kept = {name: value for name, value in training.items() if name not in HOW_TRAINING_RUNS}
    return {**hyperparameters, "training": kept}


def _place_among_folds(split: Split, part: Part | None) -> dict[str, Any]:
    """Which fold a decoder was fitted without, or that it was fitted to all; nothing without folds."""
    folds = fold_numbers(split)
    if part is None or not folds:
        return {}
    return {
        "folds": len(folds),
        "held_out": part.fold if part.fold is not None else "none: fitted to all folds",
    }


def clear_the_way(
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
        stored = read_config(folder, participant=other)
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


def is_done(folder: Path, participant: str | None, request: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether a decoder of this request is stored in a folder.

    Raises
    ------
    CannotCreateError
        If one of another configuration is, and ``overwrite`` is off; names the difference.
    """
    if not model_path(folder, participant=participant).exists() or overwrite:
        return False
    stored = read_config(folder, participant=participant)
    lines = differences({name: stored.get(name) for name in request}, request, sides=("then", "now"))
    if lines:
        raise CannotCreateError(
            f"{folder.name}: a decoder of another configuration is stored: {'; '.join(lines[:6])}.",
            hint="--overwrite trains it again; another --model-label keeps both",
        )
    return True


def fitted_to_everything(plan: Plan) -> Plan:
    """The decoder of all folds is fitted to validation trials too, once they have chosen its epoch."""
    return replace(plan, hyperparameters=replace(plan.hyperparameters, fit_on="train+validation"))


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
    method = plan.config.method
    for part, (members, participant) in product(parts_of(split), decoders_of(plan, method=method)):
        request = decoder_request(plan, split, members=members, method=method, maker=maker, part=part)
        for name in ("participants", "runs", "mask", "atlas_sha256"):
            request.pop(name)
        folder = tree.model_folder(plan.config.model_label, fold=part.fold)
        is_done(folder, participant, request, overwrite=False)
