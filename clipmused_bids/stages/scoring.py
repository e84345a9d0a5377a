"""From stored predictions to the scores of held-out trials, per participant and for the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clipmused_bids.dataset.outputs.metric_files import Averaging, MetricRow, write_run_metrics
from clipmused_bids.dataset.outputs.prediction_files import read_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.calibration import Calibration, Scope, fit_calibration
from clipmused_bids.evaluation.folds import mean_over_folds
from clipmused_bids.evaluation.inference import over_participants
from clipmused_bids.evaluation.metrics import LabelScore, best_thresholds, per_label, score
from clipmused_bids.records import BoolArray, FloatArray, IntArray, Run, Score
from clipmused_bids.report.leak_notes import LEAKAGE_FIELDS, merged_fields
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decode import aligned_labels, decoder_of, predict, predict_averaged
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of one participant beside the truth.

    Parameters
    ----------
    participant : str
    label_names : tuple of str
    stimulus_id : tuple of str, length n
    labels, probabilities : ndarray of shape (n, C)
    test, validation : ndarray of bool, shape (n,)
        Labelled trials of these sets; of test trials those that were decoded.
    fold : ndarray of int, shape (n,)
        Fold that holds a trial out; 0 without a cross-validation.
    run : tuple of str, length n
        Run of a trial, by a name without the participant.
    sources : tuple of str
        BIDS URIs of the predictions.
    leakage : mapping
        What their sidecars say of leakage.
    """

    participant: str
    label_names: tuple[str, ...]
    stimulus_id: tuple[str, ...]
    labels: FloatArray
    probabilities: FloatArray
    test: BoolArray
    validation: BoolArray
    fold: IntArray
    run: tuple[str, ...]
    sources: tuple[str, ...]
    leakage: Mapping[str, list[str]]

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds of the test trials; (0,) without a cross-validation."""
        return tuple(int(fold) for fold in np.unique(self.fold[self.test]))


@dataclass(frozen=True)
class Scored:
    """Test trials of all participants as one decoder sees them, and its scores.

    Parameters
    ----------
    label, method : str
        Model label; name of the method or ablation.
    label_names : tuple of str
    participant, stimulus_id : tuple of str, length n
    labels, probabilities : ndarray of shape (n, C)
        NaN probabilities where the decoder of the trial's fold does not know a label.
    rows : tuple of MetricRow
        Per participant, then for the group.
    sources : tuple of str
    fold : tuple of int, length n
        0 without a cross-validation. Empty stands for zeros.
    run : tuple of str, length n
        By a name that all participants share.
    fold_rows : mapping of int to tuple of MetricRow
        Scores of single trials of each participant in each fold.
    leakage : mapping
        What `leakage_fields` says of the predictions.
    """

    label: str
    method: str
    label_names: tuple[str, ...]
    participant: tuple[str, ...]
    stimulus_id: tuple[str, ...]
    labels: FloatArray
    probabilities: FloatArray
    rows: tuple[MetricRow, ...]
    sources: tuple[str, ...]
    fold: tuple[int, ...] = ()
    run: tuple[str, ...] = ()
    fold_rows: Mapping[int, tuple[MetricRow, ...]] = field(default_factory=dict)
    leakage: Mapping[str, list[str]] = field(default_factory=lambda: merged_fields([]))

    @property
    def people(self) -> tuple[str, ...]:
        """Participants that were scored, in order."""
        return tuple(dict.fromkeys(self.participant))

    def score_of(self, metric: str, participant: str) -> Score:
        """One score of single trials; NaN where it was not computed."""
        for row in self.rows:
            asked = (participant, "single trials", metric)
            if (row.participant, row.averaging, row.score.metric) == asked:
                return row.score
        return Score(metric, float("nan"), float("nan"), 0, 0)


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


def label_scores(scored: Scored, participant: str) -> tuple[LabelScore, ...]:
    """Scores of each label on one participant's test trials; means over folds where there are several."""
    fold = np.array(scored.fold or (0,) * len(scored.participant))
    mine = np.array(scored.participant) == participant
    of_folds: dict[str, list[LabelScore]] = {}
    for k in np.unique(fold[mine]):
        rows = mine & (fold == k)
        known = ~np.isnan(scored.probabilities[rows]).all(axis=0)
        names = [name for name, use in zip(scored.label_names, known, strict=True) if use]
        found = per_label(
            scored.labels[rows][:, known], scored.probabilities[rows][:, known], label_names=names
        )
        for one in found:
            of_folds.setdefault(one.label, []).append(one)
    return tuple(_mean_label(of_folds[name]) for name in scored.label_names if name in of_folds)


