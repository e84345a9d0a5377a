"""What lies in a model file beside the decoder: voxels and standardisation of each participant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.comparison import grid_of
from clipmused_bids.dataset.weights import StoredModel
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.registry import restore
from clipmused_bids.records import TrialData, VoxelSpace
from clipmused_bids.responses.standardize import UnitStatistics
from clipmused_bids.stages.assemble import Standardization

Tensors = dict[str, NDArray[Any]]


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
    """Means and standard deviations, (n_units, n_voxels) for each participant, units in order of their names."""
    tensors: Tensors = {}
    for participant, one in zip(participants, standardizations, strict=True):
        if one.statistics:
            ordered = [one.statistics[name] for name in sorted(one.statistics)]
            tensors[f"mean.{participant}"] = np.stack([s.mean for s in ordered])
            tensors[f"sd.{participant}"] = np.stack([s.sd for s in ordered])
            tensors[f"trials.{participant}"] = np.array([s.n_trials for s in ordered], dtype=np.int64)
    return tensors


def stored_space(model: StoredModel, participant: str) -> VoxelSpace:
    """Voxels and regions of one participant as the decoder was trained with them."""
    name = "common" if model.config["common_space"] else participant
    return VoxelSpace(
        grid=grid_of(model.config["grids"][participant]),
        voxels=model.tensors[f"voxels.{name}"],
        region=model.tensors[f"region.{name}"],
        region_names=tuple(model.config["region_names"]),
    )


def stored_standardization(model: StoredModel, participant: str) -> Standardization:
    """Means and standard deviations of the units the decoder was trained on."""
    described = model.config["standardization"]
    if f"mean.{participant}" not in model.tensors:
        return Standardization(described["unit"], {})
    prefix = f"sub-{participant}"
    sources: Mapping[str, Any] = described["sources"]
    names = sorted(name for name in sources if name == prefix or name.startswith(f"{prefix}_"))
    rows = zip(
        names, model.tensors[f"mean.{participant}"], model.tensors[f"sd.{participant}"],
        model.tensors[f"trials.{participant}"], strict=True,
    )  # fmt: skip
    return Standardization(
        described["unit"],
        {name: UnitStatistics(mean, sd, sources[name], int(n)) for name, mean, sd, n in rows},
    )


def stored_decoder(model: StoredModel) -> Method:
    """The method with its fitted state."""
    tensors = {
        name.removeprefix("decoder."): value
        for name, value in model.tensors.items()
        if name.startswith("decoder.")
    }
    return restore(model.config["method"], tensors, model.config["decoder"])
