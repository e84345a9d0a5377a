"""What one has to keep in mind when reading a participant's scores, the weightiest first."""

from __future__ import annotations

import math

import numpy as np

from clipmused_bids.evaluation.inference import FEWEST_STIMULI
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.report.blocks import Tone
from clipmused_bids.report.leak_notes import leakage_lines
from clipmused_bids.stages.reporting.score_files import DecodedPerson

Remark = tuple[Tone, str]

_FEWEST_TRIALS = 50
_SAME = 1e-6


def remarks(one: DecodedPerson) -> list[Remark]:
    """List what weakens the scores or the predictions of a participant."""
    if one.predictions is None:
        return []
    lines = leakage_lines(one.predictions.leakage)
    found: list[Remark] = [("error", line) for line in lines if line.startswith("LEAKAGE")]
    found += _other_predictions(one)
    found += _few(one)
    found += [("warning", line) for line in lines if line.startswith("Leakage warning")]
    found += _unlabelled(one)
    found += _demo(one)
    found += _untrained(one)
    found += [("note", line) for line in lines if line.startswith("Transductive")]
    if one.calibrated:
        text = (
            "The stored scores are of calibrated probabilities; curves, confusions and stimuli are of the stored "
            "predictions, before calibration. Rankings of trials by one label are the same."
        )
        found.append(("note", text))
    return found


def _other_predictions(one: DecodedPerson) -> list[Remark]:
    """Scores that were stored before the predictions were made again."""
    score = None if one.scores is None else next((s for s in one.scores.single if s.metric == "mAP"), None)
    precision = [label.average_precision for label in one.labels]
    if score is None or math.isnan(score.value) or not precision or one.predictions is None:
        return []
    if len(one.predictions.folds) > 1 or abs(float(np.nanmean(precision)) - score.value) < _SAME:
        # Means over folds of means over labels are not means over labels of means over folds.
        return []
    text = (
        "The stored scores are not those of the predictions and labels that are there now: --evaluate again."
    )
    return [("error", text)]


def _few(one: DecodedPerson) -> list[Remark]:
    if one.scores is None or one.scores.headline is None or one.predictions is None:
        return []
    tested = [one.predictions.stimulus_id[k] for k in np.flatnonzero(one.predictions.test)]
    n, stimuli = one.scores.headline.n_trials, len(set(tested))
    if n >= _FEWEST_TRIALS and (stimuli >= FEWEST_STIMULI or not tested):
        return []
    of = f" of {stimuli} stimuli" if tested else ""
    step = f" One trial more or less changes top1 by {1 / n:.2f}." if one.scores.main == "top1" and n else ""
    return [("warning", f"Only {n} trials{of} were scored: every score here is coarse.{step}")]


def _unlabelled(one: DecodedPerson) -> list[Remark]:
    """Held-out trials that no score knows."""
    if one.predictions is None or one.catalogue is None:
        return []
    held_out = sum(name == "test" for name in one.predictions.set_name)
    lost = held_out - int(one.predictions.test.sum())
    if not lost:
        return []
    text = f"{lost} of {held_out} held-out trials are in no score: their labels are not known, or nothing decoded them."
    return [("warning", text)]


def _demo(one: DecodedPerson) -> list[Remark]:
    clip = one.config.get("clip") or {}
    if clip.get("model") != "demo" or one.catalogue is None or one.catalogue.simulated:
        return []
    text = (
        "The network was guided by the demonstration CLIP, which knows the simulator's scenes only: on these data its "
        "guidance means nothing. Use --clip-model with real weights."
    )
    return [("warning", text)]


def _untrained(one: DecodedPerson) -> list[Remark]:
    if one.config.get("best_epoch") != 0 or not METHODS[one.config["method"]].deep:
        return []
    readout = one.config["hyperparameters"]["model"].get("readout", "none")
    kept = "" if readout == "none" else f" What decodes is its linear readout ({readout}), fitted beforehand."
    text = f"No epoch of training was better on validation data, so the network was left as it started.{kept}"
    return [("warning", text)]