def _mean_label(folds: Sequence[LabelScore]) -> LabelScore:
    n_trials = sum(one.n_trials for one in folds)
    n_positive = sum(one.n_positive for one in folds)
    return LabelScore(
        label=folds[0].label,
        average_precision=_mean([one.average_precision for one in folds]),
        floor=_mean([one.floor for one in folds]),
        prevalence=n_positive / n_trials if n_trials else float("nan"),
        auc=_mean([one.auc for one in folds]),
        n_positive=n_positive,
        n_trials=n_trials,
    )


def _score_person(
    plan: Plan, tree: OutputTree, catalogue: Catalogue, participant: str, *, model_label: str
) -> tuple[LabelledPredictions, list[MetricRow], dict[int, list[MetricRow]]]:
    """One participant's predictions, scores, and scores of each fold."""
    single_label = catalogue.stimuli.single_label
    runs = [
        run for run in plan.runs_of(participant) if tree.predictions(run, model_label=model_label).exists()
    ]
    of_runs = [_read(tree, catalogue, run, model_label=model_label) for run in runs]
    joined = _joined(participant, of_runs)
    person = open_responses(tree, participant, runs, kind=plan.kind)
    models = {
        fold: decoder_of(tree, participant, model_label=model_label, fold=fold or None)
        for fold in joined.folds
    }
    maps = {}
    if plan.hyperparameters.evaluation.calibrate:
        scope: Scope = "pooled" if single_label else "label"
        maps = {fold: calibration_of(one, joined, person, fold, scope=scope) for fold, one in models.items()}
        joined = _calibrated(joined, maps)
    for run, own in zip(runs, of_runs, strict=True):
        of_run = replace(joined, sources=own.sources, leakage=own.leakage)
        _write_run(tree, run, of_run, model_label=model_label, single_label=single_label)
    single: dict[int, list[MetricRow]] = {}
    averaged: dict[int, list[MetricRow]] = {}
    for fold, model in models.items():
        fit_on = model.config["hyperparameters"]["fit_on"]
        single[fold] = _rows_of(joined, fold, single_label=single_label, fit_on=fit_on)
        averaged[fold] = _averaged_rows(
            joined, fold, model, person, single_label=single_label, calibration=maps.get(fold)
        )
    n_labels = len(joined.label_names)
    return joined, _over_folds(single, n_labels) + _over_folds(averaged, n_labels), single


def calibration_of(
    model: StoredModel, one: LabelledPredictions, person: ParticipantResponses, fold: int, *, scope: Scope
) -> Calibration:
    """Platt calibration of one decoder, fitted to its validation trials."""
    rows = np.flatnonzero(one.validation)
    probabilities = one.probabilities[rows]
    if fold:
        # The fold after the one that is held out validates; predictions of it are those of its own decoder.
        n_folds = int(model.config["split"]["folds"])
        known = (~np.isnan(one.labels)).any(axis=1)
        rows = np.flatnonzero((one.fold == fold % n_folds + 1) & known)
        probabilities = aligned_labels(model, predict(model, person, rows), one.label_names)
    unknown = np.isnan(probabilities)
    labels = np.where(unknown, np.nan, one.labels[rows])
    return fit_calibration(labels, np.where(unknown, 0.0, probabilities), scope=scope)


def _calibrated(one: LabelledPredictions, maps: Mapping[int, Calibration]) -> LabelledPredictions:
    """Every trial by the calibration of the decoder that decoded it."""
    probabilities = one.probabilities.copy()
    for fold, calibration in maps.items():
        rows = one.fold == fold
        probabilities[rows] = calibration.apply(probabilities[rows])
    return replace(one, probabilities=probabilities)


def _over_folds(folds: Mapping[int, Sequence[MetricRow]], n_labels: int) -> list[MetricRow]:
    """Mean over folds of each metric, each fold with equal weight."""
    scored = {fold: rows for fold, rows in folds.items() if rows}
    if not scored:
        return []
    first = next(iter(scored.values()))
    if len(scored) == 1:
        return list(first)
    scores = {str(fold): [row.score for row in rows] for fold, rows in scored.items()}
    return [replace(first[0], score=one.score) for one in mean_over_folds(scores, n_labels=n_labels)]


