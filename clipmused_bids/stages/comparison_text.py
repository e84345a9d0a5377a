"""The comparison of methods as text, for the terminal and the log."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.report.numbers import interval_text, shown
from clipmused_bids.stages.terminal import aligned, time_text
from clipmused_bids.stages.timing import Stopwatch


def comparison_text(
    rows: Sequence[ComparisonRow], watch: Stopwatch, *, metrics: Sequence[str], main: str
) -> str:
    """One line for each method: scores; then differences to the best linear baseline; then what it cost.

    Parameters
    ----------
    rows : sequence of ComparisonRow
    watch : Stopwatch
    metrics : sequence of str
    main : str
        The metric that decides.
    """
    group = [row for row in rows if row.participant_id == "group"]
    lines = _scores(group, metrics=metrics, main=main)
    lines += _differences([row for row in group if row.metric == main and row.baseline], main=main)
    lines += _costs(group, watch, main=main)
    notes = dict.fromkeys((row.method, row.note) for row in group if row.note)
    lines += [note if note.startswith(f"{method}:") else f"{method}: {note}" for method, note in notes]
    return "\n".join(lines)


def _scores(group: Sequence[ComparisonRow], *, metrics: Sequence[str], main: str) -> list[str]:
    ordered = [main, *(metric for metric in metrics if metric != main)]
    table = [["method"]]
    for metric in ordered:
        table[0] += [metric, "95 % interval", "floor", "p"] if metric == main else [metric]
        table[0] += ["floor"] if metric in {"mAP", "Hamming"} and metric != main else []
    by_method: dict[str, dict[str, ComparisonRow]] = {}
    for row in group:
        by_method.setdefault(row.method, {})[row.metric] = row
    for method, found in by_method.items():
        cells = [method]
        for metric in ordered:
            one = found.get(metric)
            cells.append(shown(one.value if one else math.nan))
            if metric == main:
                cells.append(interval_text(one.low, one.high) if one else "n/a")
            if metric == main or metric in {"mAP", "Hamming"}:
                cells.append(shown(one.floor if one else math.nan))
            if metric == main:
                cells.append(shown(one.p_value if one else math.nan))
        table.append(cells)
    return ["", *aligned(table, right=(False, *(True,) * (len(table[0]) - 1)))]


def _differences(rows: Sequence[ComparisonRow], *, main: str) -> list[str]:
    if not rows:
        return []
    table = [["method", "difference", "other people", "beats it", "other stimuli", "beats it"]]
    table += [
        [
            row.method,
            f"{row.difference:+.3f}" if math.isfinite(row.difference) else "n/a",
            interval_text(row.people_low, row.people_high, sign="+"),
            row.people_verdict,
            interval_text(row.stimuli_low, row.stimuli_high, sign="+"),
            row.stimuli_verdict,
        ]
        for row in rows
    ]
    title = f"{main}, difference to the best linear baseline, {rows[0].baseline} (95 % intervals):"
    return ["", title, *aligned(table, right=(False, True, True, False, True, False))]


def _costs(group: Sequence[ComparisonRow], watch: Stopwatch, *, main: str) -> list[str]:
    table = [["method", "shared parameters", "per participant", "fit", "decode"]]
    for row in group:
        if row.metric == main:
            times = [watch.of(row.model_label, "fit"), watch.of(row.model_label, "decode")]
            counts = [row.parameters_shared, row.parameters_own]
            table.append(
                [
                    row.method,
                    *("n/a" if count is None else f"{count:,}" for count in counts),
                    *(_seconds(value) for value in times),
                ]
            )
    return ["", *aligned(table, right=(False, True, True, True, True))]


def _seconds(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return time_text(value) if value >= 10 else f"{value:.1f} s"
