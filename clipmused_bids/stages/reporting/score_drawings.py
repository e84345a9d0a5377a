"""Figures of one participant's decoded labels, with what they say in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.evaluation.metrics import LabelScore, scorable
from clipmused_bids.records import IntArray
from clipmused_bids.report.blocks import Block, Figure, Paragraph, Table
from clipmused_bids.report.label_figures import drawn_labels, label_scores
from clipmused_bids.report.score_figures import (
    MOST_COUNTS,
    MOST_TICKS,
    LabelCurve,
    confusion,
    confusion_figure,
    precision_recall,
    recall_and_precision,
    reliability_curve,
    reliability_figure,
)
from clipmused_bids.stages.scored import LabelledPredictions

_BINS = 10
_CONFUSED = 5
# With one or two positives a curve is a step or two.
FEWEST_POSITIVES = 3


@dataclass(frozen=True)
class Drawing:
    """A figure of the page, and the name it has in the participant's folder.

    Parameters
    ----------
    suffix : str
        Last part of the file's name.
    figure : Figure
    beside : sequence of Block
        What belongs under it.
    """

    suffix: str
    figure: Figure
    beside: Sequence[Block] = ()


def label_bars(labels: Sequence[LabelScore], *, title: str) -> Drawing | None:
    """Average precision of each label with floor and prevalence; None where no label can be scored."""
    precision = np.array([one.average_precision for one in labels])
    if not np.isfinite(precision).any():
        return None
    svg = label_scores(
        [one.label for one in labels],
        precision,
        np.array([one.floor for one in labels]),
        prevalences=np.array([one.prevalence for one in labels]),
        title=title,
    )
    order, gap = drawn_labels(precision)
    best, worst = labels[order[0]], labels[order[-1]]
    n_scored = int(np.isfinite(precision).sum())
    above = sum(one.average_precision > one.floor for one in labels)
    alt = (
        f"Bars of the average precision of {len(order)} labels: from {best.label} {best.average_precision:.2f} to "
        f"{worst.label} {worst.average_precision:.2f}; {above} of {n_scored} are above the floor."
    )
    part = "" if gap is None else f" Of {n_scored} labels the best and the worst {gap} are drawn."
    caption = (
        "Average precision of each label on single held-out trials. Black mark: what a random ranking is expected to "
        f"reach. Ring: prevalence.{part} Labels are sorted by what they reached here, and with few positives a label "
        "may stand anywhere by chance: no interval is shown."
    )
    return Drawing("labels", Figure(svg, "image/svg+xml", alt, caption, "half"))


def chosen_labels(labels: Sequence[LabelScore]) -> dict[str, str]:
    """Labels whose curves are shown, with the reason: best, median, worst and most frequent.

    Of those that were scored on at least 3 positives.
    """
    scored = sorted(
        (
            one
            for one in labels
            if math.isfinite(one.average_precision) and one.n_positive >= FEWEST_POSITIVES
        ),
        key=lambda one: (-one.average_precision, one.label),
    )
    if not scored:
        return {}
    roles = [("best", scored[0]), ("median", scored[(len(scored) - 1) // 2]), ("worst", scored[-1])]
    roles.append(("most frequent", max(scored, key=lambda one: (one.prevalence, one.label))))
    chosen: dict[str, list[str]] = {}
    for role, one in roles:
        chosen.setdefault(one.label, []).append(role)
    return {label: ", ".join(names) for label, names in chosen.items()}


def label_curves(labels: Sequence[LabelScore], one: LabelledPredictions, *, title: str) -> Drawing | None:
    """Precision against recall of a few labels; None where none has three positives."""
    scores = {score.label: score for score in labels}
    shown = [_curve(one, score=scores[name], role=role) for name, role in chosen_labels(labels).items()]
    if not shown:
        return None
    told = "; ".join(f"{c.label} ({c.role}) {c.average_precision:.2f}" for c in shown)
    folds = " A thin line is one fold: each has its own decoder." if len(one.folds) > 1 else ""
    caption = (
        "Precision against recall of single held-out trials, from the most probable trial on. Dashed: prevalence, "
        f"which is the precision of naming every trial.{folds} Labels were chosen by their average precision (AP) on "
        "these trials, so the best and the worst are extremes."
    )
    alt = f"Precision-recall curves of {len(shown)} labels. Average precision: {told}."
    return Drawing(
        "precisionrecall", Figure(precision_recall(shown, title=title), "image/svg+xml", alt, caption, "half")
    )


def _curve(one: LabelledPredictions, *, score: LabelScore, role: str) -> LabelCurve:
    column = one.label_names.index(score.label)
    truth, guess = one.labels[:, column], one.probabilities[:, column]
    curves = []
    for fold in one.folds:
        rows = one.test & (one.fold == fold) & ~np.isnan(truth) & ~np.isnan(guess)
        if rows.any() and scorable(truth[rows, None])[0]:
            curves.append(recall_and_precision(truth[rows], guess[rows]))
    return LabelCurve(score.label, role, curves, score.prevalence, score.average_precision, score.n_positive)


def confusions(one: LabelledPredictions, *, title: str) -> Drawing | None:
    """Confusion matrix of trials with one label; None with fewer than two labels or no such trial."""
    counts = counted(one)
    if counts is None:
        return None
    names, right, n = one.label_names, int(np.trace(counts)), int(counts.sum())
    png = confusion_figure(counts, names, title=title)
    errors = counts - np.diag(np.diag(counts))
    places = np.argsort(-errors, axis=None, kind="stable")[:_CONFUSED]
    pairs = [(int(k) // len(names), int(k) % len(names)) for k in places]
    frequent = [
        (names[row], names[column], str(errors[row, column])) for row, column in pairs if errors[row, column]
    ]
    alt = f"Confusion matrix of {len(names)} labels: the most probable one is right in {right} of {n} held-out trials."
    cells = " Numbers: trials." if len(names) <= MOST_COUNTS else ""
    ticks = (
        "" if len(names) <= MOST_TICKS else " Labels stand in the order of the table of labels, unnamed here."
    )
    caption = (
        f"Which label was most probable (column) for trials of each true label (row): {right} of {n} on the diagonal. "
        f"Colour: share of the row; a grey row has no trial.{cells}{ticks} Shares of rows with few trials are coarse."
    )
    beside: list[Block] = []
    if frequent:
        beside.append(
            Table("Most frequent confusions.", ("true", "decoded", "trials"), frequent, (False, False, True))
        )
    else:
        beside.append(Paragraph("No trial was confused."))
    return Drawing("confusion", Figure(png, "image/png", alt, caption), beside)


def counted(one: LabelledPredictions) -> IntArray | None:
    """Trials by true and most probable label, of test trials with exactly one label."""
    labels, guess = one.labels[one.test], one.probabilities[one.test]
    rows = (np.nansum(labels, axis=1) == 1) & ~np.isnan(labels).any(axis=1) & ~np.isnan(guess).any(axis=1)
    if len(one.label_names) < 2 or not rows.any():
        return None
    truth = np.argmax(labels[rows] == 1, axis=1)
    return confusion(truth, np.argmax(guess[rows], axis=1), n_labels=len(one.label_names))


def calibration(one: LabelledPredictions, *, title: str) -> Drawing | None:
    """Reliability diagram; None where no label can be scored or probabilities are outside [0, 1]."""
    labels, guess = one.labels[one.test], one.probabilities[one.test]
    outside = (guess < 0) | (guess > 1)
    if not scorable(labels).any() or outside.any():
        return None
    curve = reliability_curve(labels, guess, n_bins=_BINS)
    size = curve["count"] / curve["count"].sum()
    error = float((size * np.abs(curve["predicted"] - curve["observed"])).sum())
    caption = (
        f"Of the entries (trial and label) in each of {_BINS} bins of predicted probability, the share that has the "
        "label. On the dashed line probabilities can be taken at their word. Expected calibration error, all labels "
        f"pooled: {error:.3f}; it says nothing about how much is known (predicting prevalences has about 0), and with "
        "few entries per bin it is too high. Below: entries of each bin, logarithmic."
    )
    alt = f"Reliability diagram with {len(size)} filled bins; expected calibration error {error:.3f}."
    return Drawing(
        "calibration", Figure(reliability_figure(curve, title=title), "image/svg+xml", alt, caption)
    )
