"""Predictions of one participant as they are stored, with what they were made by and from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.outputs.prediction_files import (
    PredictedTrials,
    Predictions,
    predictions_are_current,
    write_predictions,
)
from clipmused_bids.dataset.outputs.response_files import StoredResponses
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import ModelRecord
from clipmused_bids.records import FloatArray, IntArray, Run, SetName, Split
from clipmused_bids.report.leak_notes import leakage_fields, merged_fields
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import sets_of_runs
from clipmused_bids.stages.standardized import unit_name


@dataclass(frozen=True)
class RunToDecode:
    """Everything about the predictions of one run but the probabilities.

    Parameters
    ----------
    run : Run
    rows : slice
        Of the participant's stored trials.
    trials : PredictedTrials
    sources : tuple of str
        BIDS URIs of the responses and the decoders.
    details : mapping
        Fields of the sidecar: what the probabilities depend on, and what is to be known about them.
    """

    run: Run
    rows: slice
    trials: PredictedTrials
    sources: tuple[str, ...]
    details: Mapping[str, Any]


def runs_to_decode(
    plan: Plan,
    tree: OutputTree,
    split: Split | None,
    person: ParticipantResponses,
    *,
    model: ModelRecord,
    decoders: Mapping[int, ModelRecord],
    folds: IntArray,
) -> list[RunToDecode]:
    """Describe what the predictions of a participant will say, run by run; nothing is decoded.

    Parameters
    ----------
    model : ModelRecord
        Decodes what no fold holds out.
    decoders : mapping of int to ModelRecord
        Decoder of each fold.
    folds : ndarray of int, shape (n_rows,)
        Fold that holds each trial out; 0 where there is none.
    """
    sets = sets_of_runs(split, person.runs, plan.trials)
    wanted, start = [], 0
    for run, file in zip(person.runs, person.stored, strict=True):
        rows = slice(start, start + len(file.values))
        start = rows.stop
        own = {fold: decoders[fold] for fold in np.unique(folds[rows]).tolist() if fold in decoders}
        used = [*own.values()] if own and folds[rows].all() else [model, *own.values()]
        wanted.append(
            RunToDecode(
                run,
                rows,
                _trials_of(file, sets[run.key], folds[rows], labels=model.config["label_names"]),
                tuple(tree.uri(path) for path in (file.path, *(one.path for one in used))),
                {
                    "Method": model.config["method"],
                    "WeightsHash": model.weights_hash,
                    **(
                        {"WeightsHashOfFolds": {k: one.weights_hash for k, one in own.items()}} if own else {}
                    ),
                    "ResponsesHash": _responses_hash(used, person, run),
                    "Regime": model.config["split"]["regime"],
                    "SplitHash": model.config["split"]["hash"],
                    "Guidance": model.config["guidance"],
                    **merged_fields([leakage_fields(one.config) for one in used]),
                    "TransductiveUnits": sorted({unit for one in used for unit in _transductive(one, run)}),
                },
            )
        )
    return wanted


def are_current(tree: OutputTree, wanted: Iterable[RunToDecode], *, model_label: str) -> bool:
    """Whether the predictions of all these runs are stored as they would be written."""
    return all(
        predictions_are_current(
            tree, one.run, one.trials, model_label=model_label, sources=one.sources, details=one.details
        )
        for one in wanted
    )


def store_predictions(
    tree: OutputTree, wanted: Iterable[RunToDecode], probabilities: FloatArray, *, model_label: str
) -> None:
    """Write the predictions of runs.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, C)
        Of all the participant's stored trials.
    """
    for one in wanted:
        values = np.asarray(probabilities[one.rows], dtype=np.float64)
        write_predictions(
            tree,
            one.run,
            Predictions(**vars(one.trials), probabilities=values),
            model_label=model_label,
            sources=one.sources,
            details=one.details,
        )


def _trials_of(
    file: StoredResponses, sets: Sequence[SetName], folds: IntArray, *, labels: Sequence[str]
) -> PredictedTrials:
    return PredictedTrials(
        onset=file.trials.onset,
        duration=file.trials.duration,
        trial_number=file.trial_number,
        stimulus_id=file.trials.stimulus_id,
        set_name=tuple(sets[int(number) - 1] for number in file.trial_number),
        fold=tuple(int(fold) or None for fold in folds),
        label_names=tuple(labels),
    )


def _responses_hash(used: Iterable[ModelRecord], person: ParticipantResponses, run: Run) -> str:
    """What was decoded: the run's responses, and all of its unit where that is standardised by itself."""
    units = {unit for one in used for unit in _described_by_itself(one, run)}
    return digest(
        *(
            file.fingerprint
            for other, file in zip(person.runs, person.stored, strict=True)
            if other == run or any(unit_name(other, kind) == name for kind, name in units)
        )
    )


def _described_by_itself(model: ModelRecord, run: Run) -> list[tuple[str, str]]:
    """Kind and name of the run's unit of standardisation where the decoder does not know it."""
    described = model.config["standardization"]
    if described["unit"] == "none":
        return []
    name = unit_name(run, described["unit"])
    return [] if name in described["sources"] else [(described["unit"], name)]


def _transductive(model: ModelRecord, run: Run) -> list[str]:
    """The run's unit, if its responses were standardised by all its trials: by itself where it is new."""
    described = model.config["standardization"]
    if described["unit"] == "none":
        return []
    name = unit_name(run, described["unit"])
    return [name] if described["sources"].get(name, "transductive") == "transductive" else []
