"""How far a training is: what changes from step to step beside weights and moments, and its way to disk and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import History, IntArray
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.monitor import ValidationScore

Row = dict[str, float]
Tensors = Mapping[str, NDArray[Any]]


@dataclass
class Progress:
    """State of a training between two steps; changed in place.

    Parameters
    ----------
    rows : list of dict
        The history so far: one row before training and one for each epoch that is over.
    first, chosen : ValidationScore
        Scores before training, and of the weights that count at the moment.
    best, start : mapping of str to ndarray
        Weights that count at the moment, and those before training.
    best_epoch : int
    order : list of ndarray of int
        Batches of the epoch that is under way; empty between epochs.
    step : int
        How many of them are done.
    sums : dict
        Sums of each term of the loss over those, divided by the number of batches.
    watched : dict
        What was seen in the first batch.
    stopped : str
        Why the training is over; empty while it is not.
    """

    rows: list[Row]
    first: ValidationScore
    chosen: ValidationScore
    best: Tensors
    start: Tensors
    best_epoch: int = 0
    order: list[IntArray] = field(default_factory=list)
    step: int = 0
    sums: Row = field(default_factory=dict)
    watched: Row = field(default_factory=dict)
    stopped: str = ""

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return len(self.rows) - 1

    def begin_epoch(self, order: list[IntArray], *, terms: tuple[str, ...]) -> None:
        """Start an epoch with its batches."""
        self.order, self.step, self.watched = order, 0, {}
        self.sums = dict.fromkeys(terms, 0.0)

    def end_epoch(self, row: Row) -> None:
        """Close an epoch with its row of the history."""
        self.rows.append(row)
        self.order, self.step = [], 0

    def history(self) -> History:
        """Curves so far; a value that a row lacks is NaN."""
        nan = float("nan")
        columns = {name: tuple(row.get(name, nan) for row in self.rows) for name in self.rows[-1]}
        return History(columns=columns, best_epoch=self.best_epoch, stopped=self.stopped)

    def to_snapshot(self) -> Snapshot:
        """Return it as arrays and JSON values, without loss."""
        tensors: dict[str, NDArray[Any]] = {
            **{f"best.{name}": value for name, value in self.best.items()},
            **{f"start.{name}": value for name, value in self.start.items()},
            "first.of_trial": self.first.of_trial,
            "chosen.of_trial": self.chosen.of_trial,
            "order": np.concatenate([*self.order, np.empty(0, dtype=np.int64)]).astype(np.int64),
            "batch_sizes": np.array([len(batch) for batch in self.order], dtype=np.int64),
        }
        values = {
            "rows": [_written(row) for row in self.rows],
            "first": _written(_scores(self.first)),
            "chosen": _written(_scores(self.chosen)),
            "best_epoch": self.best_epoch,
            "step": self.step,
            "sums": _written(self.sums),
            "watched": _written(self.watched),
            "stopped": self.stopped,
        }
        return Snapshot(tensors, values)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Progress:
        """Read back what ``to_snapshot`` gave."""
        tensors, values = snapshot.tensors, snapshot.values
        ends = np.cumsum(tensors["batch_sizes"])
        return cls(
            rows=[_read(row) for row in values["rows"]],
            first=_score(values["first"], tensors["first.of_trial"]),
            chosen=_score(values["chosen"], tensors["chosen.of_trial"]),
            best=part_of(tensors, "best."),
            start=part_of(tensors, "start."),
            best_epoch=int(values["best_epoch"]),
            order=np.split(tensors["order"], ends[:-1]) if len(ends) else [],
            step=int(values["step"]),
            sums=_read(values["sums"]),
            watched=_read(values["watched"]),
            stopped=str(values["stopped"]),
        )


def reached(snapshot: Snapshot) -> tuple[int, int, str]:
    """Epochs that are over, steps of the one under way, and why the training is over (empty while it is not)."""
    values = snapshot.values
    return len(values["rows"]) - 1, int(values["step"]), str(values["stopped"])


def place_of(kept: Snapshot | None) -> tuple[int, int]:
    """Rows of the history and steps of the epoch that a state has behind it; (0, 0) for none."""
    return (0, 0) if kept is None else (len(kept.values["rows"]), int(kept.values["step"]))


def part_of(tensors: Tensors, prefix: str) -> dict[str, NDArray[Any]]:
    """Arrays whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _scores(score: ValidationScore) -> Row:
    return {"map": score.mean_average_precision, "loss": score.loss}


def _score(values: Sequence[Sequence[str]], of_trial: NDArray[Any]) -> ValidationScore:
    read = _read(values)
    return ValidationScore(read["map"], read["loss"], of_trial)


def _written(row: Mapping[str, float]) -> list[list[str]]:
    """Write numbers without loss, in their order; JSON knows neither NaN nor infinity, and objects have no order."""
    return [[name, repr(float(value))] for name, value in row.items()]


def _read(row: Sequence[Sequence[str]]) -> Row:
    return {name: float(value) for name, value in row}
