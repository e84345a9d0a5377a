"""Participants side by side: each one's score by several methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.report.blocks import Figure, Table
from clipmused_bids.report.canvas import FLOOR_COLOUR, OTHER_COLOURS, OUR_COLOUR, blank, svg
from clipmused_bids.report.numbers import shown
from clipmused_bids.report.standing import Standing, metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 30
_MOST_METHODS = 4
_MARKERS = ("D", "o", "s", "^")
_COLOURS = (OUR_COLOUR, *OTHER_COLOURS)


def shown_methods(found: Standing) -> tuple[str, ...]:
    """Methods that stand beside each other for each participant: ours, the best linear one, and the highest others."""
    names = [
        found.ours.method,
        found.baseline,
        *(row.method for row in found.ranked if row not in found.variants),
    ]
    scored = {row.method for row in found.ranked}
    return tuple(dict.fromkeys(name for name in names if name in scored))[:_MOST_METHODS]


def people_figure(found: Standing, floors: Mapping[str, float]) -> Figure:
    """Draw each participant's score: participants as rows, or, where they are many, methods as rows.

    Parameters
    ----------
    found : Standing
    floors : mapping of str to float
        Of the decoder's trials, by participant.
    """
    people = list(dict.fromkeys(who for values in found.people.values() for who in values))
    by_person = len(people) <= MOST_ROWS
    drawn, caption = (_person_rows if by_person else _method_rows)(found, people, floors)
    return Figure(
        drawn, "image/svg+xml",
        alt=f"{metric_name(found.metric)} of {len(people)} participant(s). {_ranges(found)}",
        caption=f"{caption} Participants are no replicates: their numbers of trials and their noise differ.",
    )  # fmt: skip


def _person_rows(found: Standing, people: Sequence[str], floors: Mapping[str, float]) -> tuple[bytes, str]:
    methods = shown_methods(found)
    figure = blank(width=5.6, height=1.3 + 0.3 * len(people))
    axes = figure.add_subplot()
    known = [who for who in people if math.isfinite(floors.get(who, math.nan))]
    axes.plot(
        [floors[who] for who in known], [people.index(who) for who in known], "|", color=FLOOR_COLOUR,
        markersize=14, markeredgewidth=2, label="floor",
    )  # fmt: skip
    for number, method in enumerate(methods):
        values = found.people.get(method, {})
        places = [people.index(who) + 0.12 * (number - (len(methods) - 1) / 2) for who in values]
        axes.plot(
            list(values.values()), places, _MARKERS[number], color=_COLOURS[number], label=method,
            markersize=8 if number == 0 else 6, alpha=0.9,
        )  # fmt: skip
    _finish(axes, people, metric=found.metric)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    text = f"Score of each participant's held-out trials by {', '.join(methods)}."
    if len(methods) < len(found.ranked):
        text += " The rest is in the table of every method's score."
    return svg(figure), text


def _method_rows(found: Standing, people: Sequence[str], floors: Mapping[str, float]) -> tuple[bytes, str]:
    methods = [row.method for row in found.ranked]
    figure = blank(width=5.6, height=1.3 + 0.34 * len(methods))
    axes = figure.add_subplot()
    # A fixed spread, so that the same data give the same figure.
    spread = {who: 0.3 * math.sin(2.4 * k) for k, who in enumerate(people)}
    for place, row in enumerate(found.ranked):
        values = found.people.get(row.method, {})
        ours = row.method == found.ours.method
        axes.plot(
            list(values.values()), [place + spread[who] for who in values], "D" if ours else "o",
            color=OUR_COLOUR if ours else "#4d4d4d", markersize=4, alpha=0.5,
        )  # fmt: skip
        axes.plot([row.value] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    known = [floor for floor in floors.values() if math.isfinite(floor)]
    if known:
        axes.axvline(
            float(np.mean(known)), color=FLOOR_COLOUR, linestyle="--", label="floor, mean over participants"
        )
        figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    _finish(axes, methods, metric=found.metric)
    caption = (
        f"Scores of held-out trials: each point is one of {len(people)} participants, each bar "
        "the mean over them."
    )
    return svg(figure), caption


def people_table(
    found: Standing,
    ours: Mapping[str, ComparisonRow],
    ceilings: Mapping[str, float],
    noted: Mapping[str, str],
) -> Table:
    """Scores beside floors, the best linear baseline, the voxels' noise ceiling, and trials.

    Parameters
    ----------
    found : Standing
    ours : mapping of str to ComparisonRow
        Rows of the report's decoder by participant.
    ceilings : mapping of str to float
        Median noise ceiling of voxels, by participant.
    noted : mapping of str to str
        What happened to participants that have no score.
    """
    base = found.baseline
    others = [base] if base and base != found.ours.method else []
    heads = ["participant", found.ours.method, "floor", *others, "p", "trials", "labels", "noise ceiling"]
    rows = []
    for who, row in ours.items():
        beside = [shown(found.people.get(one, {}).get(who, math.nan)) for one in others]
        p_value = "n/a" if math.isnan(row.p_value) else f"{row.p_value:.3f}"
        counts = ["n/a" if n is None else str(n) for n in (row.n_trials, row.n_labels)]
        ceiling = shown(ceilings.get(who, math.nan))
        rows.append([who, shown(row.value), shown(row.floor), *beside, p_value, *counts, ceiling])
    if noted:
        heads.append("note")
        rows = [[*row, noted.get(row[0], "")] for row in rows]
        width = len(heads) - 2
        rows += [[who, *["n/a"] * width, text] for who, text in noted.items() if who not in ours]
    numeric = [k > 0 and head != "note" for k, head in enumerate(heads)]
    return Table(
        f"{metric_name(found.metric)} of each participant's held-out trials. p: permutation test. Noise ceiling: share "
        "of the variance of a response that the stimulus explains, median voxel; no ceiling of the score.",
        heads, rows, numeric=numeric,
    )  # fmt: skip


def all_scores_table(found: Standing) -> Table:
    """Every method's score of every participant."""
    methods = [row.method for row in found.ranked]
    people = list(dict.fromkeys(who for values in found.people.values() for who in values))
    rows = [
        [who, *(shown(found.people.get(one, {}).get(who, math.nan)) for one in methods)] for who in people
    ]
    return Table(
        f"{metric_name(found.metric)} of each participant by each method", ("participant", *methods), rows,
        numeric=(False, *(True,) * len(methods)),
    )  # fmt: skip


def _ranges(found: Standing) -> str:
    parts = []
    for method in shown_methods(found):
        values = list(found.people.get(method, {}).values())
        if values:
            parts.append(f"{method} from {min(values):.3f} to {max(values):.3f}")
    return "; ".join(parts) + "."


def _finish(axes: Axes, names: Sequence[str], *, metric: str) -> None:
    axes.set_yticks(range(len(names)), list(names), fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(f"{metric_name(metric)} of held-out trials", fontsize=9)
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
