"""What the output folder says about how one participant is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.comparison_reading import read_comparison
from clipmused_bids.dataset.outputs.metric_files import MetricRow, read_metrics
from clipmused_bids.errors import MissingInputError
from clipmused_bids.evaluation.comparison import Difference
from clipmused_bids.evaluation.metrics import LabelScore, direction
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.records import Score
from clipmused_bids.report.scores import MethodScores, ScoredPerson
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.comparing import difference
from clipmused_bids.stages.decoder_choice import find_decoder, left_out_by
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.scored import (
    LabelledPredictions,
    Scored,
    joined_runs,
    label_scores,
    labelled_run,
    over_folds,
    rows_of_fold,
)


@dataclass(frozen=True)
class DecodedPerson:
    """One participant's predictions by the main decoder, and what is known of them.

    Parameters
    ----------
    participant : str
    config : mapping
        Of the decoder.
    predictions : LabelledPredictions or None
        None where a decoder is there but has decoded nothing.
    catalogue : Catalogue or None
        As the evaluation sees it.
    scores : ScoredPerson or None
        None where nothing was scored.
    labels : tuple of LabelScore
        Of single labels; empty where nothing was scored or labels are not known.
    methods : tuple of MethodScores
        All that were compared, this decoder among them; empty without a comparison.
    found : Difference or None
        This decoder against the participant's best linear baseline.
    no_difference : str
        Why there is none.
    calibrated : bool
        Whether the stored scores are of calibrated probabilities; the stored probabilities never are.
    """

    participant: str
    config: Mapping[str, Any]
    predictions: LabelledPredictions | None
    catalogue: Catalogue | None
    scores: ScoredPerson | None = None
    labels: tuple[LabelScore, ...] = ()
    methods: tuple[MethodScores, ...] = ()
    found: Difference | None = None
    no_difference: str = ""
    calibrated: bool = False

    @property
    def repeats(self) -> bool:
        """Whether a scored stimulus was shown more than once."""
        if self.predictions is None:
            return False
        tested = np.flatnonzero(self.predictions.test)
        shown = {(self.predictions.stimulus_id[k], int(self.predictions.fold[k])) for k in tested}
        return len(shown) < len(tested)

    @property
    def drawn(self) -> bool:
        """Whether labels and predictions of scored trials are both known."""
        return self.scores is not None and self.predictions is not None and bool(self.predictions.test.any())


def decoded_person(view: ReportView, participant: str) -> DecodedPerson | None:
    """Read what is there of a participant; None where no decoder is his.

    The summary and the section of a page read it once.
    """
    kept: tuple[str, DecodedPerson | None] | None = view.kept.get("decoded")
    if kept is None or kept[0] != participant:
        # Of one participant at a time: ten thousand trials of each are many numbers.
        kept = view.kept["decoded"] = participant, _read(view, participant)
    return kept[1]


def _read(view: ReportView, participant: str) -> DecodedPerson | None:
    tree, label = view.tree, view.model_label
    try:
        config = find_decoder(tree, participant, model_label=label).config
    except MissingInputError:
        return None
    catalogue = view.catalogue
    if catalogue is not None:
        catalogue = catalogue.without(left_out_by(tree, model_label=label))
    predictions = _predictions(view, catalogue, participant, model_label=label)
    person = DecodedPerson(participant, config, predictions, catalogue)
    rows = () if predictions is None else _score_rows(view, person, predictions)
    return person if predictions is None or not rows else _scored(view, person, predictions, rows)


def _predictions(
    view: ReportView, catalogue: Catalogue | None, participant: str, *, model_label: str
) -> LabelledPredictions | None:
    runs = [
        run
        for run in view.plan.runs_of(participant)
        if view.tree.predictions(run, model_label=model_label).exists()
    ]
    found = [labelled_run(view.tree, catalogue, run, model_label=model_label) for run in runs]
    return joined_runs(participant, found) if found else None


def _score_rows(
    view: ReportView, person: DecodedPerson, predictions: LabelledPredictions
) -> tuple[MetricRow, ...]:
    """Scores as they are stored; of one participant alone only those of runs are, and these trials are joined here."""
    tree, label, participant = view.tree, view.model_label, person.participant
    if tree.group_metrics(model_label=label).exists():
        stored = read_metrics(tree.group_metrics(model_label=label))
        rows = tuple(row for row in stored if row.participant == participant)
        if rows:
            return rows
    runs = view.plan.runs_of(participant)
    if not any(tree.run_metrics(run, model_label=label).exists() for run in runs) or person.catalogue is None:
        return ()
    by_fold = {}
    for fold in predictions.folds:
        config = find_decoder(tree, participant, model_label=label, fold=fold or None).config
        by_fold[fold] = rows_of_fold(
            predictions,
            fold,
            single_label=person.catalogue.stimuli.single_label,
            fit_on=config["hyperparameters"]["fit_on"],
        )
    return tuple(over_folds(by_fold, len(predictions.label_names)))


def _scored(
    view: ReportView, person: DecodedPerson, predictions: LabelledPredictions, rows: Sequence[MetricRow]
) -> DecodedPerson:
    table = view.tree.group_table(model_label=view.model_label, kind="comparison")
    details = read_json(table.with_suffix(".json")) if table.exists() else {}
    top = any(row.score.metric == "top1" for row in rows)
    scores = ScoredPerson(
        method=str(person.config.get("variant", person.config["method"])),
        main=str(details.get("MainMetric", "top1" if top else "mAP")),
        regime=view.split.regime if view.split is not None else str(person.config["split"]["regime"]),
        single=_of(rows, "single trials"),
        averaged=_of(rows, "repeats averaged"),
        n_folds=sum(fold > 0 for fold in predictions.folds),
    )
    methods = _methods(view, person.participant, main=scores.main) if details else {}
    ours = as_scored(predictions, rows, label=view.model_label, method=scores.method)
    found, why_not = _against_linear(
        view, person, ours, methods, main=scores.main, seed=int(details.get("RandomSeed", 0))
    )
    return DecodedPerson(
        participant=person.participant,
        config=person.config,
        predictions=predictions,
        catalogue=person.catalogue,
        scores=scores,
        labels=label_scores(ours, person.participant) if predictions.test.any() else (),
        methods=tuple(one for _, one in sorted(methods.items())),
        found=found,
        no_difference=why_not,
        calibrated=bool(details.get("Calibrated", False)),
    )


def _of(rows: Sequence[MetricRow], averaging: str) -> tuple[Score, ...]:
    return tuple(row.score for row in rows if row.averaging == averaging)


def as_scored(one: LabelledPredictions, rows: Sequence[MetricRow], *, label: str, method: str) -> Scored:
    """One participant's test trials in the form that methods are compared in."""
    tested = np.flatnonzero(one.test)
    return Scored(
        label=label,
        method=method,
        label_names=one.label_names,
        participant=(one.participant,) * len(tested),
        stimulus_id=tuple(one.stimulus_id[k] for k in tested),
        labels=one.labels[tested],
        probabilities=one.probabilities[tested],
        rows=tuple(rows),
        sources=one.sources,
        fold=tuple(int(fold) for fold in one.fold[tested]),
        run=tuple(one.run[k] for k in tested),
        leakage=one.leakage,
    )