def _mean(values: Sequence[float]) -> float:
    """Mean of what is known; NaN of nothing."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def scores_by_participant(rows: Sequence[MetricRow], *, averaging: Averaging) -> dict[str, list[Score]]:
    """Scores of each participant, without the group's."""
    scores: dict[str, list[Score]] = {}
    for row in rows:
        if row.averaging == averaging and row.participant != "group":
            scores.setdefault(row.participant, []).append(row.score)
    return scores


def _read(tree: OutputTree, catalogue: Catalogue, run: Run, *, model_label: str) -> LabelledPredictions:
    path = tree.predictions(run, model_label=model_label)
    predictions, sidecar = read_predictions(path)
    labels = catalogue.labels_of(predictions.stimulus_id, names=predictions.label_names)
    known = (~np.isnan(labels)).any(axis=1)
    known &= (~np.isnan(predictions.probabilities)).any(axis=1)
    sets = np.array(predictions.set_name, dtype=str)
    return LabelledPredictions(
        participant=run.participant,
        label_names=predictions.label_names,
        stimulus_id=predictions.stimulus_id,
        labels=labels,
        probabilities=predictions.probabilities,
        test=np.asarray((sets == "test") & known),
        validation=np.asarray((sets == "val") & known),
        fold=np.array([fold or 0 for fold in predictions.fold], dtype=np.int64),
        run=(run.key.partition("_")[2],) * len(sets),
        sources=(tree.uri(path),),
        leakage={name: sidecar.get(name, []) for name in LEAKAGE_FIELDS},
    )


def _write_run(
    tree: OutputTree, run: Run, one: LabelledPredictions, *, model_label: str, single_label: bool
) -> None:
    mine = np.array(one.run) == run.key.partition("_")[2]
    one = replace(one, test=one.test & mine)
    if one.test.any():
        # Cuts for F1 would be chosen on validation trials of all runs.
        folds = {
            fold: _rows_of(one, fold, single_label=single_label, fit_on="train+validation")
            for fold in one.folds
        }
        rows = _over_folds(folds, len(one.label_names))
        write_run_metrics(tree, run, rows, model_label=model_label, sources=one.sources, details=one.leakage)


def _joined(participant: str, runs: Sequence[LabelledPredictions]) -> LabelledPredictions:
    if not any(one.test.any() for one in runs):
        raise DataError(
            f"sub-{participant}: no prediction is of a labelled test trial.",
            hint="decode the runs that hold test trials; split.tsv names them",
        )
    return LabelledPredictions(
        participant=participant,
        label_names=runs[0].label_names,
        stimulus_id=tuple(name for one in runs for name in one.stimulus_id),
        labels=np.concatenate([one.labels for one in runs]),
        probabilities=np.concatenate([one.probabilities for one in runs]),
        test=np.concatenate([one.test for one in runs]),
        validation=np.concatenate([one.validation for one in runs]),
        fold=np.concatenate([one.fold for one in runs]),
        run=tuple(name for one in runs for name in one.run),
        sources=tuple(source for one in runs for source in one.sources),
        leakage=merged_fields([one.leakage for one in runs]),
    )


def _rows_of(one: LabelledPredictions, fold: int, *, single_label: bool, fit_on: str) -> list[MetricRow]:
    rows = one.test & (one.fold == fold)
    # What the decoder of this fold knows.
    known = ~np.isnan(one.probabilities[rows]).all(axis=0)
    labels, probabilities = one.labels[:, known], one.probabilities[:, known]
    thresholds = None
    # A decoder that was fitted to the validation trials too is too sure of them to choose cuts by.
    if one.validation.any() and fit_on == "train":
        thresholds = best_thresholds(labels[one.validation], probabilities[one.validation])
    single = score(labels[rows], probabilities[rows], single_label=single_label, thresholds=thresholds)
    return _metric_rows(one.participant, "single trials", single)


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
    return _metric_rows(one.participant, "repeats averaged", scores)


def _metric_rows(participant: str, averaging: Averaging, scores: Sequence[Score]) -> list[MetricRow]:
    return [MetricRow(participant, "test", averaging, each) for each in scores]


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
