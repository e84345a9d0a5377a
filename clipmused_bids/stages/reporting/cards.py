"""Model cards: one beside the weights of each label of a run, from what is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.contents import content_hash
from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import ModelRecord, config_path, history_path, write_card
from clipmused_bids.report.bibliography import without_citations
from clipmused_bids.report.leak_notes import leakage_fields, leakage_lines, merged_fields
from clipmused_bids.report.methods.rivals import DESCRIPTIONS
from clipmused_bids.report.methods.wording import span
from clipmused_bids.report.model_card import Card, CardTable, Evaluated, model_card
from clipmused_bids.report.numbers import shown
from clipmused_bids.stages.catalogue import is_simulated
from clipmused_bids.stages.reporting.commands import commands_of
from clipmused_bids.stages.reporting.methods import dataset_name, stored_records
from clipmused_bids.stages.reporting.stored_scores import (
    StoredComparison,
    StoredScores,
    stored_comparison,
    stored_scores,
)
from clipmused_bids.stages.reporting.view import ReportView

_METRICS = ("top1", "mAP", "AUC", "Hamming")


def write_cards(view: ReportView) -> None:
    """Write the cards of a run's label and of the methods beside it; with scores as far as there are any.

    Raises
    ------
    MissingInputError, DataError
        If a stored decoder or its scores are broken.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    main = view.tree.model_folder(view.model_label)
    # Methods beside it have its label with theirs.
    for folder in (main, *sorted(main.parent.glob(f"{main.name}+*"))):
        records = stored_records(view.tree, folder.name)
        if records:
            write_card(folder, model_card(_card(view, folder.name, records)))


def _card(view: ReportView, label: str, records: Sequence[ModelRecord]) -> Card:
    configs = [record.config for record in records]
    first = configs[0]
    people = [name for config in configs for name in config["participants"]]
    name = str(first.get("variant", first["method"]))
    described = DESCRIPTIONS[first["method"]]
    return Card(
        label=label,
        method=f"Method `{name}`: {described}",
        software=f"clipmused-bids {', '.join(sorted({str(config['version']) for config in configs}))}",
        data=_data(view, configs),
        training=_training(configs),
        participants=people,
        label_names=first["label_names"],
        left_out=first["labels_left_out"],
        evaluated=_evaluated(view.tree, label, main=view.model_label),
        leakage=leakage_lines(merged_fields([leakage_fields(config) for config in configs])),
        limits=_limits(view, configs),
        commands=commands_of(view.plan.config, label, records),
        files=_files(records),
    )


