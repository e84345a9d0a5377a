"""``--dry-run``: what a run would do and need, and everything that would stop it; nothing is written."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product

from clipmused_bids.config import Config
from clipmused_bids.dataset.outputs.description import refuse_foreign
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import decoders_in, model_path, read_config, stored_participants
from clipmused_bids.errors import ClipMusedError, ExitCode
from clipmused_bids.evaluation.cross_validation import parts_of, trials_of_decoder
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.preflight.decoder_size import DecoderSize, decoder_size
from clipmused_bids.preflight.dry_run_text import report
from clipmused_bids.preflight.estimates import Work, methods_of
from clipmused_bids.preflight.findings import ClipFound, Findings, Problems
from clipmused_bids.preflight.run_sizes import ParticipantSize, participant_size
from clipmused_bids.records import Split
from clipmused_bids.stages.announcements import announce_unused
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import sentences_of
from clipmused_bids.stages.contenders import asked_for, plan_of
from clipmused_bids.stages.decoder_choice import decoder_of
from clipmused_bids.stages.decoder_settings import config_of_decoder
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.invocation import (
    choose_device,
    chosen_actions,
    needed_catalogue,
    needs_clip,
    require_images,
    settle_split,
    stimuli_of,
    uses_stored_decoder,
)
from clipmused_bids.stages.label_choice import training_labels
from clipmused_bids.stages.places import require_own_place, require_writable
from clipmused_bids.stages.plan import Plan, make_plan
from clipmused_bids.stages.run_log import early_lines
from clipmused_bids.stages.splitting import sets_of_runs
from clipmused_bids.stages.terminal import show
from clipmused_bids.stages.train import decoder_request, decoders_of, stored_decoder_serves


def dry_run(config: Config) -> ExitCode:
    """Print the report of a dry run.

    Returns
    -------
    ExitCode
        What the run would end with, as far as it can be told without images; 0 if it could go on.
    """
    findings = look(config)
    show(report(findings))
    return findings.problems.exit_code


def look(config: Config) -> Findings:
    """Go through the stages of a run up to where images would be read."""
    with early_lines() as early:
        findings = _look(config)
        lines = [record.getMessage() for record in early.buffer if record.levelno == logging.WARNING]
    return replace(findings, warnings=tuple(dict.fromkeys(lines)))


def _look(config: Config) -> Findings:
    problems, tree = Problems(), OutputTree(config.output_dir)
    with problems.collected():
        require_writable(config.output_dir)
        if config.work_dir is not None:
            require_writable(config.work_dir, option="--work-dir")
        refuse_foreign(config.output_dir)
    config = replace(config, actions=chosen_actions(config, tree))
    if uses_stored_decoder(config) or config.base_model is not None:
        with problems.collected():
            config = config_of_decoder(config, tree)
    plan = _plan(config, problems)
    found = Findings(config, problems, plan=plan)
    if plan is None:
        return found
    if not uses_stored_decoder(plan.config):
        announce_unused(plan)
    catalogue, split, names = _catalogue_and_split(plan, tree, problems)
    _require_decoders(plan, tree, problems)
    clip = None
    if catalogue is not None and needs_clip(plan):
        clip = _find_clip(plan, problems)
    if config.device == "cuda":
        with problems.collected():
            choose_device(config.device)
    sizes = _sizes(plan, tree, problems)
    found = replace(found, sizes=sizes, catalogue=catalogue, split=split, label_names=names, clip=clip)
    found = replace(found, stored_decoder=_stored_decoder(found, plan, tree))
    return replace(found, work=_work(found, plan))


def _plan(config: Config, problems: Problems) -> Plan | None:
    failures, plan = Failures(), None
    try:
        plan = make_plan(config, failures=failures)
        require_own_place(config.output_dir, bids_dir=config.bids_dir, derivatives=plan.derivatives)
    except ClipMusedError as error:
        if not any(error is known for _, known in failures.seen):
            problems.of_everyone.append(error)
    problems.of_participants += failures.seen
    return plan


def _catalogue_and_split(
    plan: Plan, tree: OutputTree, problems: Problems
) -> tuple[Catalogue | None, Split | None, tuple[str, ...]]:
    """The catalogue without contents, the split made from it, and the labels that are decoded."""
    catalogue, split, names = None, None, _stored_labels(plan, tree)
    with problems.collected():
        catalogue = needed_catalogue(plan, read_contents=False)
        names = catalogue.stimuli.label_names if catalogue is not None else names
        split = settle_split(plan, catalogue, tree, contents_read=False)
        if catalogue is not None and split is not None and "train" in plan.config.actions:
            names = training_labels(plan, catalogue, parts_of(split)[-1].described)
    for participant in plan.participants:
        with problems.collected(participant):
            require_images(replace(plan, participants=(participant,)))
    return catalogue, split, names


def _stored_labels(plan: Plan, tree: OutputTree) -> tuple[str, ...]:
    """Labels of the decoder that is stored, where one is used."""
    if not uses_stored_decoder(plan.config):
        return ()
    folder = tree.model_folder(plan.config.model_label)
    stored = decoders_in(folder)
    return tuple(read_config(folder, participant=stored[0])["label_names"]) if stored else ()


def _require_decoders(plan: Plan, tree: OutputTree, problems: Problems) -> None:
    """Look whether a decoder knows each participant, where none is trained."""
    if not uses_stored_decoder(plan.config):
        return
    folder = tree.model_folder(plan.config.model_label)
    known = {*stored_participants(folder)}
    if model_path(folder, participant=None).exists():
        known |= {*read_config(folder, participant=None)["participants"]}
    for participant in plan.participants if known else ():
        if participant not in known:
            with problems.collected(participant):
                decoder_of(tree, participant, model_label=plan.config.model_label)


def _find_clip(plan: Plan, problems: Problems) -> ClipFound:
    from clipmused_bids.targets.clip import find_tower
    from clipmused_bids.targets.shapes import clip_shape

    options = plan.hyperparameters.targets
    try:
        source = find_tower(options.clip_model, weights=options.clip_weights)
    except ClipMusedError as error:
        problems.of_everyone.append(error)
        return ClipFound("not found", clip_shape(options.clip_model))
    return ClipFound(str(source.file or source.name.removeprefix("local-dir:")), clip_shape(source.name))


def _sizes(plan: Plan, tree: OutputTree, problems: Problems) -> tuple[ParticipantSize, ...]:
    sizes = []
    for participant in plan.participants:
        with problems.collected(participant):
            sizes.append(participant_size(plan, tree, participant))
    return tuple(sizes)


def _stored_decoder(found: Findings, plan: Plan, tree: OutputTree) -> bool | None:
    """Whether the decoders that would be trained are there; the CLIP weights' hash is not compared."""
    if found.split is None or "train" not in plan.config.actions:
        return None
    there = []
    for one in asked_for(plan.config):
        with found.problems.collected():
            there.append(_is_stored(plan_of(plan, one), found.split, tree))
    return len(there) == len(asked_for(plan.config)) and all(there)


