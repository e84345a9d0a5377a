"""From a stored decoder and new or held-out responses to predictions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import ModelRecord, StoredModel, check_model
from clipmused_bids.evaluation.cross_validation import fold_numbers
from clipmused_bids.long_work import each_of
from clipmused_bids.records import IntArray, Split
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.decoder_choice import find_decoder, known_folds
from clipmused_bids.stages.decoder_settings import data_request
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import held_out
from clipmused_bids.stages.splitting import folds_of_runs, split_hash
from clipmused_bids.stages.stored_predictions import are_current, runs_to_decode, store_predictions

logger = logging.getLogger(__name__)


def decode_participants(
    plan: Plan,
    tree: OutputTree,
    split: Split | None,
    *,
    model_label: str,
    failures: Failures,
    label_names: Sequence[str],
) -> None:
    """Write predictions for all prepared runs of the plan's participants; those that are there already stay.

    Parameters
    ----------
    label_names : sequence of str
        Labels that the request brings (``--labels``); must be the decoder's. Empty: not asked.
    """
    made: Counter[str] = Counter()
    loaded: dict[Path, StoredModel] = {}
    with each_of(plan.participants, f"Predictions ({model_label})", "participant") as people:
        for participant in people:
            with failures.of_participant(participant):
                model = find_decoder(tree, participant, model_label=model_label)
                person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
                check_model(
                    model.config,
                    data_request(plan, person, model, label_names, split=split),
                    name=f"the decoder {model_label} ({model.path.name})",
                )
                folds = row_folds(person, plan, split)
                decoders = _decoders_of_folds(tree, participant, split, folds, model_label=model_label)
                wanted = runs_to_decode(
                    plan, tree, split, person, model=model, decoders=decoders, folds=folds
                )
                if not plan.config.overwrite and are_current(tree, wanted, model_label=model_label):
                    made["reused"] += len(wanted)
                    continue
                if model.path not in loaded:
                    # A group's decoder is read once, of decoders of single participants one is held.
                    loaded = {model.path: model.load()}
                of_folds = {fold: one.load() for fold, one in decoders.items()}
                probabilities = held_out(loaded[model.path], of_folds, person, folds)
                # All runs, since the last digits depend on how many trials are decoded at once; equal files stay.
                store_predictions(tree, wanted, probabilities, model_label=model_label)
                made.update(runs=len(wanted), trials=len(probabilities))
    logger.info(
        "Predictions (%s): %d trials in %d run(s) decoded, %d run(s) reused%s.",
        model_label, made["trials"], made["runs"], made["reused"],
        "; each by the decoder of its fold, new runs by the one fitted to all folds" if fold_numbers(split) else "",
    )  # fmt: skip


def _decoders_of_folds(
    tree: OutputTree, participant: str, split: Split | None, folds: IntArray, *, model_label: str
) -> dict[int, ModelRecord]:
    """Decoder of each fold that holds trials of a participant out.

    Raises
    ------
    DataError
        If one was trained with another split.
    """
    decoders = {
        fold: find_decoder(tree, participant, model_label=model_label, fold=fold)
        for fold in known_folds(tree, participant, folds, model_label=model_label)
    }
    for fold, one in decoders.items():
        request = {"split": {**one.config["split"], "hash": split_hash(split)}} if split else {}
        check_model(one.config, request, name=f"the decoder of fold {fold}")
    return decoders


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
