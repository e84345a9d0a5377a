"""Tables of the benchmark as text, Markdown, TSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from clipmused_bids.evaluation.inference import Interval
from clipmused_bids.report.numbers import shown
from clipmused_bids.simulation.benchmark.fits import METRICS
from clipmused_bids.simulation.benchmark.summary import OURS, Row, Table

_HEADER = ("row", *METRICS, "mAP - best linear", f"mAP - {OURS}", "seconds", "seeds")


def as_text(tables: Sequence[Table]) -> str:
    """Tables under each other, columns aligned."""
    return "\n\n".join(_text(table) for table in tables)


def as_markdown(tables: Sequence[Table]) -> str:
    """Tables as a page of documentation holds them."""
    return "\n\n".join(_markdown(table) for table in tables)


def as_columns(tables: Sequence[Table]) -> dict[str, list[Any]]:
    """Columns of one table with a line for each row of each table and each metric."""
    columns: dict[str, list[Any]] = {}
    for table in tables:
        for row in table.rows:
            for metric in METRICS:
                for name, value in _line(table, row, metric).items():
                    columns.setdefault(name, []).append(value)
    return columns


def as_json(tables: Sequence[Table], *, seed_kind: str, version: str) -> dict[str, Any]:
    """Everything in the tables, and every seed's scores."""
    return {
        "version": version,
        "seeds": seed_kind,
        "unit": "seed",
        "tables": [asdict(table) for table in tables],
    }


def title(table: Table) -> str:
    """Regime, setting and seeds in words."""
    words = [table.regime]
    if table.trials:
        words.append(f"{table.trials} trials of the newcomer")
    if table.setting.sweep is not None:
        words.append(f"{table.setting.sweep} {table.setting.value:g}")
    if table.setting.native:
        words.append("native voxels")
    return ", ".join(words)


def remarks(table: Table) -> str:
    """Floors and what is known of the studies, in one line."""
    facts = table.facts
    known = [f"best linear: {table.best_linear or 'none'}"]
    known += [f"floor of {name} {shown(table.floors[name])}" for name in METRICS]
    for name, words in (
        ("prevalence", "prevalence"),
        ("oracle_map", "oracle mAP"),
        ("median_ceiling", "median true voxel ceiling"),
    ):
        if name in facts:
            known.append(f"{words} {shown(facts[name])}")
    for name, words in (("n_train", "training"), ("n_val", "validation"), ("n_test", "test")):
        if name in facts and not table.trials:
            known.append(f"{facts[name]:.0f} {words} trials")
    return "; ".join(known) + "."


def _text(table: Table) -> str:
    lines = [_HEADER, *(_cells(row) for row in table.rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(_HEADER))]
    shown = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([title(table), remarks(table), *shown, *_refusals(table)])


def _markdown(table: Table) -> str:
    lines = [_HEADER, tuple("---" for _ in _HEADER), *(_cells(row) for row in table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [f"\n{note}" for note in _refusals(table)]
    return "\n".join([f"**{title(table)}**\n\n{remarks(table)}\n", body, *notes])


def _cells(row: Row) -> tuple[str, ...]:
    shown = [_interval(row.metrics[name]) for name in METRICS]
    seconds = "-" if math.isnan(row.cpu_seconds) else f"{row.cpu_seconds:.1f}"
    return (
        row.name,
        *shown,
        _interval(row.to_linear["mAP"], sign="+"),
        _interval(row.to_ours["mAP"], sign="+"),
        seconds,
        str(len(row.by_seed)),
    )


def _refusals(table: Table) -> list[str]:
    return [f"{row.name}: no result ({row.refused})" for row in table.rows if row.refused]


def _line(table: Table, row: Row, metric: str) -> Mapping[str, Any]:
    line: dict[str, Any] = {
        "regime": table.regime,
        "trials": table.trials,
        "native": table.setting.native,
        "sweep": table.setting.sweep,
        "value": table.setting.value,
        "row": row.name,
        "metric": metric,
        "floor": table.floors[metric],
        "n_seeds": len(row.by_seed),
    }
    for name, interval in (
        ("score", row.metrics[metric]),
        ("to_best_linear", row.to_linear[metric]),
        ("to_clip_mused", row.to_ours[metric]),
    ):
        line |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return line | {"best_linear": table.best_linear, "cpu_seconds": row.cpu_seconds}


def _interval(interval: Interval, *, sign: str = "") -> str:
    if math.isnan(interval.mean):
        return "-"
    text = f"{interval.mean:{sign}.3f}"
    if math.isnan(interval.low):
        return text
    return f"{text} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
