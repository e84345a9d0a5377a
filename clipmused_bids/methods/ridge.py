"""Linear decoders: one ridge for each participant, and one for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.methods.base import (
    FitOn,
    Signature,
    Tensors,
    closed_form_history,
    fit_score_refit,
)
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.methods.linear_fit import LinearMap, fit_each, fit_pooled, predict
from clipmused_bids.records import FloatArray, History, TrialData


class Ridge:
    """Multi-output ridge on unstandardised labels, predictions clipped to [0, 1].

    See ``fit_each`` and ``fit_pooled`` for what is fitted.

    Parameters
    ----------
    scope : {"participant", "pooled"}
    alphas : tuple of float
        Candidate penalties, relative to the mean eigenvalue of the Gram matrix; chosen by leaving training groups
        out.
    fit_on : {"train", "train+validation"}
    """

    def __init__(
        self, *, scope: Literal["participant", "pooled"], alphas: tuple[float, ...], fit_on: FitOn
    ) -> None:
        self.scope = scope
        self.fit_on: FitOn = fit_on
        self.alphas = alphas
        self._signature: Signature | None = None
        self._maps: dict[str, LinearMap] = {}
        self._chosen: dict[str, float] = {}

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Fit to the training trials, score the validation trials, and fit to both if the options say so."""
        score = fit_score_refit(self._fit, self.predict_proba, train, validation, fit_on=self.fit_on)
        row = {"epoch": 1.0, "val_map": score}
        row |= {f"alpha_{key}": value for key, value in self._chosen.items()}
        return closed_form_history(row, report=context.report)

    def _fit(self, train: TrialData) -> None:
        self._signature = Signature.of(train, any_participant=self.scope == "pooled" and train.common_space)
        fit = (fit_each if self.scope == "participant" else fit_pooled)(train, alphas=self.alphas)
        self._maps, self._chosen = dict(fit.maps), dict(fit.alpha)

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Predict clipped to [0, 1], (n_trials, C)."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        maps = [self._maps[""] if "" in self._maps else self._maps[name] for name in data.participants]
        return np.clip(predict(maps, data), 0.0, 1.0)

    def state(self) -> Tensors:
        """Return coefficients and intercepts; one pair, or one for each participant."""
        return {
            _name(part, key): values
            for key, one in self._maps.items()
            for part, values in (("coef", one.coef), ("intercept", one.intercept))
        }

    def config(self) -> dict[str, Any]:
        """Return labels, participants, masks, candidates and the penalties that were chosen."""
        assert self._signature is not None, "fit or restore first"
        return {
            "signature": self._signature.to_config(),
            "scope": self.scope,
            "alphas": list(self.alphas),
            "fit_on": self.fit_on,
            "chosen": dict(self._chosen),
            "maps": list(self._maps),
        }

    def summary(self) -> dict[str, Any]:
        """Return the number of coefficients and the penalties that were chosen."""
        sizes = {key: one.coef.size + one.intercept.size for key, one in self._maps.items()}
        return {
            "shared": sizes.pop("", 0),
            "per_participant": sizes,
            "alpha": dict(self._chosen),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Ridge:
        """Build from what ``state`` and ``config`` gave."""
        method = cls(scope=config["scope"], alphas=tuple(config["alphas"]), fit_on=config["fit_on"])
        method._signature = Signature.from_config(config["signature"])
        method._chosen = {str(key): float(value) for key, value in config["chosen"].items()}
        method._maps = {
            key: LinearMap(
                np.asarray(tensors[_name("coef", key)]), np.asarray(tensors[_name("intercept", key)])
            )
            for key in config["maps"]
        }
        return method


def _name(part: str, key: str) -> str:
    return f"{part}.{key}" if key else part
