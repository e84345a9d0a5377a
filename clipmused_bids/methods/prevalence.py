"""The floor: each label's training frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.methods.base import (
    FitOn,
    Signature,
    Tensors,
    closed_form_history,
    joined_trials,
    label_frequency,
    require_finite_trials,
    require_trials,
)
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.records import FloatArray, History, TrialData


class Prevalence:
    """Predicts each label's frequency in the participant's training trials.

    It reads the responses only to refuse those that no method could use.

    Parameters
    ----------
    fit_on : {"train", "train+validation"}
    """

    def __init__(self, *, fit_on: FitOn) -> None:
        self.fit_on: FitOn = fit_on
        self._signature: Signature | None = None
        self._frequency: dict[str, FloatArray] = {}

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Count the labels."""
        require_trials(train)
        if self.fit_on == "train+validation":
            train = joined_trials(train, validation)
        require_finite_trials(train)
        self._signature = Signature.of(train)
        pooled = label_frequency(train.labels)
        for p, participant in enumerate(train.participants):
            mine = train.labels[train.participant == p]
            self._frequency[participant] = label_frequency(mine, fallback=pooled)
        return closed_form_history({"epoch": 1.0}, report=context.report)

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Return the frequencies, (n_trials, C)."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        require_finite_trials(data)
        table = np.stack([self._frequency[name] for name in data.participants])
        return table[data.participant]

    def state(self) -> Tensors:
        """Return the frequencies by participant."""
        return {f"frequency.{name}": values for name, values in self._frequency.items()}

    def config(self) -> dict[str, Any]:
        """Return labels, participants and masks."""
        assert self._signature is not None, "fit or restore first"
        return {"signature": self._signature.to_config(), "fit_on": self.fit_on}

    def summary(self) -> dict[str, Any]:
        """Return the number of frequencies."""
        return {
            "shared": 0,
            "per_participant": {name: values.size for name, values in self._frequency.items()},
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Prevalence:
        """Build from what ``state`` and ``config`` gave."""
        method = cls(fit_on=config["fit_on"])
        method._signature = Signature.from_config(config["signature"])
        method._frequency = {
            name: np.asarray(tensors[f"frequency.{name}"]) for name in method._signature.masks
        }
        return method
