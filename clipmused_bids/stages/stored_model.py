"""What lies in a model file beside the decoder: voxels and standardisation of each participant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.comparison import grid_fields, grid_of
from clipmused_bids.dataset.outputs.weights import StoredModel, voxel_hash
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.registry import restore
from clipmused_bids.records import TrialData, VoxelSpace
from clipmused_bids.responses.standardize import Scaling, UnitStatistics
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.standardized import Standardization
from clipmused_bids.stages.training_set import TrainingSet, standardization_unit

Tensors = dict[str, NDArray[Any]]
_NAMES: Mapping[Scaling, tuple[str, str]] = {"zscore": ("mean", "sd"), "minmax": ("minimum", "range")}


def voxel_tensors(data: TrialData) -> Tensors:
    """Voxels and regions; once where all participants have the same."""
    tensors: Tensors = {}
    for participant, space in zip(data.participants, data.spaces, strict=True):
        name = "common" if data.common_space else participant
        tensors[f"voxels.{name}"] = np.asarray(space.voxels, dtype=np.int64)
        tensors[f"region.{name}"] = np.asarray(space.region, dtype=np.int64)
    return tensors


def standardization_tensors(
    participants: Sequence[str], standardizations: Sequence[Standardization]
) -> Tensors:
    """Offsets and scales, (n_units, n_voxels) for each participant, units in order of their names.

    Called ``mean`` and ``sd``, or ``minimum`` and ``range``, by what they are.
    """
    tensors: Tensors = {}
    for participant, one in zip(participants, standardizations, strict=True):
        if one.statistics:
            ordered = [one.statistics[name] for name in sorted(one.statistics)]
            offset, scale = _NAMES[one.scaling]
            tensors[f"{offset}.{participant}"] = np.stack([s.offset for s in ordered])
            tensors[f"{scale}.{participant}"] = np.stack([s.scale for s in ordered])
            tensors[f"trials.{participant}"] = np.array([s.n_trials for s in ordered], dtype=np.int64)
    return tensors


def stored_space(model: StoredModel, participant: str) -> VoxelSpace:
    """Voxels and regions of one participant as the decoder was trained with them."""
    name = "common" if model.config["common_space"] else participant
    grids = model.config["grids"]
    # In a common space an unseen participant has everyone's grid.
    like = participant if participant in grids else next(iter(grids))
    return VoxelSpace(
        grid=grid_of(grids[like]),
        voxels=model.tensors[f"voxels.{name}"],
        region=model.tensors[f"region.{name}"],
        region_names=tuple(model.config["region_names"]),
    )


def stored_standardization(model: StoredModel, participant: str) -> Standardization:
    """Offsets and scales of a participant's units that the decoder was trained on; none of an unseen one."""
    described = model.config["standardization"]
    scaling: Scaling = described["scaling"]
    if described["unit"] == "none":
        return Standardization("none", scaling, {})
    prefix = f"sub-{participant}"
    sources: Mapping[str, Any] = described["sources"]
    names = sorted(name for name in sources if name == prefix or name.startswith(f"{prefix}_"))
    if not names:
        return Standardization(described["unit"], scaling, {})  # an unseen participant
    parts = [model.tensors[f"{name}.{participant}"] for name in (*_NAMES[scaling], "trials")]
    rows = zip(names, *parts, strict=True)
    return Standardization(
        described["unit"],
        scaling,
        {
            name: UnitStatistics(offset, scale, sources[name], int(n), scaling)
            for name, offset, scale, n in rows
        },
    )


def stored_decoder(model: StoredModel) -> Method:
    """The method with its fitted state."""
    tensors = {
        name.removeprefix("decoder."): value
        for name, value in model.tensors.items()
        if name.startswith("decoder.")
    }
    return restore(model.config["method"], tensors, model.config["decoder"])


def fitted_config(training: TrainingSet, plan: Plan, catalogue: Catalogue) -> dict[str, Any]:
    """What was fitted beside the decoder, and to what, as stored with it."""
    data = training.train
    targets = data.targets
    return {
        "label_names": list(data.label_names),
        "labels_left_out": [name for name in catalogue.stimuli.label_names if name not in data.label_names],
        "single_label": data.single_label,
        "n_training_trials": data.n_trials,
        "n_validation_trials": training.validation.n_trials,
        "grids": {
            p: grid_fields(space.grid) for p, space in zip(data.participants, data.spaces, strict=True)
        },
        "masks": {
            p: voxel_hash(space.grid, space.voxels)
            for p, space in zip(data.participants, data.spaces, strict=True)
        },
        "region_names": list(data.spaces[0].region_names),
        "atlas_images": list(training.atlas_images),
        "standardization": {
            "unit": standardization_unit(plan),
            "scaling": plan.hyperparameters.responses.scaling,
            "sources": {
                name: statistics.source
                for one in training.standardizations
                for name, statistics in one.statistics.items()
            },
        },
        "voxel_choice": training.voxel_choice,
        "guidance": {
            "high": targets.high_source if targets is not None else "none",
            "low": targets.low_source if targets is not None and targets.low is not None else "off",
        },
    }
