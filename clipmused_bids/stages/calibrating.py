"""Platt calibration of decoders on their validation trials, and predictions that went through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.evaluation.calibration import Calibration, Scope, fit_calibration
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.predicting import aligned_labels, predict
from clipmused_bids.stages.scored import LabelledPredictions


def calibration_of(
    model: StoredModel, one: LabelledPredictions, person: ParticipantResponses, fold: int, *, scope: Scope
) -> Calibration:
    """Platt calibration of one decoder, fitted to its validation trials."""
    rows = np.flatnonzero(one.validation)
    probabilities = one.probabilities[rows]
    if fold:
        # The fold after the one that is held out validates; predictions of it are those of its own decoder.
        n_folds = int(model.config["split"]["folds"])
        known = (~np.isnan(one.labels)).any(axis=1)
        rows = np.flatnonzero((one.fold == fold % n_folds + 1) & known)
        probabilities = aligned_labels(model, predict(model, person, rows), one.label_names)
    unknown = np.isnan(probabilities)
    labels = np.where(unknown, np.nan, one.labels[rows])
    return fit_calibration(labels, np.where(unknown, 0.0, probabilities), scope=scope)


def calibrated(one: LabelledPredictions, maps: Mapping[int, Calibration]) -> LabelledPredictions:
    """Every trial by the calibration of the decoder that decoded it."""
    probabilities = one.probabilities.copy()
    for fold, calibration in maps.items():
        rows = one.fold == fold
        probabilities[rows] = calibration.apply(probabilities[rows])
    return replace(one, probabilities=probabilities)
