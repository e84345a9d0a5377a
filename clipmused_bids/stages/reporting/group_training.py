"""Section: how the networks were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipmused_bids.dataset.outputs.history_reading import read_history
from clipmused_bids.dataset.outputs.weights import history_path
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.report.blocks import Block, Details, Paragraph, Section
from clipmused_bids.report.training import (
    LEARNED,
    WATCHED,
    Course,
    closed_form,
    courses_of,
    curve_figures,
    why_it_ended,
)
from clipmused_bids.stages.reporting.group_files import configs_of, group_results
from clipmused_bids.stages.reporting.view import ReportView

# Of decoders of single participants, so many are drawn.
_DRAWN = 6


def training_section(view: ReportView) -> Section | None:
    """Curves of the report's decoder, and folded those of the others; None where nothing was trained."""
    configs = configs_of(view.tree.model_folder(view.model_label))
    if not configs:
        return None
    blocks = _of_decoder(view, view.model_label, configs)
    others = _others(view)
    if others:
        blocks.append(Details("Training of the other methods", others))
    return Section("training", "Training", blocks)


def _others(view: ReportView) -> list[Block]:
    results = group_results(view)
    labels = {} if results is None else {row.model_label: row.method for row in results.rows}
    blocks: list[Block] = []
    for label, method in labels.items():
        configs = configs_of(view.tree.model_folder(label))
        if label != view.model_label and configs:
            blocks.append(Details(method, _of_decoder(view, label, configs)))
    return blocks


def _of_decoder(view: ReportView, label: str, configs: Mapping[str | None, Mapping[str, Any]]) -> list[Block]:
    """What is known of the training of one model label: of the group's decoder, or of a few participants' own."""
    folder = view.tree.model_folder(label)
    first, config = next(iter(configs.items()))
    method = str(config.get("variant") or config["method"])
    if not METHODS[config["method"]].deep:
        history = read_history(history_path(folder, participant=first), config)
        whose = (
            "" if len(configs) == 1 else f" This is sub-{first}, the first of {len(configs)} participants."
        )
        return [Paragraph(f"{method}: {closed_form(history)}{whose}")]
    chosen = _few(list(configs))
    courses: list[Course] = []
    for participant in chosen:
        history = read_history(history_path(folder, participant=participant), configs[participant])
        if history is not None:
            name = method if participant is None else f"sub-{participant}"
            courses += courses_of(history, name=name)
    whose = (
        "" if len(configs) == 1 else f" (sub-{first}; one decoder for each of {len(configs)} participants)"
    )
    blocks: list[Block] = [Paragraph(f"{method}{whose}: {why_it_ended(config, courses)}")]
    return [*blocks, *_figures(courses)] if courses else blocks


def _figures(courses: list[Course]) -> list[Block]:
    blocks: list[Block] = [*curve_figures(courses, LEARNED)]
    watched = curve_figures(courses, WATCHED)
    return [*blocks, Details("Gradients and tokens while training", watched)] if watched else blocks


def _few(participants: list[str | None]) -> list[str | None]:
    """Some of many, evenly through the list; the first is among them."""
    if len(participants) <= _DRAWN:
        return participants
    return [participants[round(k * (len(participants) - 1) / (_DRAWN - 1))] for k in range(_DRAWN)]