def _methods(view: ReportView, participant: str, *, main: str) -> dict[str, MethodScores]:
    """Scores of this participant by each method, by model label; notes of those that have none."""
    rows = read_comparison(view.tree.group_table(model_label=view.model_label, kind="comparison"))
    found: dict[str, MethodScores] = {}
    for row in rows:
        known = found.get(row.model_label)
        scores = dict(known.scores) if known else {}
        p_value = known.p_value if known else float("nan")
        if row.participant_id == f"sub-{participant}":
            scores[row.metric] = Score(row.metric, row.value, row.floor, row.n_labels or 0, row.n_trials or 0)
            p_value = row.p_value if row.metric == main else p_value
        note = row.note if not row.metric or f"sub-{participant}:" in row.note else ""
        note = note or (known.note if known else "")
        found[row.model_label] = MethodScores(row.method, _is_linear(row.method), scores, p_value, note)
    return found


def _is_linear(method: str) -> bool:
    return method in VARIANTS and METHODS[VARIANTS[method].method].linear


def _against_linear(
    view: ReportView, person: DecodedPerson, ours: Scored, methods: Mapping[str, MethodScores], *, main: Any,
    seed: int,
) -> tuple[Difference | None, str]:  # fmt: skip
    """Difference to the linear method that does best with this participant, or why there is none."""
    if not methods:
        return (
            None,
            "No baselines were scored on these trials: the evaluation of the group fits and scores them.",
        )
    better = {label: one for label, one in methods.items() if one.linear and main in one.scores}
    better = {label: one for label, one in better.items() if np.isfinite(one.scores[main].value)}
    if not better:
        return None, "No linear baseline has a score here."
    choose = min if direction(main) == "lower" else max
    best = choose(better, key=lambda label: better[label].scores[main].value)
    if best == view.model_label:
        return None, "This decoder is itself the best linear method of this participant."
    theirs = _predictions(view, person.catalogue, person.participant, model_label=best)
    if theirs is None or not ours.participant:
        return (
            None,
            f"The predictions of {better[best].method}, the best linear baseline, cannot be compared here.",
        )
    rival = as_scored(theirs, (), label=best, method=better[best].method)
    if (rival.stimulus_id, rival.label_names) != (ours.stimulus_id, ours.label_names):
        return None, f"{better[best].method}, the best linear baseline, was scored on other trials or labels."
    return difference(ours, rival, metric=main, seed=seed), ""
