"""Shared response model with a shared classifier."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.methods.base import (
    FitOn,
    Signature,
    Tensors,
    closed_form_history,
    fit_score_refit,
    label_frequency,
)
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.methods.logistic_solver import Classifier, fit_classifier
from clipmused_bids.methods.srm_fit import SharedMap, choose, fit_maps, require_shared, shared_features
from clipmused_bids.records import FloatArray, History, TrialData

logger = logging.getLogger(__name__)


class SharedResponse:
    """Orthogonal maps of each participant into shared features, and one logistic regression of all.

    The maps ``W_n`` of deterministic SRM (see ``shared_response_model``) are fitted to training trials that all
    participants share (see ``match_trials``); the classifier reads ``(x - mean_n) W_n`` of all training trials. Voxels
    of a common space are treated as those of native space. The number of features and the classifier's penalty are
    chosen together, by leaving training groups out of maps and classifier.

    Parameters
    ----------
    n_features : tuple of int
        Candidates of K.
    cs : tuple of float
        Candidates of scikit-learn's C.
    fit_on : {"train", "train+validation"}
    seed : int
        Of the start of the maps.

    References
    ----------
    Chen et al. 2015, A Reduced-Dimension fMRI Shared Response Model, NeurIPS.
    """

    def __init__(
        self, *, n_features: tuple[int, ...], cs: tuple[float, ...], fit_on: FitOn, seed: int
    ) -> None:
        self.n_features = n_features
        self.cs = cs
        self.fit_on: FitOn = fit_on
        self.seed = seed
        self._signature: Signature | None = None
        self._maps: dict[str, SharedMap] = {}
        self._classifier: Classifier | None = None
        self._chosen: dict[str, Any] = {}

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Fit to the training trials, score the validation trials, and fit to both if the options say so.

        Raises
        ------
        DataError
            With fewer than two participants, or where they share no training stimuli.
        """
        score = fit_score_refit(self._fit, self.predict_proba, train, validation, fit_on=self.fit_on)
        row = {"epoch": 1.0, "val_map": score}
        row |= {"n_features": float(self._chosen["n_features"]), "c": float(self._chosen["c"])}
        return closed_form_history(row, report=context.report)

    def _fit(self, train: TrialData) -> None:
        matching = require_shared(train, minimum=min(self.n_features) + 1)
        logger.info("srm: %d shared rows matched by %s.", matching.n_rows, matching.matched_by)
        frequency = label_frequency(train.labels)
        choice = choose(
            train, matching, n_features=self.n_features, cs=self.cs, frequency=frequency, seed=self.seed
        )
        maps = fit_maps(train, matching, n_features=[choice.n_features], seed=self.seed)[choice.n_features]
        self._classifier = fit_classifier(
            shared_features(train, maps),
            np.asarray(train.labels, dtype=np.float64),
            c=choice.c,
            single_label=train.single_label,
            fallback=frequency,
            whose="srm",
        )
        self._signature = Signature.of(train)
        self._maps = dict(zip(train.participants, maps, strict=True))
        self._chosen = {
            "n_features": choice.n_features,
            "c": choice.c,
            "matched_by": matching.matched_by,
            "n_shared_rows": matching.n_rows,
        }

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Probability of each label, (n_trials, C); of single-label data they sum to 1."""
        assert self._signature is not None, "fit or restore first"
        assert self._classifier is not None, "fit or restore first"
        self._signature.check(data)
        features = shared_features(data, [self._maps[name] for name in data.participants])
        return self._classifier.probability(self._classifier.log_odds(features))

    def state(self) -> Tensors:
        """Return each participant's mean and map, and the classifier's coefficients and intercepts."""
        assert self._classifier is not None, "fit or restore first"
        own = {
            f"{part}.{name}": values
            for name, one in self._maps.items()
            for part, values in (("mean", one.mean), ("map", one.weights))
        }
        return own | {"coef": self._classifier.coef, "intercept": self._classifier.intercept}

    def config(self) -> dict[str, Any]:
        """Return labels, participants, masks, candidates, what was chosen and how trials were matched."""
        assert self._signature is not None, "fit or restore first"
        assert self._classifier is not None, "fit or restore first"
        return {
            "signature": self._signature.to_config(),
            "n_features": list(self.n_features),
            "cs": list(self.cs),
            "fit_on": self.fit_on,
            "seed": self.seed,
            "chosen": dict(self._chosen),
            "single_label": self._classifier.single_label,
        }

    def summary(self) -> dict[str, Any]:
        """Return the number of coefficients, what was chosen and how trials were matched."""
        assert self._classifier is not None, "fit or restore first"
        return {
            "shared": self._classifier.coef.size + self._classifier.intercept.size,
            "per_participant": {name: one.mean.size + one.weights.size for name, one in self._maps.items()},
            **self._chosen,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> SharedResponse:
        """Build from what ``state`` and ``config`` gave."""
        method = cls(
            n_features=tuple(config["n_features"]),
            cs=tuple(config["cs"]),
            fit_on=config["fit_on"],
            seed=int(config["seed"]),
        )
        method._signature = Signature.from_config(config["signature"])
        method._chosen = dict(config["chosen"])
        method._maps = {
            name: SharedMap(np.asarray(tensors[f"mean.{name}"]), np.asarray(tensors[f"map.{name}"]))
            for name in method._signature.masks
        }
        method._classifier = Classifier(
            np.asarray(tensors["coef"]), np.asarray(tensors["intercept"]), bool(config["single_label"])
        )
        return method
