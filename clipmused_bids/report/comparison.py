"""Methods beside each other: scores with intervals, paired differences, and tables of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.report.blocks import Figure, Table
from clipmused_bids.report.canvas import FLOOR_COLOUR, OTHER_COLOURS, OUR_COLOUR, blank, svg
from clipmused_bids.report.numbers import interval_text, shown, signed
from clipmused_bids.report.standing import Standing, metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REST = "#4d4d4d"
_STIMULI = OTHER_COLOURS[0]
_WIDTH = 5.6
_MOST_VARIANTS = 4


def score_figure(found: Standing) -> Figure:
    """Draw the score of each method with its interval over participants, and the floor.

    More than a few ablations would hide the methods: they are left to their own figure then.
    """
    hidden = found.variants if len(found.variants) > _MOST_VARIANTS else ()
    rows, ours = tuple(row for row in found.ranked if row not in hidden), found.ours.method
    figure = blank(width=_WIDTH, height=1.25 + 0.27 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        _point(axes, place, row.value, row.low, row.high, ours=row.method == ours)
    _floors(axes, [row.floor for row in rows])
    _named(axes, [row.method for row in rows], ours=ours)
    axes.set_xlabel(f"{metric_name(found.metric)}, mean over participants", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    intervals = any(math.isfinite(row.low) for row in rows)
    lines = (
        "Lines are 95 % t intervals over participants." if intervals else "One participant has no interval."
    )
    rest = f"{len(hidden)} ablations are drawn below. " if hidden else ""
    return Figure(
        svg(figure), "image/svg+xml",
        alt=f"{metric_name(found.metric)} of {len(rows)} methods: "
        + "; ".join(f"{row.method} {row.value:.3f}" for row in rows)
        + f"; floor {_floor_text(rows)}.",
        caption=f"Score of each method on the same test trials. {lines} Blue diamond: {ours}. {rest}"
        "Grey: what knowing nothing would score. Intervals that overlap do not mean that methods are alike: "
        "differences within people are below.",
    )  # fmt: skip


def difference_figure(
    rows: Sequence[ComparisonRow], *, metric: str, rival: str, ours: str, what: str
) -> Figure:
    """Draw paired differences to one rival with both intervals.

    Parameters
    ----------
    rows : sequence of ComparisonRow
        Those with a difference.
    metric, rival, ours : str
    what : str
        The rival in words.
    """
    figure = blank(width=_WIDTH, height=1.35 + 0.34 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=1)
    for place, row in enumerate(rows):
        _point(axes, place - 0.13, row.difference, row.people_low, row.people_high, ours=row.method == ours)
        if math.isfinite(row.stimuli_low):
            axes.plot(
                [row.stimuli_low, row.stimuli_high], [place + 0.2] * 2, color=_STIMULI, linestyle=(0, (3, 1))
            )
    over_people = any(math.isfinite(row.people_low) for row in rows)
    over_stimuli = any(math.isfinite(row.stimuli_low) for row in rows)
    if over_people:
        axes.plot([], [], color=_REST, label="over participants")
    if over_stimuli:
        axes.plot([], [], color=_STIMULI, linestyle=(0, (3, 1)), label="over stimuli")
    _named(axes, [row.method for row in rows], ours=ours)
    axes.set_xlabel(f"{metric_name(metric)} minus that of {rival} (right: better)", fontsize=9)
    if over_people or over_stimuli:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    shown = "; ".join(f"{row.method} {signed(row.difference)}" for row in rows)
    return Figure(
        svg(figure), "image/svg+xml",
        alt=f"Differences in {metric_name(metric)} to {rival}: {shown}.",
        caption=f"Each method minus {rival}, {what}, within the same people and trials. "
        f"{_intervals_in_words(over_people=over_people, over_stimuli=over_stimuli)}",
    )  # fmt: skip


def _intervals_in_words(*, over_people: bool, over_stimuli: bool) -> str:
    """Say which 95 % intervals are drawn, and what they do not show."""
    drawn = ["solid: over participants"] if over_people else []
    drawn += ["dashed: over stimuli, with these participants fixed"] if over_stimuli else []
    if not drawn:
        return "There is no interval: a difference here may be chance alone."
    return (
        f"95 % intervals, {'; '.join(drawn)}. An interval that crosses 0 leaves open which is better; it does not show "
        "that they are equal."
    )


def score_table(found: Standing) -> Table:
    """Scores by the metric that decides, highest first, and methods without one."""
    name = metric_name(found.metric)
    rows = [
        [row.method, shown(row.value), interval_text(row.low, row.high), shown(row.floor), p_text(row.p_value),
         _whole(row.n_labels), _whole(row.n_trials), row.note]
        for row in (*found.ranked, *found.unscored)
    ]  # fmt: skip
    return _table(
        f"{name} of held-out trials, highest first. p: permutation test against knowing nothing.",
        ("method", name, "95 % interval", "floor", "p", "labels", "trials", "note"),
        rows, text={0, 7}, marked=found.ours.method,
    )  # fmt: skip


def difference_table(found: Standing) -> Table:
    """Paired differences to the best linear baseline, with both intervals, verdicts and p-values."""
    rows = [
        [row.method, signed(row.difference),
         interval_text(row.people_low, row.people_high, sign="+"), row.people_verdict,
         p_text(row.people_p), p_text(row.people_p_holm),
         interval_text(row.stimuli_low, row.stimuli_high, sign="+"), row.stimuli_verdict]
        for row in found.ranked
        if row.baseline
    ]  # fmt: skip
    return _table(
        f"{metric_name(found.metric)}: difference to {found.baseline}, the best linear baseline. p: paired t test over "
        "participants; Holm: corrected for the number of methods.",
        ("method", "difference", "other people", "beats it", "p", "p (Holm)", "other stimuli", "beats it"),
        rows, text={0, 3, 7}, marked=found.ours.method,
    )  # fmt: skip


def metrics_table(rows: Sequence[ComparisonRow], *, ours: str) -> Table:
    """All metrics of all methods, with their intervals over participants."""
    group = [row for row in rows if row.participant_id == "group" and row.metric]
    metrics = list(dict.fromkeys(row.metric for row in group))
    by_method: dict[str, dict[str, ComparisonRow]] = {}
    for row in group:
        by_method.setdefault(row.method, {})[row.metric] = row
    body = []
    for method, found in by_method.items():
        cells = [method]
        for metric in metrics:
            one = found.get(metric)
            cells += (
                ["n/a"] * 3
                if one is None
                else [shown(one.value), interval_text(one.low, one.high), shown(one.floor)]
            )
        body.append(cells)
    heads = [name for metric in metrics for name in (metric_name(metric), "95 % interval", "floor")]
    caption = "All metrics; of the Hamming distance lower is better."
    return _table(caption, ("method", *heads), body, text={0}, marked=ours)


def cost_table(found: Standing, *, times: str) -> Table:
    """Fitted numbers of each method.

    Parameters
    ----------
    found : Standing
    times : str
        Name of the file with the seconds of fitting and decoding. They are not on the page: they are others in every
        run that does the same.
    """
    rows = [[row.method, _whole(row.parameters_shared), _whole(row.parameters_own)] for row in found.ranked]
    heads = ("method", "shared parameters", "per participant")
    caption = f"What each method fits. How long that took on this machine stands in {times}."
    return _table(caption, heads, rows, text={0}, marked=found.ours.method)


def p_text(value: float) -> str:
    """Three digits, ``< 0.001``, or ``n/a``."""
    if math.isnan(value):
        return "n/a"
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _point(axes: Axes, place: float, value: float, low: float, high: float, *, ours: bool) -> None:
    colour = OUR_COLOUR if ours else _REST
    if math.isfinite(low):
        axes.plot(
            [low, high], [place, place], color=colour, linewidth=2.5 if ours else 1.5, solid_capstyle="butt"
        )
    axes.plot([value], [place], "D" if ours else "o", color=colour, markersize=8 if ours else 6)


def _floors(axes: Axes, floors: Sequence[float]) -> None:
    known = [floor for floor in floors if math.isfinite(floor)]
    if known and max(known) - min(known) < 1e-9:
        axes.axvline(known[0], color=FLOOR_COLOUR, linestyle="--", label="floor")
    elif known:
        axes.plot(floors, range(len(floors)), "|", color=FLOOR_COLOUR, markersize=13, label="floor")


def _named(axes: Axes, names: Sequence[str], *, ours: str) -> None:
    axes.set_yticks(range(len(names)), list(names), fontsize=9)
    for text in axes.get_yticklabels():
        if text.get_text() == ours:
            text.set_fontweight("bold")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)


def _floor_text(rows: Sequence[ComparisonRow]) -> str:
    known = sorted({f"{row.floor:.3f}" for row in rows if math.isfinite(row.floor)})
    return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}" if known else "unknown"


def _table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: set[int], marked: str
) -> Table:
    empty = {k for k in text if k > 0 and not any(row[k] for row in rows)} if heads[-1] == "note" else set()
    kept = [k for k in range(len(heads)) if k not in empty]
    return Table(
        caption,
        [heads[k] for k in kept],
        [[row[k] for k in kept] for row in rows],
        numeric=[k not in text for k in kept],
        marked=[number for number, row in enumerate(rows) if row[0] == marked],
    )


def _whole(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"
