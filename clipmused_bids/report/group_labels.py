"""Single labels over participants: how well each is decoded, and by how much that differs between people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.outputs.comparison_files import LabelRow
from clipmused_bids.report.blocks import Figure, Table
from clipmused_bids.report.canvas import OUR_COLOUR, blank, svg
from clipmused_bids.report.numbers import shown

MOST_LABELS = 40
_SIDE = MOST_LABELS // 2


@dataclass(frozen=True)
class LabelSummary:
    """One label over the participants in which it could be scored.

    Parameters
    ----------
    label : str
    mean, low, high : float
        Average precision: mean, lowest and highest participant; NaN where nobody has a score.
    floor, prevalence, auc : float
        Means over the same participants.
    n_people : int
        Participants with a score.
    """

    label: str
    mean: float
    low: float
    high: float
    floor: float
    prevalence: float
    auc: float
    n_people: int


def over_people(rows: Sequence[LabelRow], *, model_label: str) -> list[LabelSummary]:
    """Summarise each label of one decoder with equal weight of participants; best first, unscored last.

    Parameters
    ----------
    rows : sequence of LabelRow
        Of any decoders.
    model_label : str
    """
    found: dict[str, list[LabelRow]] = {}
    for row in rows:
        if row.model_label == model_label:
            found.setdefault(row.label, []).append(row)
    summaries = [_summary(label, of_label) for label, of_label in found.items()]
    return sorted(summaries, key=lambda one: -one.mean if math.isfinite(one.mean) else math.inf)


def _summary(label: str, rows: Sequence[LabelRow]) -> LabelSummary:
    scored = [row for row in rows if math.isfinite(row.average_precision)]
    nan = math.nan
    if not scored:
        return LabelSummary(label, nan, nan, nan, nan, nan, nan, 0)
    values = np.array([[row.average_precision, row.floor, row.prevalence, row.auc] for row in scored])
    mean, floor, prevalence, auc = (float(value) for value in values.mean(axis=0))
    low, high = float(values[:, 0].min()), float(values[:, 0].max())
    return LabelSummary(label, mean, low, high, floor, prevalence, auc, len(scored))


def label_figure(summaries: Sequence[LabelSummary], *, method: str) -> Figure:
    """Draw each label's average precision with its range over participants and its floor.

    Of more than 40 labels the 20 best and the 20 worst are drawn.
    """
    scored = [one for one in summaries if one.n_people]
    cut = len(scored) > MOST_LABELS
    drawn = [*scored[:_SIDE], *scored[-_SIDE:]] if cut else scored
    n_people = max(one.n_people for one in scored)
    figure = blank(width=5.6, height=1.3 + 0.25 * len(drawn))
    axes = figure.add_subplot()
    places = range(len(drawn))
    if n_people > 1:
        axes.hlines(places, [one.low for one in drawn], [one.high for one in drawn], color="#4d4d4d", linewidth=1.5,
                    label="lowest to highest participant")  # fmt: skip
    axes.plot(
        [one.mean for one in drawn],
        places,
        "D",
        color=OUR_COLOUR,
        markersize=7,
        label="mean over participants",
    )
    axes.plot([one.floor for one in drawn], places, "|", color="black", markersize=11, markeredgewidth=2,
              label="floor (random ranking)")  # fmt: skip
    if cut:
        axes.axhline(_SIDE - 0.5, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(places, [one.label for one in drawn], fontsize=9)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set(xlim=(-0.02, 1.02), xlabel="average precision")
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    best, worst = scored[0], scored[-1]
    some = f" The {_SIDE} best and the {_SIDE} worst of {len(scored)} labels." if cut else ""
    lines = (
        " Lines run from the lowest to the highest participant; they are no intervals."
        if n_people > 1
        else ""
    )
    return Figure(
        svg(figure), "image/svg+xml",
        alt=f"Average precision of {len(scored)} labels by {method}: best {best.label} {best.mean:.3f} (floor "
        f"{best.floor:.3f}), worst {worst.label} {worst.mean:.3f} (floor {worst.floor:.3f}).",
        caption=f"Average precision of each label by {method}, best first.{some}{lines} Labels that are frequent have "
        "a high floor: look at the distance from it. Ordered by these very scores, so that the ends are flattered.",
    )  # fmt: skip


def label_table(summaries: Sequence[LabelSummary]) -> Table:
    """All labels, also those without a score."""
    rows = [
        [one.label, shown(one.mean), "n/a" if not one.n_people else f"{one.low:.3f} to {one.high:.3f}",
         shown(one.floor), shown(one.prevalence), shown(one.auc), str(one.n_people)]
        for one in summaries
    ]  # fmt: skip
    heads = ("label", "average precision", "lowest to highest", "floor", "prevalence", "AUC", "participants")
    return Table("All labels, means over participants", heads, rows, numeric=(False, *(True,) * 6))
