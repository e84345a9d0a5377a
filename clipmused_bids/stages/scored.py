"""Predictions beside the truth, and scores of single folds and labels; no decoder is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clipmused_bids.dataset.outputs.metric_files import Averaging, MetricRow
from clipmused_bids.dataset.outputs.prediction_files import read_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.evaluation.folds import mean_over_folds
from clipmused_bids.evaluation.metrics import LabelScore, best_thresholds, per_label, score
from clipmused_bids.records import BoolArray, FloatArray, IntArray, Run, Score
from clipmused_bids.report.leak_notes import LEAKAGE_FIELDS, merged_fields
from clipmused_bids.stages.catalogue import Catalogue


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
    set_name : tuple of str, length n
        Set of each trial, labelled or not.
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
    set_name: tuple[str, ...] = ()

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


def labelled_run(
    tree: OutputTree, catalogue: Catalogue | None, run: Run, *, model_label: str
) -> LabelledPredictions:
    """Read the predictions of one run, and set the labels of its stimuli beside them.

    Without a catalogue no label is known, so no trial counts as a test trial.

    Raises
    ------
    MissingInputError, DataError
        If they cannot be read.
    """
    path = tree.predictions(run, model_label=model_label)
    predictions, sidecar = read_predictions(path)
    labels = np.full(predictions.probabilities.shape, np.nan)
    if catalogue is not None:
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
        set_name=predictions.set_name,
        fold=np.array([fold or 0 for fold in predictions.fold], dtype=np.int64),
        run=(run.key.partition("_")[2],) * len(sets),
        sources=(tree.uri(path),),
        leakage={name: sidecar.get(name, []) for name in LEAKAGE_FIELDS},
    )


def joined_runs(participant: str, runs: Sequence[LabelledPredictions]) -> LabelledPredictions:
    """Join the runs of one participant, one or more, whose decoder is the same."""
    return LabelledPredictions(
        participant=participant,
        label_names=runs[0].label_names,
        stimulus_id=tuple(name for one in runs for name in one.stimulus_id),
        labels=np.concatenate([one.labels for one in runs]),
        probabilities=np.concatenate([one.probabilities for one in runs]),
        test=np.concatenate([one.test for one in runs]),
        validation=np.concatenate([one.validation for one in runs]),
        set_name=tuple(name for one in runs for name in one.set_name),
        fold=np.concatenate([one.fold for one in runs]),
        run=tuple(name for one in runs for name in one.run),
        sources=tuple(source for one in runs for source in one.sources),
        leakage=merged_fields([one.leakage for one in runs]),
    )


def rows_of_fold(one: LabelledPredictions, fold: int, *, single_label: bool, fit_on: str) -> list[MetricRow]:
    """Scores of the test trials of one fold.

    Parameters
    ----------
    fold : int
        0 without a cross-validation.
    single_label : bool
    fit_on : str
        What the decoder was fitted to: ``train``, or validation trials too.
    """
    rows = one.test & (one.fold == fold)
    # What the decoder of this fold knows.
    known = ~np.isnan(one.probabilities[rows]).all(axis=0)
    labels, probabilities = one.labels[:, known], one.probabilities[:, known]
    thresholds = None
    # A decoder that was fitted to the validation trials too is too sure of them to choose cuts by.
    if one.validation.any() and fit_on == "train":
        thresholds = best_thresholds(labels[one.validation], probabilities[one.validation])
    single = score(labels[rows], probabilities[rows], single_label=single_label, thresholds=thresholds)
    return metric_rows(one.participant, "single trials", single)


def metric_rows(participant: str, averaging: Averaging, scores: Sequence[Score]) -> list[MetricRow]:
    """Scores of one participant's test trials as rows of the table."""
    return [MetricRow(participant, "test", averaging, each) for each in scores]


def over_folds(folds: Mapping[int, Sequence[MetricRow]], n_labels: int) -> list[MetricRow]:
    """Mean over folds of each metric, each fold with equal weight."""
    scored = {fold: rows for fold, rows in folds.items() if rows}
    if not scored:
        return []
    first = next(iter(scored.values()))
    if len(scored) == 1:
        return list(first)
    scores = {str(fold): [row.score for row in rows] for fold, rows in scored.items()}
    return [replace(first[0], score=one.score) for one in mean_over_folds(scores, n_labels=n_labels)]


def scores_by_participant(rows: Sequence[MetricRow], *, averaging: Averaging) -> dict[str, list[Score]]:
    """Scores of each participant, without the group's."""
    scores: dict[str, list[Score]] = {}
    for row in rows:
        if row.averaging == averaging and row.participant != "group":
            scores.setdefault(row.participant, []).append(row.score)
    return scores


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


def _mean(values: Sequence[float]) -> float:
    """Mean of what is known; NaN of nothing."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
