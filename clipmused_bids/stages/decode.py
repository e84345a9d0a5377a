"""From a stored decoder and new or held-out responses to predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.config import Config, InputOptions, as_tables, checked_inputs, merge
from clipmused_bids.dataset.atlases.atlas_files import atlas_label
from clipmused_bids.dataset.files.comparison import grid_fields
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.prediction_files import Predictions, write_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    StoredModel,
    check_model,
    config_path,
    load_model,
    model_path,
    stored_participants,
)
from clipmused_bids.dataset.stimuli.target_files import open_target_file
from clipmused_bids.errors import MissingInputError
from clipmused_bids.records import FloatArray, IntArray, ResponseTable, Split, TrialData
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    open_responses,
)
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.newcomer_split import base_config
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.portable import places_of, without_places
from clipmused_bids.stages.prepare import mask_hash
from clipmused_bids.stages.splitting import sets_of_runs, split_hash
from clipmused_bids.stages.standardized import (
    Standardization,
    fit_standardization,
    response_table,
)
from clipmused_bids.stages.stored_model import stored_decoder, stored_space, stored_standardization
from clipmused_bids.stages.target_source import source_identity

logger = logging.getLogger(__name__)

# How rows of new events become trials is the request's business: what was imagined is named otherwise than what was
# seen. Stored responses know how theirs were read and refuse another reading.
_EVENTS_INPUTS = ("trial_types", "stimulus_column", "merge_blocks")


def decoder_of(tree: OutputTree, participant: str, *, model_label: str) -> StoredModel:
    """Load the group decoder if it knows the participant, else the participant's own.

    Raises
    ------
    MissingInputError
        If there is neither; names the participants that have one.
    """
    folder = tree.model_folder(model_label)
    known: list[str] = list(stored_participants(folder))
    if model_path(folder, participant=None).exists():
        model = load_model(folder, participant=None)
        if participant in model.config["participants"]:
            return model
        known += model.config["participants"]
    if participant in stored_participants(folder):
        return load_model(folder, participant=participant)
    listed = f"it knows {', '.join(f'sub-{p}' for p in sorted(set(known)))}" if known else "there is none"
    raise MissingInputError(
        f"sub-{participant}: no decoder {model_label} for this participant; {listed}.",
        hint="train one: clipmused-bids BIDS_DIR OUTPUT_DIR group --train",
    )


def left_out_by(tree: OutputTree, *, model_label: str) -> tuple[str, ...]:
    """Stimuli that the decoders of this label were trained without, since their pictures could not be read."""
    folder = tree.model_folder(model_label)
    group: list[str | None] = [None] if model_path(folder, participant=None).exists() else []
    stored = (read_json(config_path(folder, participant=p)) for p in (*group, *stored_participants(folder)))
    return tuple(sorted({name for config in stored for name in config.get("left_out", ())}))


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
        overrides=merge(hyperparameters, places_of(config.overrides)),
        method=stored["method"],
        preset=stored["preset"] or config.preset,
        selection=replace(
            config.selection,
            space=config.selection.space or stored["space"],
            tasks=config.selection.tasks or tuple(stored["tasks"]),
        ),
        trained_mask=stored["mask"],
    )


def decode_participants(
    plan: Plan,
    tree: OutputTree,
    split: Split | None,
    *,
    model_label: str,
    failures: Failures,
    label_names: Sequence[str],
) -> None:
    """Write predictions for all prepared runs of the plan's participants.

    Parameters
    ----------
    label_names : sequence of str
        Labels that the request brings (``--labels``); must be the decoder's. Empty: not asked.
    """
    n_runs = n_trials = 0
    for participant in plan.participants:
        with failures.of_participant(participant):
            model = decoder_of(tree, participant, model_label=model_label)
            person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
            check_model(
                model.config,
                _data_request(plan, person, model, label_names, split=split),
                name=f"the decoder {model_label} ({model.path.name})",
            )
            probabilities = predict(model, person)
            _write(
                plan, tree, split, person, model=model, probabilities=probabilities, model_label=model_label
            )
            n_runs += len(person.runs)
            n_trials += len(probabilities)
    logger.info("Predictions (%s): %d trials in %d run(s).", model_label, n_trials, n_runs)


def predict(model: StoredModel, person: ParticipantResponses) -> FloatArray:
    """Probabilities of a participant's stored trials, (n_rows, C); no stimulus, label or target is looked at."""
    known = stored_standardization(model, person.participant)
    table, standardization = _standardized(model, person)
    for name in sorted(set(standardization.statistics) - set(known.statistics)):
        logger.info(
            "%s was not in the training data: standardised by its own responses (transductive).", name
        )
    return stored_decoder(model).predict_proba(_unlabelled(model, person.participant, table))


