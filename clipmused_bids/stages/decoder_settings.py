"""What a stored decoder fixes, and what of it a request may say otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmused_bids.config import Config, InputOptions, as_tables, checked_inputs, merge
from clipmused_bids.dataset.atlases.atlas_files import atlas_label
from clipmused_bids.dataset.files.comparison import grid_fields
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    ModelRecord,
    check_model,
    load_model,
    model_path,
    stored_participants,
)
from clipmused_bids.dataset.stimuli.target_files import open_target_file
from clipmused_bids.errors import MissingInputError
from clipmused_bids.records import Split
from clipmused_bids.report.leak_notes import leakage_fields
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.contenders import asked_hyperparameters
from clipmused_bids.stages.decoder_request import without_how_it_runs
from clipmused_bids.stages.newcomer_split import base_config
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.portable import places_of, without_places
from clipmused_bids.stages.prepare import mask_hash
from clipmused_bids.stages.splitting import split_hash
from clipmused_bids.stages.target_source import source_identity

# How rows of new events become trials is the request's business: what was imagined is named otherwise than what was
# seen. Stored responses know how theirs were read and refuse another reading.
_EVENTS_INPUTS = ("trial_types", "stimulus_column", "merge_blocks")


def config_of_decoder(config: Config, tree: OutputTree) -> Config:
    """Read data as the decoder's training data were read: its settings stand where the request is silent.

    Raises
    ------
    DataError
        If the request names another setting (mask, CLIP model, response, ...); names each with both sides.
    MissingInputError
        If there is no decoder of this label.
    """
    label = config.base_model or config.model_label
    if config.base_model is not None:
        base_config(tree, label=config.base_model)
    folder = tree.model_folder(label)
    group, own = model_path(folder, participant=None), stored_participants(folder)
    if not group.exists() and not own:
        raise MissingInputError(
            f"{folder}: there is no decoder {label}.",
            hint="train one: clipmused-bids BIDS_DIR OUTPUT_DIR group --train",
        )
    stored = load_model(folder, participant=None if group.exists() else own[0]).config
    hyperparameters = stored["hyperparameters"]
    free = {"atlas", *_explicit_inputs(config, _EVENTS_INPUTS)}
    inputs = {name: value for name, value in stored["inputs"].items() if name not in free}
    request = _explicit_request(
        config, hyperparameters=hyperparameters, inputs=stored["inputs"], mask=stored["mask"]
    )
    if config.inputs.targets is not None and stored["clip"] is not None:
        request["clip"] = source_identity(open_target_file(Path(config.inputs.targets)))
    check_model(
        {**stored, "hyperparameters": hyperparameters},
        request,
        name=f"the decoder {label}",
    )
    return replace(
        config,
        inputs=replace(config.inputs, **checked_inputs(inputs)),
        overrides=merge(
            asked_hyperparameters(stored), {**places_of(config.overrides), **_of_scores(config.overrides)}
        ),
        method=stored["method"],
        variant=stored.get("variant", stored["method"]),
        preset=stored["preset"] or config.preset,
        selection=replace(
            config.selection,
            space=config.selection.space or stored["space"],
            tasks=config.selection.tasks or tuple(stored["tasks"]),
        ),
        trained_mask=stored["mask"],
        # Baselines of a decoder that was trained all the same are fitted to the same split.
        allow_leakage=config.allow_leakage or bool(leakage_fields(stored)["Leakage"]),
    )


def data_request(
    plan: Plan,
    person: ParticipantResponses,
    model: ModelRecord,
    label_names: Sequence[str],
    *,
    split: Split | None,
) -> dict[str, Any]:
    """What data and options at hand say about what a decoder was trained with; for `check_model`."""
    request: dict[str, Any] = {"response_kind": plan.kind, "common_space": plan.common_space}
    if split is not None:
        # Under another split, trials the decoder was fitted to would be scored as held out.
        request["split"] = {**model.config["split"], "hash": split_hash(split)}
    grids = model.config["grids"]
    like = person.participant if person.participant in grids else next(iter(grids))
    if like == person.participant or plan.common_space:
        request["grids"] = {**grids, like: grid_fields(person.grid)}
    if label_names:
        # Labels too rare in the training data were left out of the decoder, not of the tables.
        left_out = set(model.config["labels_left_out"])
        request["label_names"] = [name for name in label_names if name not in left_out]
    return request


def _explicit_request(
    config: Config, *, hyperparameters: Mapping[str, Any], inputs: Mapping[str, Any], mask: str
) -> dict[str, Any]:
    """What the command line itself says about settings that a decoder fixes; all else is as stored."""
    named = without_how_it_runs(without_places(config.overrides))
    given = {name: value for name, value in named.items() if name in hyperparameters}
    explicit = _explicit_inputs(config, [name for name in inputs if name not in _EVENTS_INPUTS])
    if config.inputs.atlas is not None:
        n_regions = hyperparameters.get("model", {}).get("n_regions", 0)
        explicit["atlas"] = atlas_label(config.inputs.atlas, n_regions=n_regions)
    request: dict[str, Any] = {
        "hyperparameters": merge(hyperparameters, given),
        "inputs": {**inputs, **explicit},
        "mask": mask if config.inputs.mask is None else mask_hash(config.inputs.mask),
    }
    if config.selection.space is not None:
        request["space"] = config.selection.space
    return request


def _explicit_inputs(config: Config, names: Iterable[str]) -> dict[str, Any]:
    """Inputs that the command line sets to something else than their default."""
    asked, default = as_tables(config.inputs), as_tables(InputOptions())
    return {name: asked[name] for name in names if name in asked and asked[name] != default.get(name)}


def _of_scores(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """How decoders are scored, and their maps made, is the request's business alone."""
    return {name: overrides[name] for name in ("evaluation", "maps") if name in overrides}