def _data(view: ReportView, configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    first = configs[0]
    runs = sorted({key for config in configs for key in config["runs"]})
    sessions = {key.partition("_task-")[0] for key in runs if "_ses-" in key}
    trials = [sum(config[f"n_{name}_trials"] for config in configs) for name in ("training", "validation")]
    return {
        "dataset": without_citations(dataset_name(view.plan.config.bids_dir)),
        "tasks": ", ".join(first["tasks"]),
        "space": first["space"] or "each participant's own",
        **({"sessions": f"{len(sessions):,}"} if sessions else {}),
        "runs": f"{len(runs):,}",
        "trials": f"{trials[0]:,} for training, {trials[1]:,} for validation",
        "responses": f"{first['response_kind']}, standardised within each {first['standardization']['unit']}"
        if first["standardization"]["unit"] != "none"
        else f"{first['response_kind']}, not standardised",
        "split": f"rule {first['split']['rule']}",
    }


def _training(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    first = configs[0]
    parameters = [config["parameters"] for config in configs]
    own = [n for one in parameters for n in one["per_participant"].values()]
    found = {
        "decoders": "one for all participants"
        if len(configs) == 1
        else f"{len(configs):,}, one for each participant",
        "parameters": f"{span(one['shared'] for one in parameters)} shared"
        + (f", {span(own)} of each participant's own" if own else ""),
        "seed": str(first["random_seed"]),
    }
    if "base" in first:
        found["fitted to"] = f"the decoder {first['base']['label']}, which stayed as it was"
    if first["preset"] is None:
        return found
    options = first["hyperparameters"]["model"]
    shape = f"{options['depth']} block(s) of width {options['width']}, {options['heads']} heads"
    if first["method"].endswith("mlp"):
        shape = f"{options['hidden_layers']} hidden layer(s) of width {options['hidden_width']}"
    return {
        "architecture": f"{shape} (preset {first['preset']})",
        **found,
        "epoch kept": span(config["best_epoch"] for config in configs),
        "guidance by CLIP": f"high level: {first['guidance']['high']}; low level: {first['guidance']['low']}",
        **(
            {
                "CLIP model": f"{first['clip']['model']}, SHA-256 of its weights {first['clip']['weights_sha256']}"
            }
            if first["clip"]
            else {}
        ),
    }


def _limits(view: ReportView, configs: Sequence[Mapping[str, Any]]) -> list[str]:
    limits = []
    if is_simulated(view.plan):
        limits.append("The data are simulated: its scores say nothing about people.")
    folds = int(configs[0]["split"].get("folds", 0))
    if folds:
        limits.append(
            f"The scores are means over {folds} decoders of a cross-validation, each fitted without the trials it was "
            "scored on (`folds`). The weights here were fitted to all folds, for new runs, and have no score of "
            "their own."
        )
    if configs[0]["split"]["regime"] == "unseen trials of seen stimuli":
        limits.append(
            "The stimuli of the test trials were seen in training; nothing is known about other stimuli."
        )
    return limits


def _files(records: Sequence[ModelRecord]) -> dict[str, str]:
    """Hashes of the weights, and of the files beside them as long as there are few."""
    found = {record.path.name: record.weights_hash for record in records}
    for record in records if len(records) == 1 else ():
        for path in (config_path(record.folder, participant=record.participant), _history(record)):
            if path.is_file():
                found[path.name] = content_hash(path)
    return found


def _history(record: ModelRecord) -> Path:
    return history_path(record.folder, participant=record.participant)


def _evaluated(tree: OutputTree, label: str, *, main: str) -> Evaluated | None:
    scores = stored_scores(tree, label)
    if scores is None:
        return None
    rows = [row for row in scores.rows if row.averaging == "single trials"]
    metrics = [name for name in _METRICS if any(row.score.metric == name for row in rows)]
    comparison = stored_comparison(tree, main)
    group = _own_rows(scores, rows, metrics)
    if comparison is not None and stored_scores(tree, main) is not None:
        group += _rows_of_others(comparison, label)
    return Evaluated(
        regime=str(scores.details["Regime"]),
        group=CardTable(
            ["method", "metric", "score", "95 % interval over participants", "floor", "labels"], group
        ),
        people=CardTable(
            ["participant", *(f"{name} (floor)" for name in metrics), "trials"], _people(rows, metrics)
        ),
        verdicts=[str(one["Verdict"]) for one in scores.details["Comparisons"]],
    )


def _own_rows(scores: StoredScores, rows: Sequence[MetricRow], metrics: Sequence[str]) -> list[list[str]]:
    """The group's scores of the decoder itself."""
    intervals: Mapping[str, Mapping[str, float | None]] = scores.details["Intervals"]
    found = []
    for name in metrics:
        one = next(row.score for row in rows if row.participant == "group" and row.score.metric == name)
        bounds = [intervals[name][side] for side in ("low", "high")]
        found.append(
            [
                f"**{scores.details['Method']}**", name, shown(one.value),
                _interval(*(math.nan if bound is None else bound for bound in bounds)), shown(one.floor),
                str(one.n_labels),
            ]
        )  # fmt: skip
    return found


def _rows_of_others(comparison: StoredComparison, label: str) -> list[list[str]]:
    """Group scores of the other methods by the metric that decides."""
    metric = str(comparison.details["MainMetric"])
    return [
        [
            row.method, metric, shown(row.value), _interval(row.low, row.high), shown(row.floor),
            "n/a" if row.n_labels is None else str(row.n_labels),
        ]
        for row in comparison.group_rows(metric)
        if row.model_label != label
    ]  # fmt: skip


def _people(rows: Sequence[MetricRow], metrics: Sequence[str]) -> list[list[str]]:
    found = []
    for who in dict.fromkeys(row.participant for row in rows if row.participant != "group"):
        own = {row.score.metric: row.score for row in rows if row.participant == who}
        cells = [f"{shown(own[name].value)} ({shown(own[name].floor)})" for name in metrics]
        found.append([f"sub-{who}", *cells, f"{own[metrics[0]].n_trials:,}"])
    return found


def _interval(low: float, high: float) -> str:
    return "n/a" if math.isnan(low) or math.isnan(high) else f"{low:.3f} to {high:.3f}"
