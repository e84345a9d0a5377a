"""Section: all methods beside each other, and ablations beside the full method."""

from __future__ import annotations

from dataclasses import replace

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.dataset.outputs.comparison_reading import read_folds
from clipmused_bids.report.blocks import Block, Details, Paragraph, Section, Table
from clipmused_bids.report.comparison import (
    cost_table,
    difference_figure,
    difference_table,
    metrics_table,
    score_table,
)
from clipmused_bids.report.numbers import interval_text, shown, signed
from clipmused_bids.report.standing import between, count, metric_name
from clipmused_bids.stages.reporting.group_files import (
    GroupResults,
    group_results,
    left_as_started,
)
from clipmused_bids.stages.reporting.view import ReportView


def comparison_section(view: ReportView) -> Section | None:
    """Scores, paired differences and costs of all methods; None where nothing was evaluated."""
    results = group_results(view)
    if results is None:
        return None
    found = results.standing
    blocks: list[Block] = [Paragraph(_what_is_seen(results)), score_table(found)]
    compared = [row for row in found.ranked if row.baseline]
    if compared:
        figure = difference_figure(
            compared, metric=found.metric, rival=found.baseline, ours=found.ours.method,
            what="the linear method with the highest score on these very trials",
        )  # fmt: skip
        blocks += [figure, difference_table(found)]
    folded: list[Block] = [metrics_table(results.rows, ours=found.ours.method)]
    folded.append(
        cost_table(found, times=view.tree.group_table(model_label=view.model_label, kind="timing").name)
    )
    described = list(results.details.get("Methods", {}).items())
    folded.append(Table("What the methods are", ("method", "description"), described))
    return Section(
        "comparison",
        "Methods compared",
        [*blocks, Details("All metrics and parameters, and what the methods are", folded)],
    )


def _what_is_seen(results: GroupResults) -> str:
    details, found = results.details, results.standing
    folds = details.get("NumberOfFolds")
    how = f"means over {folds} folds" if folds else f"one split (rule: {details['SplitRule']})"
    tests = details.get("Permutations") or 0
    exchanged = f"; {tests:,} permutations, exchanging {details['Exchanged']}" if tests else ""
    alike = (
        " All probabilities were calibrated alike on validation trials." if details.get("Calibrated") else ""
    )
    return (
        f"{count(len(found.ranked), 'method', 'methods')} scored on the same held-out trials of "
        f"{count(found.n_people, 'participant', 'participants')}, by {metric_name(found.metric)}, {how}{exchanged}."
        f"{alike} All digits are in the comparison table of the output folder."
    )


def ablations_section(view: ReportView) -> Section | None:
    """What each part of the full method is worth; None where no ablation was run."""
    results = group_results(view)
    if results is None:
        return None
    found = results.standing
    full, rows = found.ours.method, found.variants
    if not rows or found.row_of(full) is None:
        return None
    differences = [_against(results, row, full) for row in rows]
    described = results.details.get("Methods", {})
    table = Table(
        f"{metric_name(found.metric)}, each variant minus {full} within the same people",
        ("variant", "what is changed", metric_name(found.metric), "difference", "95 % interval", "participants"),
        [
            [row.method, described.get(row.method, ""), shown(row.value), signed(one.difference),
             interval_text(one.people_low, one.people_high, sign="+"), str(between(found, row.method, full).n)]
            for row, one in zip(rows, differences, strict=True)
        ],
        numeric=(False, False, True, True, True, True),
    )  # fmt: skip
    figure = difference_figure(
        differences, metric=found.metric, rival=full, ours=full, what="the full method (preset as it was run)"
    )
    text = (
        f"{count(len(rows), 'variant', 'variants')} of {full}, trained on the same split. Left of 0: the variant is "
        "worse, so what it lacks helps. Intervals are over participants only, of one training each: they do not hold "
        "how much a seed changes, and they are not corrected for the number of variants."
    )
    left = left_as_started(view, results)
    idle = [row.method for row in rows if row.method in left]
    if full in left and idle:
        text += (
            f" {full} was left as it started, and {len(idle)} of the variants were too: where both were, what is "
            "taken from training had no part in either score, and a difference of 0 says nothing about it."
        )
    return Section("ablations", "Ablations", [Paragraph(text), figure, table])


def _against(results: GroupResults, row: ComparisonRow, rival: str) -> ComparisonRow:
    """Return a row whose difference is to another method, over participants."""
    found = between(results.standing, row.method, rival)
    nan = float("nan")
    return replace(
        row, baseline=rival, difference=found.mean, people_low=found.low, people_high=found.high,
        stimuli_low=nan, stimuli_high=nan, stimuli_verdict="",
    )  # fmt: skip


def folds_section(view: ReportView) -> Section | None:
    """Scores of each fold; None without a cross-validation."""
    results = group_results(view)
    path = view.tree.group_table(model_label=view.model_label, kind="folds")
    if results is None or not results.details.get("NumberOfFolds") or not path.exists():
        return None
    metric = results.standing.metric
    values: dict[str, dict[int, list[float]]] = {}
    for row in read_folds(path):
        if row.metric == metric and row.value == row.value:
            values.setdefault(row.method, {}).setdefault(row.fold, []).append(row.value)
    folds = sorted({fold for of_method in values.values() for fold in of_method})
    table = Table(
        f"{metric_name(metric)}, mean over participants, of each fold",
        ("method", *(f"fold {fold}" for fold in folds)),
        [
            [method, *(shown(_mean(of_method.get(fold, []))) for fold in folds)]
            for method, of_method in values.items()
        ],
        numeric=(False, *(True,) * len(folds)),
    )
    text = (
        f"Each trial was scored once, by a decoder that was fitted without its fold ({len(folds)} folds). Folds share "
        "most of their training trials, so that their spread is no confidence interval."
    )
    return Section("folds", "Folds", [Paragraph(text), table])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
