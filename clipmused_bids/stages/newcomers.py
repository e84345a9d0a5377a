"""From a stored decoder of a group and a new participant's responses to a stored decoder of his own."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from clipmused_bids.dataset.images.series import check_grid
from clipmused_bids.dataset.outputs.description import write_descriptions
from clipmused_bids.dataset.outputs.model_writing import save_model
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    StoredModel,
    check_model,
    load_model,
    model_path,
)
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.assignment import SET_NAMES
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.adaptation import adapt_with_history
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import IntArray, SetName, Split, TrialData, VoxelSpace
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses, trial_data, usable_voxels
from clipmused_bids.stages.atlas import choose_atlas
from clipmused_bids.stages.auditing import audit_reads, stored_leakage
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decoder_request import decoder_request, stored_decoder_serves
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.fit_record import FitRecord
from clipmused_bids.stages.grids import OTHER_GRID
from clipmused_bids.stages.illustrate import show_decoder
from clipmused_bids.stages.newcomer_split import audit_newcomers
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.regions import label_images, voxel_spaces
from clipmused_bids.stages.splitting import keep_split
from clipmused_bids.stages.standardized import fit_standardization, response_table
from clipmused_bids.stages.stored_model import (
    fitted_config,
    standardization_tensors,
    stored_decoder,
    stored_space,
    voxel_tensors,
)
from clipmused_bids.stages.target_source import TargetSource, guiding_targets, source_identity
from clipmused_bids.stages.training_set import TrainingSet, row_sets, standardization_unit
from clipmused_bids.stages.voxel_choice import choose_voxels

logger = logging.getLogger(__name__)


def adapt_participants(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    *,
    maker: TargetSource | None,
    device: str,
    failures: Failures,
) -> None:
    """Fit a decoder of each new participant to the base, and store it, unless it is stored already."""
    base = load_model(tree.model_folder(str(plan.config.base_model)), participant=None)
    if maker is not None:
        check_model(
            base.config, {"clip": source_identity(maker)}, name=f"the decoder {plan.config.base_model}"
        )
    with each_of(plan.participants, "New participants", "participant") as people:
        for participant in people:
            with failures.of_participant(participant):
                _adapt_one(
                    plan, tree, catalogue, split, base, participant=participant, maker=maker, device=device
                )


def _adapt_one(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    base: StoredModel,
    *,
    participant: str,
    maker: TargetSource | None,
    device: str,
) -> None:
    label, folder = plan.config.model_label, tree.model_folder(plan.config.model_label)
    method = base.config["method"]
    source = {"label": str(plan.config.base_model), "weights_sha256": base.weights_hash}
    request = {
        **decoder_request(plan, split, members=[participant], method=method, maker=maker),
        "base": source,
        "calibration_trials": plan.config.calibration_trials,
        "left_out": list(catalogue.left_out),
    }
    done = stored_decoder_serves(
        folder, participant=participant, request=request, overwrite=plan.config.overwrite
    )
    keep_split(split, tree, model_label=label, overwrite=plan.config.overwrite)
    if done:
        show_decoder(folder, participant=participant, fresh=False)
        logger.info("sub-%s: decoder %s reused.", participant, label)
        return
    audited = audit_newcomers(plan, catalogue, split, base.config["participants"], tree=tree)
    training = newcomer_trials(plan, tree, catalogue, split, base, participant=participant, maker=maker)
    adapted, history = adapt_with_history(
        stored_decoder(base),
        training.train,
        training.validation,
        seed=plan.config.random_seed,
        source=source,
        device=device,
    )
    leaks = audit_reads(plan, split, training)
    notes = adapted.fitted().adaptation or {}
    n_values = sum(notes["fitted_values"].values())
    logger.info(
        "sub-%s: %d values fitted to %d trials on the frozen decoder %s (%s); scores speak of: %s.",
        participant, n_values if notes["n_trials"] else 0, notes["n_trials"], plan.config.base_model,
        f"maps: {notes['alignment']}; tokens: {notes['epochs']} epochs, {notes['chosen_by']}", split.regime,
    )  # fmt: skip
    tensors = {f"decoder.{name}": value for name, value in adapted.state().items()}
    tensors |= standardization_tensors([participant], training.standardizations)
    tensors |= voxel_tensors(training.train)
    config = {
        **request,
        **fitted_config(training, plan, catalogue),
        "labels_left_out": base.config["labels_left_out"],
        "variant": base.config.get("variant", method),
        "leakage": stored_leakage(plan, split, training, of_split=audited, of_fit=leaks),
        "decoder": adapted.config(),
        "parameters": adapted.summary(),
        "best_epoch": notes["epochs"],
        "stopped": notes["chosen_by"],
    }
    save_model(
        folder, participant=participant, tensors=tensors, config=config, history=history, settings=request,
        overwrite=plan.config.overwrite,
    )  # fmt: skip
    show_decoder(folder, participant=participant, fresh=True)
    write_descriptions(tree)
    logger.info("sub-%s: decoder stored as %s.", participant, model_path(folder, participant=participant))


def newcomer_trials(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    base: StoredModel,
    *,
    participant: str,
    maker: TargetSource | None,
) -> TrainingSet:
    """Open a new participant's responses and lay out the trials that he is fitted to, as the base reads them.

    With ``calibration_trials`` these are his first N labelled training trials, in order of presentation, and nothing
    else is looked at: no validation trial, and no other trial's response where voxels are standardised by training
    trials.
    """
    person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
    sets = row_sets(person, plan, split)
    names = tuple(base.config["label_names"])
    labels = catalogue.labels_of(person.stimulus_id, names=names)
    known = (~np.isnan(labels)).any(axis=1)
    fit, choose = _chosen_rows(plan, np.array(sets), known, participant=participant)
    voxels = _voxels(plan, person, base)
    standardization = fit_standardization(
        person,
        voxels,
        unit=standardization_unit(plan),
        scaling=plan.hyperparameters.responses.scaling,
        train=np.isin(np.arange(len(sets)), fit),
    )
    table = response_table(person, voxels, standardization)
    choice = None
    if not plan.common_space and plan.hyperparameters.responses.reliable_voxels:
        used = _sets(len(sets), fit, fit[:0])
        choice = choose_voxels(
            [table], [person.stimulus_id], [used], participants=[participant], common_space=False,
            n_voxels=plan.hyperparameters.responses.reliable_voxels, seed=plan.config.random_seed,
        )  # fmt: skip
        kept = choice.kept[0]
        voxels, table, standardization = voxels[kept], table.of_voxels(kept), standardization.of_voxels(kept)
    movies = any(plan.trials[run.key].continuous for run in plan.runs)
    record = FitRecord([person])
    data = trial_data(
        [person],
        record.watched([table], step="adaptation", purpose="tuning"),
        [VoxelSpace(person.grid, voxels, np.full(len(voxels), -1), ())],
        common_space=plan.common_space,
        labels=labels,
        label_names=names,
        single_label=base.config["single_label"],
        targets=guiding_targets(maker, catalogue, person.stimulus_id, _sets(len(sets), fit, choose)),
        group_by="stimulus" if "unseen stimuli" in split.regime and not movies else "run",
    )
    train = data.subset(fit)
    space, images = _space(plan, train, base)
    train = replace(train, spaces=(space,))
    validation = replace(data.subset(choose), spaces=(space,))
    chosen = None if choice is None else choice.config
    return TrainingSet(train, validation, (standardization,), chosen, record, images)


def _chosen_rows(plan: Plan, sets: Any, known: Any, *, participant: str) -> tuple[IntArray, IntArray]:
    """Rows that are fitted to, and rows that choose."""
    train, validation = (np.flatnonzero((sets == name) & known) for name in ("train", "val"))
    wanted = plan.config.calibration_trials
    if wanted is None:
        if len(train) == 0:
            raise DataError(
                f"sub-{participant}: no labelled training trial in this split.",
                hint="--calibration-trials 0 decodes without any, in a common space",
            )
        return train, validation
    if wanted > len(train):
        raise DataError(
            f"sub-{participant}: --calibration-trials {wanted}: there are {len(train)} labelled training trials.",
            hint="ask for fewer, or leave the option out for all of them",
        )
    return train[:wanted], validation[:0]


def _sets(n_rows: int, fit: IntArray, choose: IntArray) -> list[SetName]:
    """Set of each row by what is done with it: what is not looked at has none."""
    sets: list[SetName] = ["none"] * n_rows
    for rows, name in ((fit, SET_NAMES[0]), (choose, SET_NAMES[1])):
        for k in rows.tolist():
            sets[k] = name
    return sets


def _voxels(plan: Plan, person: ParticipantResponses, base: StoredModel) -> IntArray:
    """In a common space the base's voxels; else the participant's own with signal in every run."""
    if not plan.common_space:
        return usable_voxels([person], common_space=False)[0]
    first = base.config["participants"][0]
    space = stored_space(base, first)
    check_grid(
        person.grid, space.grid, path=person.stored[0].path, other=f"sub-{first} of the base", hint=OTHER_GRID
    )
    return space.voxels


def _space(plan: Plan, train: TrialData, base: StoredModel) -> tuple[VoxelSpace, tuple[str, ...]]:
    """Regions as the base has them, and file names of the label images that they were read from."""
    mine = train.spaces[0]
    names = tuple(base.config["region_names"])
    if plan.common_space:
        stored = stored_space(base, base.config["participants"][0])
        return replace(mine, region=stored.region, region_names=names), tuple(base.config["atlas_images"])
    if not names or not METHODS[base.config["method"]].deep:
        return mine, ()
    atlas = choose_atlas(plan)
    found = voxel_spaces(train, atlas)[0]
    lost = sorted(set(names) - set(found.region_names))
    if lost:
        logger.warning(
            "sub-%s: %d of the base's %d regions have no voxel: %s.",
            train.participants[0], len(lost), len(names), ", ".join(lost[:5]),
        )  # fmt: skip
    number = np.array([names.index(name) if name in names else -1 for name in found.region_names] + [-1])
    images = tuple(sorted({path.name for path in label_images(atlas, train)}))
    return replace(found, region=number[found.region], region_names=names), images
