"""From stored responses to a stored decoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

from clipmused_bids.config import build_hyperparameters
from clipmused_bids.dataset.outputs.description import write_descriptions
from clipmused_bids.dataset.outputs.model_writing import save_model
from clipmused_bids.dataset.outputs.training_state import StateFolder
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import model_path
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.cross_validation import Part, parts_of
from clipmused_bids.long_work import long_work
from clipmused_bids.methods.context import FitContext
from clipmused_bids.methods.registry import METHODS, create
from clipmused_bids.records import Split
from clipmused_bids.stages.auditing import SplitAudit, audit_fit, audit_split, stored_leakage
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decoder_request import (
    clear_the_way,
    decoder_request,
    decoders_of,
    fitted_to_everything,
    is_done,
    refuse_other_decoders,
    stored_decoder_serves,
)
from clipmused_bids.stages.decoder_states import DecoderStates, StoredElsewhereError
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.illustrate import show_decoder
from clipmused_bids.stages.keeping import StateKeeper
from clipmused_bids.stages.label_choice import stimuli_in
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.progress import log_epoch, warnings_only
from clipmused_bids.stages.splitting import holds_out_people, keep_split, sets_of_runs
from clipmused_bids.stages.stored_model import fitted_config, standardization_tensors, voxel_tensors
from clipmused_bids.stages.target_source import TargetSource, stored_hyperparameters
from clipmused_bids.stages.training_set import training_set
from clipmused_bids.training.processes import ALONE, Processes

__all__ = [
    "decoder_request",
    "decoders_of",
    "refuse_other_decoders",
    "stored_decoder_serves",
    "train_decoder",
    "train_group",
]

logger = logging.getLogger(__name__)


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
    failures: Failures | None = None,
    audits: dict[str, SplitAudit] | None = None,
    processes: Processes | None = None,
) -> bool:
    """Train what a method needs: one decoder for all participants, or one for each, in every part of the split.

    A cross-validation has a part for each fold and one for all of them. A participant without training trials in a
    part has no share in it.

    Parameters
    ----------
    failures : Failures, optional
        Takes errors of decoders of single participants; without, the first one is raised.
    audits : dict of str to SplitAudit, optional
        What was found in each part, by its name; filled here, and the same for every method of one run.
    processes : Processes, optional
        That train networks together; without, this one alone.

    Returns
    -------
    bool
        Whether every decoder was trained now, none reused and none gone on with.

    Raises
    ------
    DataError
        If there are too few participants for the method, or an unseen one can have no decoder.
    """
    if holds_out_people(split) and METHODS[method].per_participant:
        raise DataError(
            f"{method}: each participant has a decoder of their own, an unseen participant has none.",
            hint="--method ridge-pooled decodes unseen participants of a common space",
        )
    failures = Failures(stop_at_first=True) if failures is None else failures
    audits = {} if audits is None else audits
    fresh, parts = True, parts_of(split)
    n_decoders = len(parts) * len(list(decoders_of(plan.without(failures), method=method)))
    with long_work(f"{model_label}: decoders", n_decoders, "decoder") as work:
        for part in parts:
            if part.name not in audits:
                audits[part.name] = audit_split(plan, catalogue, part.described, tree=tree)
            for everyone, participant in decoders_of(plan.without(failures), method=method):
                members = _with_training_trials(plan, part, everyone)
                if not members:
                    work.skip(1)
                    continue
                # Folds that are fitted in a moment all say the same.
                hushed = part is not parts[0] and not METHODS[method].deep
                with (
                    warnings_only(hushed),
                    failures.of_participant(participant) if participant else nullcontext(),
                ):
                    _require_enough(method, members)
                    fresh &= train_decoder(
                        plan, tree, catalogue, split, members=members, participant=participant, method=method,
                        model_label=model_label, maker=maker, device=device, part=part,
                        audited=audits[part.name], processes=processes,
                    )  # fmt: skip
                work.advance()
    if len(parts) > 1:
        logger.info("%s: decoders of %d folds and of all of them are stored.", model_label, len(parts) - 1)
    return fresh


def _with_training_trials(plan: Plan, part: Part, members: Sequence[str]) -> list[str]:
    """Members that a fold, or an unseen participant's split, leaves training trials of.

    Of another split everyone, whose lack is then an error.
    """
    if not part.name and not holds_out_people(part.split):
        return list(members)
    sets = sets_of_runs(part.split, plan.runs, plan.trials)
    kept = [p for p in members if any("train" in sets[run.key] for run in plan.runs_of(p))]
    for p in members:
        if p not in kept:
            logger.info(
                "sub-%s: no training trials%s; not trained on.", p, f" in {part.name}" if part.name else ""
            )
    return kept


def _require_enough(method: str, members: Sequence[str]) -> None:
    least = METHODS[method].least_participants
    verb = "is" if len(members) == 1 else "are"
    if len(members) < least:
        raise DataError(
            f"{method}: needs at least {least} participants; there {verb} {len(members)}.",
            hint="run it at level group with more participants",
        )


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
    part: Part | None = None,
    audited: SplitAudit | None = None,
    processes: Processes | None = None,
) -> bool:
    """Train one decoder for ``members`` and store it, unless it is stored already.

    Parameters
    ----------
    part : Part, optional
        The part of a cross-validation that it is fitted to; without, the whole split.
    audited : SplitAudit, optional
        What `audit_split` found in the part; without, it is called here.
    processes : Processes, optional
        That train networks together; without, this one alone.

    Returns
    -------
    bool
        Whether it was trained now, from its start.

    Raises
    ------
    CannotCreateError
        If a decoder of another configuration is stored under this label and ``overwrite`` is off.
    DataError
        If the split or what is fitted leaks and ``allow_leakage`` is off.
    """
    part = parts_of(split)[0] if part is None else part
    audited = audited or audit_split(plan, catalogue, part.described, tree=tree)
    plan = fitted_to_everything(plan) if part.of_all_folds else plan
    folder = tree.model_folder(model_label, fold=part.fold)
    request = {
        **decoder_request(plan, split, members=members, method=method, maker=maker, part=part),
        "left_out": list(catalogue.left_out),
        "stimuli": catalogue.hashes_of(
            set(stimuli_in(plan, part.split, "train", "val")),
            guiding=METHODS[method].guided and plan.config.inputs.targets is None,
        ),
    }
    whose = " ".join(filter(None, (f"sub-{participant}" if participant else "group", part.name)))
    clear_the_way(folder, participant, request, overwrite=plan.config.overwrite)
    done = is_done(folder, participant, request, overwrite=plan.config.overwrite)
    # Not before a decoder of another configuration is refused: its split must stay as it is.
    keep_split(split, tree, model_label=model_label, overwrite=plan.config.overwrite)
    place = StateFolder(folder, participant, request)
    if done:
        place.clear()  # of a run that was killed when it had stored the decoder
        show_decoder(folder, participant=participant, fresh=False)
        logger.info("%s: decoder %s reused.", whose, model_label)
        return False
    try:
        fresh = _train_now(
            plan, tree, catalogue, part, place, members=members, whose=whose, method=method, maker=maker,
            device=device, audited=audited, processes=processes or ALONE,
        )  # fmt: skip
    except StoredElsewhereError:
        place.clear()
        logger.info("%s: another run has stored the decoder %s meanwhile; it is taken.", whose, model_label)
        return False
    # Another training under this label, with another split, may have begun after this one and lost.
    keep_split(split, tree, model_label=model_label, overwrite=plan.config.overwrite)
    return fresh


def _train_now(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    part: Part,
    place: StateFolder,
    *,
    members: Sequence[str],
    whose: str,
    method: str,
    maker: TargetSource | None,
    device: str,
    audited: SplitAudit,
    processes: Processes,
) -> bool:
    """Train a decoder, or go on with it, and store it; whether it was trained from the start."""
    with ExitStack() as scratch:
        training = training_set(
            plan, tree, catalogue, part.split, described=part.described, members=members, method=method, maker=maker,
            scratch=scratch,
        )  # fmt: skip
        audit_fit(plan, catalogue, part.described, training)
        options = plan.hyperparameters.training
        logger.info(
            "%s: %s %s: %d training and %d validation trials of %d participant(s), %d labels%s.",
            whose, "training" if METHODS[method].deep else "fitting", method, training.train.n_trials,
            training.validation.n_trials, len(members), len(training.train.label_names),
            f"; at most {options.max_epochs} epochs of {-(-training.train.n_trials // options.batch_size)} steps, "
            "how long they take is known after the first"
            if METHODS[method].deep else "",
        )  # fmt: skip
        portable = build_hyperparameters(stored_hyperparameters(plan, maker))
        fitted = create(method, hyperparameters=portable, seed=plan.config.random_seed, device=device)
        states = DecoderStates(
            place, training, whose, options=options, device=device, n_processes=processes.count,
            overwrite=plan.config.overwrite,
        )  # fmt: skip
        states.open()
        context = FitContext(log_epoch, keeper=StateKeeper(states), processes=processes)
        with long_work(f"{whose}: {method}", 1, "decoder", announced=True):
            history = fitted.fit(training.train, training.validation, context=context)
        leaks = audit_fit(plan, catalogue, part.described, training)
    tensors = {f"decoder.{name}": value for name, value in fitted.state().items()}
    tensors |= standardization_tensors(members, training.standardizations)
    tensors |= voxel_tensors(training.train)
    config = {
        **place.request,
        **fitted_config(training, plan, catalogue),
        "variant": plan.config.variant or method,
        "leakage": stored_leakage(plan, part.described, training, of_split=audited, of_fit=leaks),
        "decoder": fitted.config(),
        "parameters": fitted.summary(),
        "best_epoch": history.best_epoch,
        "stopped": history.stopped,
    }
    folder, participant = place.model_folder, place.participant
    states.require_free()
    save_model(
        folder, participant=participant, tensors=tensors, config=config, history=history, settings=place.request,
        overwrite=plan.config.overwrite,
    )  # fmt: skip
    place.clear()
    show_decoder(folder, participant=participant, fresh=True)
    write_descriptions(tree)
    logger.info("%s: decoder stored as %s.", whose, model_path(folder, participant=participant))
    return not states.resumed
