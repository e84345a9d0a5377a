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
from clipmused_bids.evaluation.cross_validation import fold_numbers
from clipmused_bids.records import FloatArray, IntArray, Run, Split
from clipmused_bids.report.leak_notes import leakage_fields, merged_fields
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    open_responses,
)
from clipmused_bids.stages.contenders import asked_hyperparameters
from clipmused_bids.stages.decoder_request import without_how_it_runs
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.newcomer_split import base_config
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.portable import places_of, without_places
from clipmused_bids.stages.predicting import held_out, predict, predict_averaged
from clipmused_bids.stages.prepare import mask_hash
from clipmused_bids.stages.splitting import folds_of_runs, sets_of_runs, split_hash
from clipmused_bids.stages.standardized import (
    unit_name,
)
from clipmused_bids.stages.target_source import source_identity

__all__ = [
    "config_of_decoder",
    "decode_participants",
    "decoder_of",
    "left_out_by",
    "predict",
    "predict_averaged",
]

logger = logging.getLogger(__name__)

# How rows of new events become trials is the request's business: what was imagined is named otherwise than what was
# seen. Stored responses know how theirs were read and refuse another reading.
_EVENTS_INPUTS = ("trial_types", "stimulus_column", "merge_blocks")


def decoder_of(
    tree: OutputTree, participant: str, *, model_label: str, fold: int | None = None
) -> StoredModel:
    """Load the group decoder if it knows the participant, else the participant's own, else one that decodes anyone.

    Parameters
    ----------
    fold : int, optional
        Fold of a cross-validation whose decoder is wanted.

    Raises
    ------
    MissingInputError
        If there is neither; names the participants that have one.
    """
    folder = tree.model_folder(model_label, fold=fold)
    known: list[str] = list(stored_participants(folder))
    group = model_path(folder, participant=None)
    if group.exists():
        model = load_model(folder, participant=None)
        if participant in model.config["participants"]:
            return model
        known += model.config["participants"]
    if participant in stored_participants(folder):
        return load_model(folder, participant=participant)
    if group.exists() and _decodes_anyone(model):
        return model
    listed = f"it knows {', '.join(f'sub-{p}' for p in sorted(set(known)))}" if known else "there is none"
    raise MissingInputError(
        f"sub-{participant}: no decoder {model_label} for this participant; {listed}.",
        hint="train one: clipmused-bids BIDS_DIR OUTPUT_DIR group --train",
    )


def _decodes_anyone(model: StoredModel) -> bool:
    """Whether people who were not in the training data may be decoded: a common space, and nothing of one's own."""
    signature: Mapping[str, Any] = model.config["decoder"].get("signature", {})
    return bool(model.config["common_space"] and signature.get("any_participant"))


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
            folds = row_folds(person, plan, split)
            decoders = {
                fold: decoder_of(tree, participant, model_label=model_label, fold=fold)
                for fold in _known_folds(tree, participant, folds, model_label=model_label)
            }
            for fold, one in decoders.items():
                request = {"split": {**one.config["split"], "hash": split_hash(split)}} if split else {}
                check_model(one.config, request, name=f"the decoder of fold {fold}")
            probabilities = held_out(model, decoders, person, folds)
            _write(
                plan, tree, split, person, model=model, probabilities=probabilities, folds=folds,
                decoders=decoders, model_label=model_label,
            )  # fmt: skip
            n_runs += len(person.runs)
            n_trials += len(probabilities)
    logger.info(
        "Predictions (%s): %d trials in %d run(s)%s.", model_label, n_trials, n_runs,
        ", each by the decoder of its fold; new runs by the one fitted to all folds" if fold_numbers(split) else "",
    )  # fmt: skip


def row_folds(person: ParticipantResponses, plan: Plan, split: Split | None) -> IntArray:
    """Fold that holds each stored row of a participant out; 0 where there is none."""
    by_run = folds_of_runs(split, person.runs, plan.trials)
    return np.array(
        [
            by_run[run.key][int(number) - 1] or 0
            for run, file in zip(person.runs, person.stored, strict=True)
            for number in file.trial_number
        ],
        dtype=np.int64,
    )


def _known_folds(tree: OutputTree, participant: str, folds: IntArray, *, model_label: str) -> list[int]:
    """Folds with trials of a participant whose decoder knows the participant."""
    known = []
    for fold in np.unique(folds[folds > 0]).tolist():
        folder = tree.model_folder(model_label, fold=fold)
        group = config_path(folder, participant=None)
        if participant in stored_participants(folder) or (
            group.exists() and participant in read_json(group)["participants"]
        ):
            known.append(fold)
        else:
            logger.warning("sub-%s: no decoder of fold %d; its trials are not decoded.", participant, fold)
    return known


def _write(
    plan: Plan,
    tree: OutputTree,
    split: Split | None,
    person: ParticipantResponses,
    *,
    model: StoredModel,
    probabilities: FloatArray,
    folds: IntArray,
    decoders: Mapping[int, StoredModel],
    model_label: str,
) -> None:
    sets = sets_of_runs(split, person.runs, plan.trials)
    start = 0
    for run, file in zip(person.runs, person.stored, strict=True):
        rows = slice(start, start + len(file.values))
        start = rows.stop
        own = {fold: decoders[fold] for fold in np.unique(folds[rows]).tolist() if fold in decoders}
        used = [*own.values()] if own and folds[rows].all() else [model, *own.values()]
        predictions = Predictions(
            onset=file.trials.onset,
            duration=file.trials.duration,
            trial_number=file.trial_number,
            stimulus_id=file.trials.stimulus_id,
            set_name=tuple(sets[run.key][int(number) - 1] for number in file.trial_number),
            fold=tuple(int(fold) or None for fold in folds[rows]),
            label_names=tuple(model.config["label_names"]),
            probabilities=np.asarray(probabilities[rows], dtype=np.float64),
        )
        write_predictions(
            tree,
            run,
            predictions,
            model_label=model_label,
            sources=[tree.uri(path) for path in (file.path, *(one.path for one in used))],
            details={
                "Method": model.config["method"],
                "WeightsHash": model.weights_hash,
                **({"WeightsHashOfFolds": {k: one.weights_hash for k, one in own.items()}} if own else {}),
                "Regime": model.config["split"]["regime"],
                "SplitHash": model.config["split"]["hash"],
                "Guidance": model.config["guidance"],
                **merged_fields([leakage_fields(one.config) for one in used]),
                "TransductiveUnits": sorted({unit for one in used for unit in _transductive(one, run)}),
            },
        )


def _transductive(model: StoredModel, run: Run) -> list[str]:
    """The run's unit, if its responses were standardised by all its trials: by itself where it is new."""
    described = model.config["standardization"]
    if described["unit"] == "none":
        return []
    name = unit_name(run, described["unit"])
    return [name] if described["sources"].get(name, "transductive") == "transductive" else []


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
    """How decoders are scored is the request's business alone."""
    return {"evaluation": overrides["evaluation"]} if "evaluation" in overrides else {}
