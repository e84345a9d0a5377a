"""Scores on disk: one row for each participant, set, averaging and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clipmused_bids.dataset.files.documents import number, write_json, write_tsv
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.records import Run, Score

Averaging = Literal["single trials", "repeats averaged"]

_COLUMNS: Mapping[str, Any] = {
    "participant_id": {"Description": "Participant; `group` for all of them with equal weight"},
    "set": {"Description": "Set whose trials are scored"},
    "averaging": {
        "Description": "What one scored sample is",
        "Levels": {
            "single trials": "One response to one presentation",
            "repeats averaged": "Mean response over all presentations of a stimulus",
        },
    },
    "metric": {
        "Description": "mAP and AUC: macro average over labels; Hamming: share of wrong labels at 0.5"
    },
    "value": {"Description": "The score; n/a where nothing can be scored"},
    "floor": {"Description": "What knowing nothing would score on the same trials"},
    "n_labels": {"Description": "Labels with a positive and a negative among the scored trials"},
    "n_trials": {"Description": "Scored samples"},
}


@dataclass(frozen=True)
class MetricRow:
    """One score and what it speaks about.

    Parameters
    ----------
    participant : str
        Label; ``group`` for all of them.
    set_name : str
        Set whose trials are scored.
    averaging : {"single trials", "repeats averaged"}
    score : Score
    """

    participant: str
    set_name: str
    averaging: Averaging
    score: Score


def write_group_metrics(
    tree: OutputTree,
    rows: Sequence[MetricRow],
    *,
    model_label: str,
    sources: Sequence[str],
    details: Mapping[str, Any],
) -> Path:
    """Write the scores of all participants with a sidecar; returns the table's path.

    Parameters
    ----------
    tree : OutputTree
    rows : sequence of MetricRow
    model_label : str
    sources : sequence of str
        BIDS URIs of the predictions that were scored.
    details : mapping
        JSON values for the sidecar: regime, intervals, comparisons, ...

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = tree.group_metrics(model_label=model_label)
    _write(path, rows, about=f"Scores of the decoder {model_label}.", sources=sources, details=details)
    return path


def write_run_metrics(
    tree: OutputTree,
    run: Run,
    rows: Sequence[MetricRow],
    *,
    model_label: str,
    sources: Sequence[str],
    details: Mapping[str, Any],
) -> Path:
    """Write the scores of one run with a sidecar; as :func:`write_group_metrics`."""
    path = tree.run_metrics(run, model_label=model_label)
    about = f"Scores of the decoder {model_label} for {run.label}."
    _write(path, rows, about=about, sources=sources, details=details)
    return path


def read_metrics(path: Path) -> tuple[MetricRow, ...]:
    """Read a table of scores.

    Raises
    ------
    MissingInputError
        If it is not there.
    DataError
        If a column is missing or a cell is not what it should be.
    """
    columns = read_table(path).columns
    lacking = [name for name in _COLUMNS if name not in columns]
    if lacking:
        raise DataError(f"{path}: column {lacking[0]} is missing; columns are {', '.join(columns)}.")
    records = zip(*(columns[name] for name in _COLUMNS), strict=True)
    return tuple(_row(dict(zip(_COLUMNS, cells, strict=True)), path=path) for cells in records)


def _write(
    path: Path, rows: Sequence[MetricRow], *, about: str, sources: Sequence[str], details: Mapping[str, Any]
) -> None:
    columns: dict[str, list[Any]] = {
        "participant_id": [_participant_id(row.participant) for row in rows],
        "set": [row.set_name for row in rows],
        "averaging": [row.averaging for row in rows],
        "metric": [row.score.metric for row in rows],
        "value": [row.score.value for row in rows],
        "floor": [row.score.floor for row in rows],
        "n_labels": [row.score.n_labels for row in rows],
        "n_trials": [row.score.n_trials for row in rows],
    }
    write_tsv(path, columns)
    write_json(
        path.with_suffix(".json"), {**_COLUMNS, "Description": about, "Sources": list(sources), **details}
    )


def _row(cells: Mapping[str, str], *, path: Path) -> MetricRow:
    try:
        score = Score(
            metric=cells["metric"],
            value=number(cells["value"]),
            floor=number(cells["floor"]),
            n_labels=int(cells["n_labels"]),
            n_trials=int(cells["n_trials"]),
        )
    except ValueError as error:
        raise DataError(f"{path}: {cells['participant_id']} {cells['metric']}: {error}.") from error
    return MetricRow(
        participant=cells["participant_id"].removeprefix("sub-"),
        set_name=cells["set"],
        averaging="repeats averaged" if cells["averaging"] == "repeats averaged" else "single trials",
        score=score,
    )


def _participant_id(participant: str) -> str:
    return participant if participant == "group" else f"sub-{participant}"
