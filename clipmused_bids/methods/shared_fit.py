"""A network's training as an order to other processes, and how they carry it out.

What it starts from (weights, held-out scores, or the state of an earlier run) is told by process 0, so that all start
from the same bits, and nothing is fitted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmused_bids.config import ModelOptions, TrainingOptions, as_tables
from clipmused_bids.config.tables import build
from clipmused_bids.decoder.network import Network
from clipmused_bids.methods.architecture import Architecture, build_decoder
from clipmused_bids.records import FloatArray, ResponseTable, Targets, TrialData
from clipmused_bids.training.checkpoint import Keeper, Snapshot
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.processes import Processes
from clipmused_bids.training.progress import part_of
from clipmused_bids.training.state import load_tensors, seeded, tensors_of

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SharedFit:
    """What all processes must know to train one network together.

    Parameters
    ----------
    model : Network
        As it starts.
    architecture : Architecture
        Of the network.
    model_options : ModelOptions
    training : TrainingOptions
    train, validation : TrialData
    seed : int
    guided : bool
    device : torch.device
        Of this process; the others use theirs of that kind.
    scores : ndarray of shape (n_trials, C) or None
        Held-out scores of a fixed readout.
    n_epochs : int or None
    """

    model: Network
    architecture: Architecture
    model_options: ModelOptions
    training: TrainingOptions
    train: TrialData
    validation: TrialData
    seed: int
    guided: bool
    device: torch.device
    scores: FloatArray | None
    n_epochs: int | None

    def trainer(self, processes: Processes) -> Trainer:
        """Make this process's trainer."""
        return Trainer(
            self.model, self.train, self.validation, options=self.training, seed=self.seed, device=self.device,
            scores=self.scores, guided=self.guided, processes=processes,
        )  # fmt: skip

    def order(self, kept: Snapshot | None) -> Snapshot:
        """Write it down, with the state of an earlier run if there is one."""
        parts = _Parts()
        values = {
            "architecture": self.architecture.to_config(),
            "model_options": as_tables(self.model_options),
            "training": as_tables(self.training),
            "train": _trials_told(self.train, parts),
            "validation": _trials_told(self.validation, parts),
            "seed": self.seed,
            "guided": self.guided,
            "device": self.device.type,
            "n_epochs": self.n_epochs,
            "kept": None if kept is None else dict(kept.values),
        }
        weights = {f"weights.{name}": value for name, value in tensors_of(self.model).items()}
        scores = {} if self.scores is None else {"scores": np.asarray(self.scores)}
        state = {} if kept is None else {f"kept.{name}": value for name, value in kept.tensors.items()}
        return Snapshot(
            {**self.architecture.tensors(), **weights, **scores, **state, **parts.tensors()}, values
        )

    @classmethod
    def read(cls, order: Snapshot) -> SharedFit:
        """Read what ``order`` has written; trials come without their places in the brain."""
        values, tensors = order.values, order.tensors
        architecture = Architecture.from_config(tensors, values["architecture"])
        options = build(ModelOptions, values["model_options"], where="model.")
        train = _trials(values["train"], tensors)
        device = torch.device(values["device"])
        with seeded(0, device=device):
            model = build_decoder(architecture, options, n_participants=len(train.participants))
        load_tensors(model, part_of(tensors, "weights."))
        return cls(
            model=model,
            architecture=architecture,
            model_options=options,
            training=build(TrainingOptions, values["training"], where="training."),
            train=train,
            validation=_trials(values["validation"], tensors),
            seed=int(values["seed"]),
            guided=bool(values["guided"]),
            device=device,
            scores=tensors.get("scores"),
            n_epochs=values["n_epochs"],
        )


def kept_in(order: Snapshot) -> Snapshot | None:
    """State of an earlier run that an order goes on from."""
    values = order.values["kept"]
    return None if values is None else Snapshot(part_of(order.tensors, "kept."), values)


def carry_out_order(order: Snapshot, processes: Processes, *, keeper: Keeper) -> None:
    """Take part in the training that process 0 has ordered.

    Parameters
    ----------
    order : Snapshot
        As ``SharedFit.order`` wrote it.
    processes : Processes
    keeper : Keeper
        Has the state that is gone on from, and hears requests to stop.
    """
    fit = SharedFit.read(order)
    fit.trainer(processes).run(n_epochs=fit.n_epochs, keeper=keeper)


@dataclass
class _Parts:
    """Arrays by name; one that comes several times is told once."""

    _held: dict[int, tuple[str, NDArray[Any]]] = field(default_factory=dict)

    def name_of(self, array: NDArray[Any]) -> str:
        return self._held.setdefault(id(array), (f"data.{len(self._held)}", array))[0]

    def names_of(self, arrays: Sequence[NDArray[Any]]) -> list[str]:
        return [self.name_of(array) for array in arrays]

    def tensors(self) -> dict[str, NDArray[Any]]:
        return dict(self._held.values())


def _trials_told(data: TrialData, parts: _Parts) -> dict[str, Any]:
    targets = data.targets
    return {
        "participants": list(data.participants),
        "common_space": data.common_space,
        "single_label": data.single_label,
        "label_names": list(data.label_names),
        "stimulus_id": list(data.stimulus_id),
        "responses": [_table_told(table, parts) for table in data.responses],
        "arrays": {
            name: parts.name_of(getattr(data, name))
            for name in ("participant", "row", "labels", "stimulus", "group")
        },
        "targets": None
        if targets is None
        else {
            "stimulus_id": list(targets.stimulus_id),
            "low": None if targets.low is None else parts.name_of(targets.low),
            "high": None if targets.high is None else parts.name_of(targets.high),
            "sources": [targets.high_source, targets.clip_model, targets.weights_hash, targets.low_source],
        },
    }


def _table_told(table: ResponseTable, parts: _Parts) -> dict[str, Any]:
    return {
        **{name: parts.names_of(getattr(table, name)) for name in ("blocks", "columns", "mean", "sd")},
        "weight": None if table.weight is None else parts.name_of(table.weight),
        "watched": table.seen is not None,
    }


def _trials(told: Mapping[str, Any], tensors: Arrays) -> TrialData:
    targets = told["targets"]
    if targets is not None:
        level = {name: None if targets[name] is None else tensors[targets[name]] for name in ("low", "high")}
        targets = Targets(tuple(targets["stimulus_id"]), level["low"], level["high"], *targets["sources"])
    return TrialData(
        participants=tuple(told["participants"]),
        responses=tuple(_table(one, tensors) for one in told["responses"]),
        spaces=(),
        common_space=told["common_space"],
        label_names=tuple(told["label_names"]),
        single_label=told["single_label"],
        stimulus_id=tuple(told["stimulus_id"]),
        targets=targets,
        **{name: tensors[key] for name, key in told["arrays"].items()},
    )


def _table(told: Mapping[str, Any], tensors: Arrays) -> ResponseTable:
    blocks, columns, mean, sd = (
        tuple(tensors[key] for key in told[name]) for name in ("blocks", "columns", "mean", "sd")
    )
    weight = None if told["weight"] is None else tensors[told["weight"]]
    table = ResponseTable(blocks, columns, mean, sd, weight=weight)
    return replace(table, seen=np.zeros(table.n_rows, dtype=bool)) if told["watched"] else table
