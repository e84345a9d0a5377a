"""Linear decoders of each participant by logistic regression."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.long_work import each_of
from clipmused_bids.methods.base import (
    READ_ROWS,
    FitOn,
    Signature,
    Tensors,
    closed_form_history,
    fit_score_refit,
    label_frequency,
)
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.methods.logistic_solver import (
    Classifier,
    Fold,
    choose_c,
    fit_classifier,
    held_out_losses,
)
from clipmused_bids.methods.ridge_solver import folds_of, trial_rows
from clipmused_bids.methods.row_space import MOST_FEATURES, RowSpace
from clipmused_bids.records import FloatArray, History, IntArray, TrialData

logger = logging.getLogger(__name__)


class Logistic:
    """Logistic regression of each participant alone, L2 penalty by leaving training groups out.

    Several labels are one binary regression each, with one penalty for all; of single-label data it is one
    multinomial regression. The fits read the row space of the responses (see ``RowSpace``), which changes nothing up
    to its ``MOST_FEATURES``.

    Parameters
    ----------
    cs : tuple of float
        Candidates of scikit-learn's C.
    fit_on : {"train", "train+validation"}
    """

    def __init__(self, *, cs: tuple[float, ...], fit_on: FitOn) -> None:
        self.cs = cs
        self.fit_on: FitOn = fit_on
        self._signature: Signature | None = None
        self._classifiers: dict[str, Classifier] = {}
        self._chosen: dict[str, float] = {}

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Fit to the training trials, score the validation trials, and fit to both if the options say so."""
        score = fit_score_refit(self._fit, self.predict_proba, train, validation, fit_on=self.fit_on)
        row = {"epoch": 1.0, "val_map": score} | {f"c_{name}": c for name, c in self._chosen.items()}
        return closed_form_history(row, report=context.report)

    def _fit(self, train: TrialData) -> None:
        self._signature = Signature.of(train)
        frequency = label_frequency(train.labels)
        with each_of(train.participants, "Logistic regressions", "participant") as people:
            for name in people:
                one = train.of_participant(name)
                self._classifiers[name], self._chosen[name] = _fit_one(one, cs=self.cs, frequency=frequency)

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Probability of each label, (n_trials, C); of single-label data they sum to 1."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        out = np.empty((data.n_trials, len(self._signature.label_names)))
        for p, participant in enumerate(data.participants):
            one = self._classifiers[participant]
            mine = np.flatnonzero(data.participant == p)
            rows = trial_rows(data.of_participant(participant))
            for start in range(0, len(mine), READ_ROWS):
                part = np.arange(start, min(start + READ_ROWS, len(mine)))
                out[mine[part]] = one.probability(one.log_odds(rows.read(part)))
        return out

    def state(self) -> Tensors:
        """Return coefficients and intercepts of each participant."""
        return {
            f"{part}.{name}": values
            for name, one in self._classifiers.items()
            for part, values in (("coef", one.coef), ("intercept", one.intercept))
        }

    def config(self) -> dict[str, Any]:
        """Return labels, participants, masks, candidates and the penalties that were chosen."""
        assert self._signature is not None, "fit or restore first"
        return {
            "signature": self._signature.to_config(),
            "cs": list(self.cs),
            "fit_on": self.fit_on,
            "chosen": dict(self._chosen),
            "single_label": any(one.single_label for one in self._classifiers.values()),
        }

    def summary(self) -> dict[str, Any]:
        """Return the number of coefficients and the penalties that were chosen."""
        return {
            "shared": 0,
            "per_participant": {
                name: one.coef.size + one.intercept.size for name, one in self._classifiers.items()
            },
            "c": dict(self._chosen),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Logistic:
        """Build from what ``state`` and ``config`` gave."""
        method = cls(cs=tuple(config["cs"]), fit_on=config["fit_on"])
        method._signature = Signature.from_config(config["signature"])
        method._chosen = {str(name): float(c) for name, c in config["chosen"].items()}
        method._classifiers = {
            name: Classifier(
                np.asarray(tensors[f"coef.{name}"]),
                np.asarray(tensors[f"intercept.{name}"]),
                single_label=bool(config["single_label"]),
            )
            for name in method._signature.masks
        }
        return method


def _fit_one(data: TrialData, *, cs: tuple[float, ...], frequency: FloatArray) -> tuple[Classifier, float]:
    """Choose the penalty of one participant and fit; coefficients are those of the voxels."""
    whose = f"sub-{data.participants[0]}"
    if data.n_trials == 0:
        nothing: FloatArray = np.zeros((data.responses[0].n_voxels, data.labels.shape[1]))
        bounded = np.clip(frequency, 1e-12, 1 - 1e-12)
        start = np.log(bounded) if data.single_label else np.log(bounded / (1 - bounded))
        return Classifier(nothing, start, data.single_label), sorted(cs)[len(cs) // 2]
    space = RowSpace(trial_rows(data), most_features=MOST_FEATURES)
    if space.kept_variance < 1:
        logger.info(
            "%s: logistic regression reads the %d leading principal components of the voxels, %.0f %% of the variance.",
            whose, space.features.shape[1], 100 * space.kept_variance,
        )  # fmt: skip
    labels: FloatArray = np.asarray(data.labels, dtype=np.float64)
    losses: dict[float, float] = {}
    if len(cs) > 1:
        fold = folds_of(data.group)
        losses = dict(
            held_out_losses(
                lambda: row_folds(space.features, labels, fold=fold),
                cs=cs, single_label=data.single_label, fallback=frequency,
            )
        )  # fmt: skip
    c = choose_c(losses, cs=cs)
    inner = fit_classifier(
        space.features, labels, c=c, single_label=data.single_label, fallback=frequency, whose=whose
    )
    coef = space.of_columns(inner.coef)
    return Classifier(coef, inner.intercept - space.mean @ coef, inner.single_label), c


def row_folds(x: FloatArray, y: FloatArray, *, fold: IntArray) -> Iterator[Fold]:
    """Each fold's rows held out in turn; nothing where there is a single fold."""
    for number in np.unique(fold):
        out = fold == number
        if not out.all():
            yield Fold(x[~out], y[~out], x[out], y[out])