def _is_stored(plan: Plan, split: Split, tree: OutputTree) -> bool:
    """Whether every decoder of one method is there, in each part of the split."""
    method, label = plan.config.method, plan.config.model_label
    there = []
    for part, (members, participant) in product(parts_of(split), decoders_of(plan, method=method)):
        request = decoder_request(plan, split, members=members, method=method, maker=None, part=part)
        request.pop("clip")
        there.append(
            stored_decoder_serves(
                tree.model_folder(label, fold=part.fold),
                participant=participant,
                request=request,
                overwrite=plan.config.overwrite,
            )
        )
    return all(there)


def _work(found: Findings, plan: Plan) -> Work | None:
    if not found.sizes:
        return None
    catalogue, names = found.catalogue, stimuli_of(plan)
    rows = [] if catalogue is None else catalogue.rows_of(names)
    pictures = {} if catalogue is None else {catalogue.stimuli.picture[k] for k in rows} - {None}
    sentences = set() if catalogue is None else {text for k in rows for text in sentences_of(catalogue, k)}
    trains = "train" in plan.config.actions and found.split is not None
    return Work(
        plan=plan,
        sizes=found.sizes,
        n_labels=len(found.label_names),
        n_pictures=len(pictures),
        n_sentences=len(sentences),
        n_stimuli=0 if catalogue is None else len(catalogue.stimuli.stimulus_id),
        n_training=_n_training(plan, found.split) if trains else None,
        clip=None if found.clip is None else found.clip.shape,
        decoders=_decoders(found, plan) if trains else {},
        n_parts=len(parts_of(found.split)) if found.split is not None else 1,
    )


def _n_training(plan: Plan, split: Split | None) -> int:
    fitted = {"train", "val"} if plan.hyperparameters.fit_on == "train+validation" else {"train"}
    # Folds are of about one size; the decoder of all folds has the most.
    sets = sets_of_runs(trials_of_decoder(split), plan.runs, plan.trials)
    return sum(name in fitted for names in sets.values() for name in names)


def _decoders(found: Findings, plan: Plan) -> dict[str, DecoderSize]:
    """Sizes of the networks that are trained, by method."""
    sizes: dict[str, DecoderSize] = {}
    if any(size.grid is None for size in found.sizes):
        return sizes
    try:
        for method in methods_of(plan):
            if METHODS[method].deep:
                sizes[method] = decoder_size(plan, found.sizes, label_names=found.label_names, method=method)
    except ClipMusedError as error:
        found.problems.of_everyone.append(error)
    return sizes
