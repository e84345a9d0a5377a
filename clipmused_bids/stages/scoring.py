"""From stored predictions to the scores of held-out trials, per participant and for the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipmused_bids.dataset.outputs.metric_files import Averaging, MetricRow, write_run_metrics
from clipmused_bids.dataset.outputs.prediction_files import read_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.inference import over_participants
from clipmused_bids.evaluation.metrics import best_thresholds, score
from clipmused_bids.records import BoolArray, FloatArray, Run, Score
from clipmused_bids.report.leak_notes import LEAKAGE_FIELDS, merged_fields
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decode import decoder_of, predict_averaged
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
        Labelled trials of these sets.
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
    sources: tuple[str, ...]
    leakage: Mapping[str, list[str]]


@dataclass(frozen=True)
class Scored:
    """Test trials of all participants as one decoder sees them, and its scores.

    Parameters
    ----------
    label, method : str
    label_names : tuple of str
    participant, stimulus_id : tuple of str, length n
    labels, probabilities : ndarray of shape (n, C)
    rows : tuple of MetricRow
        Per participant, then for the group.
    sources : tuple of str
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
    leakage: Mapping[str, list[str]] = field(default_factory=lambda: merged_fields([]))

    def score_of(self, metric: str, participant: str) -> Score:
        """One score of single trials; NaN where it was not computed."""
        for row in self.rows:
            asked = (participant, "single trials", metric)
            if (row.participant, row.averaging, row.score.metric) == asked:
                return row.score
        return Score(metric, float("nan"), float("nan"), 0, 0)


def score_decoder(
    plan: Plan, tree: OutputTree, catalogue: Catalogue, *, model_label: str, method: str
) -> Scored:
    """Score the test trials of a decoder, and write the scores of each run.

    Raises
    ------
    DataError
        If a participant has no prediction of a test trial.
    """
    single_label = catalogue.stimuli.single_label
    people: list[LabelledPredictions] = []
    rows: list[MetricRow] = []
    for participant in plan.participants:
        runs = [
            run
            for run in plan.runs_of(participant)
            if tree.predictions(run, model_label=model_label).exists()
        ]
        of_runs = [_read(tree, catalogue, run, model_label=model_label) for run in runs]
        for run, one in zip(runs, of_runs, strict=True):
            _write_run(tree, run, one, model_label=model_label, single_label=single_label)
        people.append(_joined(participant, of_runs))
        person = open_responses(tree, participant, runs, kind=plan.kind)
        model = decoder_of(tree, participant, model_label=model_label)
        rows += _rows_of(
            people[-1], single_label=single_label, fit_on=model.config["hyperparameters"]["fit_on"]
        )
        rows += _averaged_rows(people[-1], model, person, single_label=single_label)
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
        leakage=merged_fields([one.leakage for one in people]),
    )


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
    sets = np.array(predictions.set_name, dtype=str)
    return LabelledPredictions(
        participant=run.participant,
        label_names=predictions.label_names,
        stimulus_id=predictions.stimulus_id,
        labels=labels,
        probabilities=predictions.probabilities,
        test=np.asarray((sets == "test") & known),
        validation=np.asarray((sets == "val") & known),
        sources=(tree.uri(path),),
        leakage={name: sidecar.get(name, []) for name in LEAKAGE_FIELDS},
    )


def _write_run(
    tree: OutputTree, run: Run, one: LabelledPredictions, *, model_label: str, single_label: bool
) -> None:
    if one.test.any():
        scores = score(one.labels[one.test], one.probabilities[one.test], single_label=single_label)
        rows = _metric_rows(run.participant, "single trials", scores)
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
        sources=tuple(source for one in runs for source in one.sources),
        leakage=merged_fields([one.leakage for one in runs]),
    )


def _rows_of(one: LabelledPredictions, *, single_label: bool, fit_on: str) -> list[MetricRow]:
    labels, probabilities = one.labels[one.test], one.probabilities[one.test]
    thresholds = None
    # A decoder that was fitted to the validation trials too is too sure of them to choose cuts by.
    if one.validation.any() and fit_on == "train":
        thresholds = best_thresholds(one.labels[one.validation], one.probabilities[one.validation])
    single = score(labels, probabilities, single_label=single_label, thresholds=thresholds)
    return _metric_rows(one.participant, "single trials", single)


def _averaged_rows(
    one: LabelledPredictions, model: StoredModel, person: ParticipantResponses, *, single_label: bool
) -> list[MetricRow]:
    """Scores of test responses averaged over the presentations of a stimulus; none where nothing repeats."""
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(one.test):
        groups.setdefault(one.stimulus_id[row], []).append(int(row))
    if len(groups) == int(one.test.sum()):
        return []
    first = [rows[0] for rows in groups.values()]
    probabilities = predict_averaged(model, person, [np.array(rows) for rows in groups.values()])
    scores = score(one.labels[first], probabilities, single_label=single_label)
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
