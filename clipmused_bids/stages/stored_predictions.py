"""Predictions of one participant as they are stored, with what they were made by and from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clipmused_bids.dataset.outputs.prediction_files import Predictions, write_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.records import FloatArray, IntArray, Run, Split
from clipmused_bids.report.leak_notes import leakage_fields, merged_fields
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import sets_of_runs
from clipmused_bids.stages.standardized import unit_name


def store_predictions(
    plan: Plan,
    tree: OutputTree,
    split: Split | None,
    person: ParticipantResponses,
    *,
    model: StoredModel,
    probabilities: FloatArray,
    folds: IntArray,
    decoders: Mapping[int, StoredModel],
    model_label: str,
) -> None:
    """Write the predictions of each run of a participant."""
    sets = sets_of_runs(split, person.runs, plan.trials)
    start = 0
    for run, file in zip(person.runs, person.stored, strict=True):
        rows = slice(start, start + len(file.values))
        start = rows.stop
        own = {fold: decoders[fold] for fold in np.unique(folds[rows]).tolist() if fold in decoders}
        used = [*own.values()] if own and folds[rows].all() else [model, *own.values()]
        predictions = Predictions(
            onset=file.trials.onset,
            duration=file.trials.duration,
            trial_number=file.trial_number,
            stimulus_id=file.trials.stimulus_id,
            set_name=tuple(sets[run.key][int(number) - 1] for number in file.trial_number),
            fold=tuple(int(fold) or None for fold in folds[rows]),
            label_names=tuple(model.config["label_names"]),
            probabilities=np.asarray(probabilities[rows], dtype=np.float64),
        )
        write_predictions(
            tree,
            run,
            predictions,
            model_label=model_label,
            sources=[tree.uri(path) for path in (file.path, *(one.path for one in used))],
            details={
                "Method": model.config["method"],
                "WeightsHash": model.weights_hash,
                **({"WeightsHashOfFolds": {k: one.weights_hash for k, one in own.items()}} if own else {}),
                "Regime": model.config["split"]["regime"],
                "SplitHash": model.config["split"]["hash"],
                "Guidance": model.config["guidance"],
                **merged_fields([leakage_fields(one.config) for one in used]),
                "TransductiveUnits": sorted({unit for one in used for unit in _transductive(one, run)}),
            },
        )


def _transductive(model: StoredModel, run: Run) -> list[str]:
    """The run's unit, if its responses were standardised by all its trials: by itself where it is new."""
    described = model.config["standardization"]
    if described["unit"] == "none":
        return []
    name = unit_name(run, described["unit"])
    return [name] if described["sources"].get(name, "transductive") == "transductive" else []
