"""A stack of ridge regressions as a decoder of its own: the default decoder's readout without its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from clipmused_bids.config import LabelLoss
from clipmused_bids.methods.base import (
    FitOn,
    Signature,
    Tensors,
    closed_form_history,
    fit_score_refit,
)
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.methods.linear_fit import LinearMap, predict
from clipmused_bids.methods.stacked_scores import stacked_scores
from clipmused_bids.methods.stacking import fit_members, prior_logits
from clipmused_bids.records import FloatArray, History, TrialData

# Key of the one map that serves all in a common space.
ALL = "all"


class RidgeStack:
    """Logits ``prior + sum_k w_k s_k``: label frequencies and the weighted scores of ridge regressions.

    The members are those of ``fit_members`` with voxels as they are and weighted by what labels explain; the weights
    those of ``stack``. Single-label data get a softmax, others a sigmoid of each label. This is what the decoder with
    ``readout = "stack"`` starts from.

    Parameters
    ----------
    alphas : tuple of float
        Candidate penalties, relative to the mean eigenvalue of the Gram matrix; chosen by leaving training groups
        out.
    fit_on : {"train", "train+validation"}
    """

    def __init__(self, *, alphas: tuple[float, ...], fit_on: FitOn) -> None:
        self.alphas = alphas
        self.fit_on: FitOn = fit_on
        self._signature: Signature | None = None
        self._loss: LabelLoss = "binary"
        self._maps: dict[str, LinearMap] = {}
        self._weights: dict[str, float] = {}

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Fit to the training trials, score the validation trials, and fit to both if the options say so."""
        score = fit_score_refit(self._fit, self.predict_proba, train, validation, fit_on=self.fit_on)
        row = {"epoch": 1.0, "val_map": score}
        row |= {f"weight_{_column(name)}": weight for name, weight in self._weights.items()}
        return closed_form_history(row, report=context.report)

    def _fit(self, train: TrialData) -> None:
        self._signature = Signature.of(train, any_participant=train.common_space)
        self._loss = "softmax" if train.single_label else "binary"
        members = fit_members(train, alphas=self.alphas, voxel_weights="labels", loss=self._loss)
        found = stacked_scores(members, train, loss=self._loss)
        prior = prior_logits(train, loss=self._loss)
        self._weights = {name: found.weight * share for name, share in found.shares.items()}
        # In a common space all maps are the same.
        names = (ALL,) if train.common_space else train.participants
        self._maps = {
            name: LinearMap(found.weight * one, prior + found.weight * offset)
            for name, one, offset in zip(names, found.maps, found.offsets, strict=False)
        }

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Probability of each label, (n_trials, C); of single-label data they sum to 1."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        common = self._signature.any_participant
        logits = predict([self._maps[ALL if common else name] for name in data.participants], data)
        return np.asarray(softmax(logits, axis=1) if self._loss == "softmax" else expit(logits))

    def state(self) -> Tensors:
        """Return coefficients and intercepts of the logits; one pair, or one for each participant."""
        return {
            f"{part}.{key}": values
            for key, one in self._maps.items()
            for part, values in (("coef", one.coef), ("intercept", one.intercept))
        }

    def config(self) -> dict[str, Any]:
        """Return labels, participants, masks, candidates and the weights of the members."""
        assert self._signature is not None, "fit or restore first"
        return {
            "signature": self._signature.to_config(),
            "alphas": list(self.alphas),
            "fit_on": self.fit_on,
            "label_loss": self._loss,
            "weights": dict(self._weights),
            "maps": list(self._maps),
        }

    def summary(self) -> dict[str, Any]:
        """Return the number of coefficients and the weights of the members."""
        assert self._signature is not None, "fit or restore first"
        sizes = {key: one.coef.size + one.intercept.size for key, one in self._maps.items()}
        common = self._signature.any_participant
        return {
            "shared": sizes[ALL] if common else 0,
            "per_participant": {} if common else sizes,
            "weights": dict(self._weights),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> RidgeStack:
        """Build from what ``state`` and ``config`` gave."""
        method = cls(alphas=tuple(config["alphas"]), fit_on=config["fit_on"])
        method._signature = Signature.from_config(config["signature"])
        method._loss = config["label_loss"]
        method._weights = {str(name): float(weight) for name, weight in config["weights"].items()}
        method._maps = {
            key: LinearMap(np.asarray(tensors[f"coef.{key}"]), np.asarray(tensors[f"intercept.{key}"]))
            for key in config["maps"]
        }
        return method


def _column(name: str) -> str:
    return name.replace(", ", "_")
