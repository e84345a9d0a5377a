"""Predictions beside the truth, and scores of single folds and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.evaluation.calibration import Calibration, Scope, fit_calibration
from clipmused_bids.evaluation.folds import mean_over_folds
from clipmused_bids.evaluation.metrics import LabelScore, per_label
from clipmused_bids.records import BoolArray, FloatArray, IntArray, Score
from clipmused_bids.report.leak_notes import merged_fields
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.predicting import aligned_labels, predict


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


def calibrated(one: LabelledPredictions, maps: Mapping[int, Calibration]) -> LabelledPredictions:
    """Every trial by the calibration of the decoder that decoded it."""
    probabilities = one.probabilities.copy()
    for fold, calibration in maps.items():
        rows = one.fold == fold
        probabilities[rows] = calibration.apply(probabilities[rows])
    return replace(one, probabilities=probabilities)


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
