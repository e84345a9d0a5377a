"""Scores of one participant in words and tables, each beside its floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipmused_bids.evaluation.comparison import Difference
from clipmused_bids.evaluation.inference import FEWEST_STIMULI
from clipmused_bids.evaluation.metrics import LabelScore, direction
from clipmused_bids.records import FloatArray, Score
from clipmused_bids.report.blocks import Block, Details, Paragraph, Table, Tone
from clipmused_bids.report.numbers import shown

WORDS: Mapping[str, str] = {
    "mAP": "mean average precision over labels",
    "AUC": "mean area under the ROC curve over labels",
    "Hamming": "share of wrong labels at 0.5, lower is better",
    "microAP": "average precision of all labels pooled",
    "F1": "mean F1 over labels, at cuts chosen on validation trials",
    "top1": "share of trials whose most probable label is right",
    "top5": "share of trials whose label is among the five most probable",
}
REGIMES: Mapping[str, str] = {
    "unseen trials of seen stimuli": "The scored trials were held out, but their stimuli were shown in training too: "
    "the scores say nothing about new stimuli.",
    "unseen stimuli": "The stimuli of the scored trials were in no training trial of anybody.",
    "unseen participant": "The network had learned nothing of this participant; the stimuli were seen in training.",
    "unseen participant and unseen stimuli": "The network had learned nothing of this participant, nor of the "
    "stimuli of the scored trials.",
}


@dataclass(frozen=True)
class ScoredPerson:
    """Scores of one participant by one decoder.

    Parameters
    ----------
    method : str
    main : str
        The metric that decides.
    regime : str
    single, averaged : tuple of Score
        Of single trials; of responses averaged over the presentations of a stimulus (empty where none repeats, or
        where they were not computed).
    n_folds : int
        Folds of a cross-validation whose scores were averaged; 0 without one.
    """

    method: str
    main: str
    regime: str
    single: tuple[Score, ...]
    averaged: tuple[Score, ...] = ()
    n_folds: int = 0

    @property
    def headline(self) -> Score | None:
        """Main score of single trials."""
        return next((one for one in self.single if one.metric == self.main), None)


@dataclass(frozen=True)
class MethodScores:
    """Scores of one method on the participant's single trials.

    Parameters
    ----------
    method : str
    linear : bool
        Whether it is a linear baseline.
    scores : mapping of str to Score
        By metric.
    p_value : float
        Of the permutation test by the main metric; NaN where there was none.
    note : str
        Why there is no score.
    """

    method: str
    linear: bool
    scores: Mapping[str, Score] = field(default_factory=dict)
    p_value: float = math.nan
    note: str = ""


def way_to_perfect(score: Score) -> float:
    """Share of the way from the floor to a perfect score; below 0 where the floor is better, NaN without one."""
    perfect = 0.0 if direction(score.metric) == "lower" else 1.0
    return (score.value - score.floor) / (perfect - score.floor) if score.floor != perfect else math.nan


def headline_text(score: Score) -> str:
    """Main score with its floor in a sentence."""
    if math.isnan(score.value):
        return f"{score.metric} cannot be computed: no label has a positive and a negative among the scored trials."
    way = way_to_perfect(score)
    far = "" if math.isnan(way) else f": {100 * way:.0f} % of the way from the floor to a perfect score"
    return (
        f"{score.metric} {shown(score.value)}, knowing nothing {shown(score.floor)}{far} "
        f"({_count(score.n_trials, 'trial')}, {_count(score.n_labels, 'label')})."
    )


def scores_blocks(person: ScoredPerson) -> list[Block]:
    """All scores, single trials first, then averaged over repeats; before them what they are."""
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    for averaging, scores in (("", person.single), (" (repeats averaged)", person.averaged)):
        for one in scores:
            if one.metric == person.main:
                marked.append(len(rows))
            rows.append(
                (
                    f"{one.metric}{averaging}", shown(one.value), shown(one.floor), _percent(way_to_perfect(one)),
                    str(one.n_labels), str(one.n_trials),
                )
            )  # fmt: skip
    words = "; ".join(f"{one.metric}: {WORDS[one.metric]}" for one in person.single if one.metric in WORDS)
    legend = (
        "Floor: what knowing nothing scores on the same trials. Gained: share of the way from the floor to a perfect "
        f"score. Only labels with a positive and a negative among the scored trials count. {words}."
    )
    folds = f", means over {person.n_folds} folds" if person.n_folds else ""
    columns = ("score", "value", "floor", "gained", "labels", "trials")
    numeric = (False, True, True, True, True, True)
    return [Table(f"Scores of held-out trials{folds}.", columns, rows, numeric, marked), Paragraph(legend)]


def methods_blocks(methods: Sequence[MethodScores], *, ours: str, main: str) -> list[Block]:
    """Methods beside each other on this participant's trials, best first by the main metric; why others failed."""
    metrics = [
        main,
        *(m for m in ("mAP", "AUC", "Hamming") if m != main and any(m in one.scores for one in methods)),
    ]
    floors = next((one.scores for one in methods if one.scores), {})
    columns = ["method", *(_with_floor(metric, floors) for metric in metrics), f"p ({main})"]
    ordered = sorted((one for one in methods if one.scores), key=lambda one: _rank(one, main))
    rows = [
        (
            f"{one.method}{' (linear)' if one.linear else ''}",
            *(shown(one.scores[m].value) if m in one.scores else "n/a" for m in metrics),
            shown(one.p_value),
        )
        for one in ordered
    ]
    marked = [k for k, one in enumerate(ordered) if one.method == ours]
    numeric = (False, *(True,) * (len(columns) - 1))
    table = Table("Methods on the same single trials, best first.", columns, rows, numeric, marked)
    legend = "p: one-sided permutation test, where it was made; not corrected for the number of methods."
    failed = [one.note or f"{one.method}: no score." for one in methods if not one.scores]
    lost = f" Without a score: {' '.join(failed)}" if failed else ""
    return [table, Paragraph(legend + lost)]


