"""Predictions of one run on disk: a row for each trial, a probability for each label."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from clipmused_bids import __version__
from clipmused_bids.dataset.events.trial_tables import OWN_COLUMNS
from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import NOT_AVAILABLE, encode_tsv, number, plain, write_json
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import FloatArray, IntArray, Run, SetName

PREFIX = "prob_"
_TABLE_HASH = "TableHash"
# Another process may be writing the sidecar of the table it has just written.
_ATTEMPTS = 6
_PAUSE = 0.2


@dataclass(frozen=True)
class PredictedTrials:
    """The trials of one run that a decoder speaks about.

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
    """

    onset: FloatArray
    duration: FloatArray
    trial_number: IntArray
    stimulus_id: tuple[str, ...]
    set_name: tuple[SetName, ...]
    fold: tuple[int | None, ...]
    label_names: tuple[str, ...]


@dataclass(frozen=True)
class Predictions(PredictedTrials):
    """What a decoder says about the trials of one run.

    Parameters
    ----------
    onset, duration, trial_number, stimulus_id, set_name, fold, label_names
        As in :class:`PredictedTrials`.
    probabilities : ndarray of shape (n_trials, C), float64
    """

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
    columns = _trial_columns(predictions)
    probabilities = np.asarray(predictions.probabilities, dtype=np.float64)
    for label, values in zip(predictions.label_names, probabilities.T, strict=True):
        columns[f"{PREFIX}{label}"] = values
    table = encode_tsv(columns, name=path.name)
    sidecar = _sidecar(run, predictions, model_label=model_label, sources=sources, details=details)
    write_bytes(path, table)
    write_json(path.with_suffix(".json"), {**sidecar, _TABLE_HASH: digest(table)})
    return path


def predictions_are_current(
    tree: OutputTree,
    run: Run,
    trials: PredictedTrials,
    *,
    model_label: str,
    sources: Sequence[str],
    details: Mapping[str, Any],
) -> bool:
    """Whether what :func:`write_predictions` would write of these trials is stored, whole and untouched.

    Parameters
    ----------
    tree, run, model_label, sources, details
        As for :func:`write_predictions`; ``details`` must say everything that the probabilities depend on.
    trials : PredictedTrials
    """
    path = tree.predictions(run, model_label=model_label)
    expected = _sidecar(run, trials, model_label=model_label, sources=sources, details=details)
    try:
        stored = read_json(path.with_suffix(".json"))
        table = path.read_bytes()
    except (OSError, ClipMusedError):
        return False
    return bool(stored.pop(_TABLE_HASH, None) == digest(table) and stored == plain(expected))


def read_predictions(path: Path) -> tuple[Predictions, dict[str, Any]]:
    """Read predictions and their sidecar.

    Raises
    ------
    MissingInputError
        If a file is not there.
    DataError
        If the table has not the columns that its sidecar describes, or was changed after it was written.
    """
    for attempt in range(_ATTEMPTS):
        predictions, sidecar = _read(path)
        table_hash = sidecar.get(_TABLE_HASH)
        if table_hash is None or table_hash == digest(path.read_bytes()):
            return predictions, sidecar
        if attempt < _ATTEMPTS - 1:
            time.sleep(_PAUSE)
    raise DataError(
        f"{path}: the table is not the one that its sidecar describes; it was edited, or its job was killed.",
        hint="--decode makes it again",
    )


def _read(path: Path) -> tuple[Predictions, dict[str, Any]]:
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


def _trial_columns(trials: PredictedTrials) -> dict[str, Any]:
    return {
        "onset": trials.onset,
        "duration": trials.duration,
        "trial": trials.trial_number,
        "stimulus_id": trials.stimulus_id,
        "set": trials.set_name,
        "fold": trials.fold,
    }


def _sidecar(
    run: Run, trials: PredictedTrials, *, model_label: str, sources: Sequence[str], details: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **_column_fields(trials.label_names),
        "Description": f"Predictions of the decoder {model_label} for {run.label}.",
        "Sources": list(sources),
        "ModelLabel": model_label,
        "LabelNames": trials.label_names,
        **details,
        "TrialsHash": digest(encode_tsv(_trial_columns(trials), name=run.label)),
        "SoftwareVersion": __version__,
    }


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
