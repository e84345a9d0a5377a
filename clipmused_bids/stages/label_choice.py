"""Which labels are decoded: those that the training trials of all participants hold often enough."""

from __future__ import annotations

import logging

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.records import SetName, Split
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.fit_record import FitRecord, TrialKey
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import sets_of_runs

logger = logging.getLogger(__name__)


def trials_in(plan: Plan, split: Split, *wanted: SetName) -> list[TrialKey]:
    """Trials of these sets, of all participants."""
    sets = sets_of_runs(split, plan.event_runs, plan.trials)
    return [
        TrialKey(run.key, k, stimulus)
        for run in plan.event_runs
        for k, (stimulus, name) in enumerate(
            zip(plan.trials[run.key].stimulus_id, sets[run.key], strict=True)
        )
        if name in wanted
    ]


def frequent_labels(plan: Plan, catalogue: Catalogue, split: Split, *, record: FitRecord) -> tuple[str, ...]:
    """Labels that occur, and are frequent enough, in the training trials of all participants; may be none."""
    labels = record.labels_of(catalogue, trials_in(plan, split, "train"), step="label choice")
    frequency = np.nansum(labels, axis=0) / np.maximum((~np.isnan(labels)).sum(axis=0), 1)
    kept = (frequency > 0) & (frequency >= plan.hyperparameters.min_label_frequency)
    return tuple(name for name, keep in zip(catalogue.stimuli.label_names, kept, strict=True) if keep)


def training_labels(
    plan: Plan, catalogue: Catalogue, split: Split, *, record: FitRecord | None = None
) -> tuple[str, ...]:
    """Labels that are decoded: `frequent_labels`, said in the log.

    The same for a group's decoder and for each participant's own, so that their scores can be compared.

    Raises
    ------
    DataError
        If no label is left.
    """
    names = catalogue.stimuli.label_names
    kept = frequent_labels(plan, catalogue, split, record=record or FitRecord())
    lost = [name for name in names if name not in kept]
    if lost:
        shown = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        logger.warning("%d label(s) too rare in the training data are left out: %s.", len(lost), shown)
    if len(lost) == len(names):
        raise DataError("no label occurs in the training data.", hint="check --labels and --split")
    return kept


def stimuli_in(plan: Plan, split: Split, *wanted: SetName) -> list[str]:
    """Stimulus of each trial of these sets, of all participants."""
    return [one.stimulus_id for one in trials_in(plan, split, *wanted)]
