"""From a stored decoder and new or held-out responses to predictions."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import check_model
from clipmused_bids.evaluation.cross_validation import fold_numbers
from clipmused_bids.records import IntArray, Split
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.decoder_choice import decoder_of, known_folds
from clipmused_bids.stages.decoder_settings import data_request
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import held_out
from clipmused_bids.stages.splitting import folds_of_runs, split_hash
from clipmused_bids.stages.stored_predictions import store_predictions

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
                data_request(plan, person, model, label_names, split=split),
                name=f"the decoder {model_label} ({model.path.name})",
            )
            folds = row_folds(person, plan, split)
            decoders = {
                fold: decoder_of(tree, participant, model_label=model_label, fold=fold)
                for fold in known_folds(tree, participant, folds, model_label=model_label)
            }
            for fold, one in decoders.items():
                request = {"split": {**one.config["split"], "hash": split_hash(split)}} if split else {}
                check_model(one.config, request, name=f"the decoder of fold {fold}")
            probabilities = held_out(model, decoders, person, folds)
            store_predictions(
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
