"""From stored predictions to the scores of held-out trials, per participant and for the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clipmused_bids.dataset.outputs.metric_files import Averaging, MetricRow, write_run_metrics
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.calibration import Calibration, Scope
from clipmused_bids.evaluation.inference import over_participants
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.records import Run, Score
from clipmused_bids.report.leak_notes import merged_fields
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.calibrating import calibrated, calibration_of
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decoder_choice import decoder_of
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import aligned_labels, predict_averaged
from clipmused_bids.stages.scored import (
    LabelledPredictions,
    Scored,
    joined_runs,
    labelled_run,
    metric_rows,
    over_folds,
    rows_of_fold,
    scores_by_participant,
)

__all__ = ["LabelledPredictions", "Scored", "score_decoder", "scores_by_participant"]


def score_decoder(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    *,
    model_label: str,
    method: str,
    failures: Failures | None = None,
) -> Scored:
    """Score the test trials of a decoder, and write the scores of each run.

    After a cross-validation scores are those of each fold, averaged over folds for each participant: ranks of trials
    are compared only where one decoder ranked them.

    Parameters
    ----------
    failures : Failures, optional
        Takes participants that cannot be scored; without, the first error is raised.

    Raises
    ------
    DataError
        If a participant has no prediction of a test trial.
    """
    failures = Failures(stop_at_first=True) if failures is None else failures
    people: list[LabelledPredictions] = []
    rows: list[MetricRow] = []
    of_folds: dict[int, tuple[MetricRow, ...]] = {}
    for participant in plan.participants:
        with failures.of_participant(participant):
            one, own, by_fold = _score_person(plan, tree, catalogue, participant, model_label=model_label)
            people.append(one)
            rows += own
            for fold, of_fold in by_fold.items():
                of_folds[fold] = of_folds.get(fold, ()) + tuple(of_fold)
    plan.without(failures)
    return Scored(
        label=model_label,
        method=method,
        label_names=people[0].label_names,
        participant=tuple(one.participant for one in people for _ in range(int(one.test.sum()))),
        stimulus_id=tuple(one.stimulus_id[k] for one in people for k in np.flatnonzero(one.test)),
        labels=np.concatenate([one.labels[one.test] for one in people]),
        probabilities=np.concatenate([one.probabilities[one.test] for one in people]),
        rows=(*rows, *_group_rows(rows)),
        sources=tuple(source for one in people for source in one.sources),
        fold=tuple(int(fold) for one in people for fold in one.fold[one.test]),
        run=tuple(one.run[k] for one in people for k in np.flatnonzero(one.test)),
        fold_rows={fold: of_folds[fold] for fold in sorted(of_folds) if fold},
        leakage=merged_fields([one.leakage for one in people]),
    )


def _score_person(
    plan: Plan, tree: OutputTree, catalogue: Catalogue, participant: str, *, model_label: str
) -> tuple[LabelledPredictions, list[MetricRow], dict[int, list[MetricRow]]]:
    """One participant's predictions, scores, and scores of each fold."""
    single_label = catalogue.stimuli.single_label
    runs = [
        run for run in plan.runs_of(participant) if tree.predictions(run, model_label=model_label).exists()
    ]
    of_runs = [labelled_run(tree, catalogue, run, model_label=model_label) for run in runs]
    if not any(one.test.any() for one in of_runs):
        raise DataError(
            f"sub-{participant}: no prediction is of a labelled test trial.",
            hint="decode the runs that hold test trials; split.tsv names them",
        )
    joined = joined_runs(participant, of_runs)
    person = open_responses(tree, participant, runs, kind=plan.kind)
    models = {
        fold: decoder_of(tree, participant, model_label=model_label, fold=fold or None)
        for fold in joined.folds
    }
    maps = {}
    if plan.hyperparameters.evaluation.calibrate:
        scope: Scope = "pooled" if single_label else "label"
        maps = {fold: calibration_of(one, joined, person, fold, scope=scope) for fold, one in models.items()}
        joined = calibrated(joined, maps)
    for run, own in zip(runs, of_runs, strict=True):
        of_run = replace(joined, sources=own.sources, leakage=own.leakage)
        _write_run(tree, run, of_run, model_label=model_label, single_label=single_label)
    single: dict[int, list[MetricRow]] = {}
    averaged: dict[int, list[MetricRow]] = {}
    for fold, model in models.items():
        fit_on = model.config["hyperparameters"]["fit_on"]
        single[fold] = rows_of_fold(joined, fold, single_label=single_label, fit_on=fit_on)
        averaged[fold] = _averaged_rows(
            joined, fold, model, person, single_label=single_label, calibration=maps.get(fold)
        )
    n_labels = len(joined.label_names)
    return joined, over_folds(single, n_labels) + over_folds(averaged, n_labels), single


def _write_run(
    tree: OutputTree, run: Run, one: LabelledPredictions, *, model_label: str, single_label: bool
) -> None:
    mine = np.array(one.run) == run.key.partition("_")[2]
    one = replace(one, test=one.test & mine)
    if one.test.any():
        # Cuts for F1 would be chosen on validation trials of all runs.
        folds = {
            fold: rows_of_fold(one, fold, single_label=single_label, fit_on="train+validation")
            for fold in one.folds
        }
        rows = over_folds(folds, len(one.label_names))
        write_run_metrics(tree, run, rows, model_label=model_label, sources=one.sources, details=one.leakage)


def _averaged_rows(
    one: LabelledPredictions,
    fold: int,
    model: StoredModel,
    person: ParticipantResponses,
    *,
    single_label: bool,
    calibration: Calibration | None,
) -> list[MetricRow]:
    """Scores of test responses averaged over the presentations of a stimulus; none where nothing repeats."""
    groups: dict[str, list[int]] = {}
    tested = np.flatnonzero(one.test & (one.fold == fold))
    for row in tested:
        groups.setdefault(one.stimulus_id[row], []).append(int(row))
    if len(groups) == len(tested):
        return []
    first = [rows[0] for rows in groups.values()]
    probabilities = predict_averaged(model, person, [np.array(rows) for rows in groups.values()])
    probabilities = aligned_labels(model, probabilities, one.label_names)
    probabilities = probabilities if calibration is None else calibration.apply(probabilities)
    known = ~np.isnan(probabilities).all(axis=0)
    scores = score(one.labels[first][:, known], probabilities[:, known], single_label=single_label)
    return metric_rows(one.participant, "repeats averaged", scores)


def _group_rows(rows: Sequence[MetricRow]) -> list[MetricRow]:
    group: list[MetricRow] = []
    averagings: tuple[Averaging, ...] = ("single trials", "repeats averaged")
    for averaging in averagings:
        scores = scores_by_participant(rows, averaging=averaging)
        for summary in over_participants(scores):
            of_metric = [each for own in scores.values() for each in own if each.metric == summary.metric]
            mean = Score(
                metric=summary.metric,
                value=summary.interval.mean,
                floor=summary.floor,
                n_labels=min(each.n_labels for each in of_metric),
                n_trials=sum(each.n_trials for each in of_metric),
            )
            group.append(MetricRow("group", "test", averaging, mean))
    return group
