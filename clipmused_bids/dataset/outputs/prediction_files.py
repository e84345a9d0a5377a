"""Predictions of one run on disk: a row for each trial, a probability for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.events.trial_tables import OWN_COLUMNS
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import NOT_AVAILABLE, number, write_json, write_tsv
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, Run, SetName

PREFIX = "prob_"


@dataclass(frozen=True)
class Predictions:
    """What a decoder says about the trials of one run.

    Parameters
    ----------
    onset, duration : ndarray of shape (n_trials,)
        Seconds from the start of the run.
    trial_number : ndarray of int, shape (n_trials,)
        Number of the trial in its run, from 1.
    stimulus_id : tuple of str
        "" where unknown.
    set_name : tuple of str
        Set of each trial; ``new`` where the split does not know it.
    fold : tuple of (int or None)
        Fold of a cross-validation in which the trial was held out; None without one.
    label_names : tuple of str
        C names.
    probabilities : ndarray of shape (n_trials, C), float64
    """

    onset: FloatArray
    duration: FloatArray
    trial_number: IntArray
    stimulus_id: tuple[str, ...]
    set_name: tuple[SetName, ...]
    fold: tuple[int | None, ...]
    label_names: tuple[str, ...]
    probabilities: NDArray[np.float64]


def write_predictions(
    tree: OutputTree,
    run: Run,
    predictions: Predictions,
    *,
    model_label: str,
    sources: Sequence[str],
    details: Mapping[str, Any],
) -> Path:
    """Write the predictions of one run and what each column means.

    Parameters
    ----------
    tree : OutputTree
    run : Run
    predictions : Predictions
    model_label : str
    sources : sequence of str
        BIDS URIs of the responses and the decoder.
    details : mapping
        JSON values for the sidecar: method, hash of the weights, regime, ...

    Returns
    -------
    Path
        The table.

    Raises
    ------
    DataError
        If a label's name cannot stand in a table.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = tree.predictions(run, model_label=model_label)
    columns: dict[str, Any] = {
        "onset": predictions.onset,
        "duration": predictions.duration,
        "trial": predictions.trial_number,
        "stimulus_id": predictions.stimulus_id,
        "set": predictions.set_name,
        "fold": predictions.fold,
    }
    probabilities = np.asarray(predictions.probabilities, dtype=np.float64)
    for label, values in zip(predictions.label_names, probabilities.T, strict=True):
        columns[f"{PREFIX}{label}"] = values
    write_tsv(path, columns)
    write_json(
        path.with_suffix(".json"),
        {
            **_column_fields(predictions.label_names),
            "Description": f"Predictions of the decoder {model_label} for {run.label}.",
            "Sources": list(sources),
            "ModelLabel": model_label,
            "LabelNames": predictions.label_names,
            **details,
        },
    )
    return path


def read_predictions(path: Path) -> tuple[Predictions, dict[str, Any]]:
    """Read predictions and their sidecar.

    Raises
    ------
    MissingInputError
        If a file is not there.
    DataError
        If the table has not the columns that its sidecar describes.
    """
    sidecar = read_json(path.with_suffix(".json"))
    columns = read_table(path).columns
    labels = tuple(sidecar.get("LabelNames", ()))
    expected = [
        "onset",
        "duration",
        "trial",
        "stimulus_id",
        "set",
        "fold",
        *(f"{PREFIX}{name}" for name in labels),
    ]
    lacking = [name for name in expected if name not in columns]
    if lacking:
        raise DataError(
            f"{path}: column {lacking[0]} is missing, which its sidecar describes.", hint="--decode again"
        )
    values = [[number(cell) for cell in columns[f"{PREFIX}{name}"]] for name in labels]
    predictions = Predictions(
        onset=np.array([number(cell) for cell in columns["onset"]]),
        duration=np.array([number(cell) for cell in columns["duration"]]),
        trial_number=np.array(columns["trial"], dtype=int),
        stimulus_id=tuple("" if cell == NOT_AVAILABLE else cell for cell in columns["stimulus_id"]),
        set_name=tuple(_set_name(cell, path=path) for cell in columns["set"]),
        fold=tuple(None if cell == NOT_AVAILABLE else int(cell) for cell in columns["fold"]),
        label_names=labels,
        probabilities=np.array(values, dtype=np.float64).reshape(len(labels), -1).T,
    )
    return predictions, sidecar


def _column_fields(label_names: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: OWN_COLUMNS[name] for name in ("onset", "duration", "trial", "stimulus_id")
    }
    fields["set"] = {
        "Description": "Set of the trial",
        "Levels": {
            "train": "The decoder was fitted to it",
            "val": "It decided when fitting stopped or which settings were kept",
            "test": "Neither; scores are of these trials",
            "new": "Unknown to the split",
            "none": "Left out of all sets",
        },
    }
    fields["fold"] = {
        "Description": "Fold of the cross-validation in which the trial was held out; n/a without one"
    }
    for label in label_names:
        fields[f"{PREFIX}{label}"] = {"Description": f"Probability of the label {label}, 0 to 1"}
    return fields


def _set_name(cell: str, *, path: Path) -> SetName:
    names: tuple[SetName, ...] = get_args(SetName)
    for name in names:
        if cell == name:
            return name
    raise DataError(f"{path}: set {cell} is unknown; expected one of {', '.join(names)}.")