def difference_text(found: Difference) -> tuple[str, Tone]:
    """Say how a method does against the participant's best linear baseline, and in which tone."""
    interval, answer = found.intervals[1], found.answers[1]
    if math.isnan(interval.mean):
        return f"Nothing can be compared with {found.rival}: no label can be scored.", "note"
    beats = {
        "yes": "Beats the best linear baseline",
        "no": "Worse than the best linear baseline",
        "undetermined": "Undetermined whether it beats the best linear baseline",
    }[answer]
    if math.isnan(interval.low):
        sure = f"no interval: {interval.n} stimuli, at least {FEWEST_STIMULI} are needed"
    else:
        sure = f"95 % interval over {interval.n} stimuli {_signed(interval.low)} to {_signed(interval.high)}"
    tone: Tone = {"yes": "good", "no": "warning", "undetermined": "note"}[answer]  # type: ignore[assignment]
    better = " (lower is better)" if direction(found.metric) == "lower" else ""
    return (
        f"{beats} of this participant, {found.rival}: {found.metric} {_signed(interval.mean)}{better} ({sure}).",
        tone,
    )


def label_table(labels: Sequence[LabelScore]) -> Details:
    """Scores of every label, best first, folded away; those that cannot be scored last."""
    ordered = sorted(
        labels, key=lambda one: -one.average_precision if math.isfinite(one.average_precision) else math.inf
    )
    rows = [
        (
            one.label, shown(one.average_precision), shown(one.floor), shown(one.prevalence), shown(one.auc),
            str(one.n_positive), str(one.n_trials),
        )
        for one in ordered
    ]  # fmt: skip
    table = Table(
        "Single labels, single trials; after a cross-validation means over folds. n/a: no positive or no negative "
        "among the scored trials.",
        ("label", "average precision", "floor", "prevalence", "AUC", "positives", "trials"),
        rows,
        (False, *(True,) * 6),
    )
    return Details(f"All {len(rows)} labels as a table", [table])


def unscorable_note(labels: Sequence[LabelScore]) -> Paragraph | None:
    """Say which labels cannot be scored, and why; None where all can."""
    left = [one for one in labels if math.isnan(one.average_precision)]
    if not left:
        return None
    named = ", ".join(one.label for one in left[:10]) + (", ..." if len(left) > 10 else "")
    verb = "has" if len(left) == 1 else "have"
    return Paragraph(
        f"{len(left)} of {_count(len(labels), 'label')} cannot be scored and {verb} no bar: no scored trial with it, "
        f"or none without ({named}).",
        tone="note",
    )


def mean_probabilities(names: Sequence[str], probabilities: FloatArray) -> Table:
    """Mean predicted probability of each label, most probable first: what was decoded, not whether it is right."""
    known = ~np.isnan(probabilities)
    mean = np.where(known, probabilities, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    most = np.nanmax(np.where(known.any(axis=0), probabilities, 0.0), axis=0) if len(probabilities) else mean
    order = np.argsort(-mean, kind="stable")
    return Table(
        "Predicted probabilities over all decoded trials. They are no scores: nothing here says whether they are "
        "right.",
        ("label", "mean", "highest"),
        [(names[k], shown(float(mean[k])), shown(float(most[k]))) for k in order],
        (False, True, True),
    )


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.0f} %"


def _with_floor(metric: str, floors: Mapping[str, Score]) -> str:
    return f"{metric} (floor {shown(floors[metric].floor)})" if metric in floors else metric


def _rank(one: MethodScores, main: str) -> tuple[bool, float]:
    value = one.scores[main].value if main in one.scores else math.nan
    return math.isnan(value), -value if direction(main) == "higher" else value


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