def predict_averaged(
    model: StoredModel, person: ParticipantResponses, groups: Sequence[IntArray]
) -> FloatArray:
    """Probabilities of standardised responses that are averaged over rows before they are decoded.

    Parameters
    ----------
    model : StoredModel
    person : ParticipantResponses
    groups : sequence of ndarray of int
        Rows of each average.

    Returns
    -------
    ndarray of shape (n_groups, C)
    """
    table, _ = _standardized(model, person)
    averaged = np.stack([table.read(rows).mean(axis=0) for rows in groups])
    n_voxels = averaged.shape[1]
    zero, one = np.zeros(n_voxels, dtype=np.float32), np.ones(n_voxels, dtype=np.float32)
    table = ResponseTable((averaged,), (np.arange(n_voxels),), (zero,), (one,))
    return stored_decoder(model).predict_proba(_unlabelled(model, person.participant, table))


def _standardized(model: StoredModel, person: ParticipantResponses) -> tuple[ResponseTable, Standardization]:
    """Stored statistics for the units of the training data; a unit that is new is described by itself."""
    space = stored_space(model, person.participant)
    known = stored_standardization(model, person.participant)
    nothing = np.zeros(len(person.run_key), dtype=bool)
    standardization = fit_standardization(
        person, space.voxels, unit=known.unit, scaling=known.scaling, train=nothing, known=known
    )
    return response_table(person, space.voxels, standardization), standardization


def _unlabelled(model: StoredModel, participant: str, table: ResponseTable) -> TrialData:
    """Trials of one participant of which nothing but the responses is known."""
    names = tuple(model.config["label_names"])
    n_rows = table.n_rows
    return TrialData(
        participants=(participant,),
        responses=(table,),
        spaces=(stored_space(model, participant),),
        common_space=model.config["common_space"],
        participant=np.zeros(n_rows, dtype=np.int64),
        row=np.arange(n_rows),
        labels=np.full((n_rows, len(names)), np.nan, dtype=np.float32),
        label_names=names,
        single_label=model.config["single_label"],
        stimulus=np.full(n_rows, -1),
        stimulus_id=("",) * n_rows,
        targets=None,
        group=np.arange(n_rows),
    )


def _write(
    plan: Plan,
    tree: OutputTree,
    split: Split | None,
    person: ParticipantResponses,
    *,
    model: StoredModel,
    probabilities: FloatArray,
    model_label: str,
) -> None:
    sets = sets_of_runs(split, person.runs, plan.trials)
    start = 0
    for run, file in zip(person.runs, person.stored, strict=True):
        rows = slice(start, start + len(file.values))
        start = rows.stop
        predictions = Predictions(
            onset=file.trials.onset,
            duration=file.trials.duration,
            trial_number=file.trial_number,
            stimulus_id=file.trials.stimulus_id,
            set_name=tuple(sets[run.key][int(number) - 1] for number in file.trial_number),
            fold=(None,) * len(file.values),
            label_names=tuple(model.config["label_names"]),
            probabilities=np.asarray(probabilities[rows], dtype=np.float64),
        )
        write_predictions(
            tree,
            run,
            predictions,
            model_label=model_label,
            sources=[tree.uri(file.path), tree.uri(model.path)],
            details={
                "Method": model.config["method"],
                "WeightsHash": model.weights_hash,
                "Regime": model.config["split"]["regime"],
                "SplitHash": model.config["split"]["hash"],
                "Guidance": model.config["guidance"],
            },
        )


def _explicit_request(
    config: Config, *, hyperparameters: Mapping[str, Any], inputs: Mapping[str, Any], mask: str
) -> dict[str, Any]:
    """What the command line itself says about settings that a decoder fixes; all else is as stored."""
    named = without_places(config.overrides)
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


def _data_request(
    plan: Plan,
    person: ParticipantResponses,
    model: StoredModel,
    label_names: Sequence[str],
    *,
    split: Split | None,
) -> dict[str, Any]:
    request: dict[str, Any] = {"response_kind": plan.kind, "common_space": plan.common_space}
    if split is not None:
        # Under another split, trials the decoder was fitted to would be scored as held out.
        request["split"] = {**model.config["split"], "hash": split_hash(split)}
    if person.participant in model.config["grids"]:
        request["grids"] = {**model.config["grids"], person.participant: grid_fields(person.grid)}
    if label_names:
        # Labels too rare in the training data were left out of the decoder, not of the tables.
        left_out = set(model.config["labels_left_out"])
        request["label_names"] = [name for name in label_names if name not in left_out]
    return request
