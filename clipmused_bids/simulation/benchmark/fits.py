"""One row of the table: a method or an ablation, fitted to a study and scored on its test trials."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clipmused_bids.config import Hyperparameters, build_hyperparameters, merge, read_preset
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.registry import METHODS, create
from clipmused_bids.methods.variants import Variant
from clipmused_bids.records import FloatArray, TrialData
from clipmused_bids.simulation.benchmark.encoding import CLIP_MODEL
from clipmused_bids.simulation.benchmark.prepared import PreparedStudy, TrialSets

METRICS = ("mAP", "AUC", "Hamming")
_PRESET = "small"  # the product's choice under 5,000 trials

Result = dict[str, Any]


class Stopwatch:
    """Seconds since it was made: of the clock, and of the processor (all threads of this process)."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Both, rounded to hundredths."""
        return {
            "seconds": round(time.perf_counter() - self._clock, 2),
            "cpu_seconds": round(time.process_time() - self._processor, 2),
        }


def variant_hyperparameters(variant: Variant, *, over_preset: Mapping[str, Any]) -> Hyperparameters:
    """The preset, the user's values over it, the variant's over both; targets are the demo CLIP's."""
    tables = merge(read_preset(_PRESET), {"targets": {"clip_model": CLIP_MODEL}})
    return build_hyperparameters(merge(merge(tables, over_preset), variant.overrides))


def fit_and_score(
    variant: Variant, prepared: PreparedStudy, *, seed: int, over_preset: Mapping[str, Any]
) -> Result:
    """Fit to the training trials and score the test trials.

    Returns
    -------
    dict
        ``metrics`` and ``floors`` by participant, how it was fitted, and the seconds both took; ``refused`` where
        the method cannot serve such data.
    """
    watch = Stopwatch()
    try:
        hyperparameters = variant_hyperparameters(variant, over_preset=over_preset)
        result: Result = {"metrics": {}, "floors": {}, "best_epoch": [], "stopped": []}
        alone = METHODS[variant.method].per_participant
        for sets in prepared.alone if alone else (prepared.together,):
            data = guided(sets, variant, hyperparameters)
            method = create(variant.method, hyperparameters=hyperparameters, seed=seed, device="cpu")
            history = method.fit(data.of("train"), data.of("val"))
            for name, by_participant in scores(method, data.of("test")).items():
                result[name] |= by_participant
            result["best_epoch"].append(history.best_epoch)
            result["stopped"].append(history.stopped)
        return result | watch.read()
    except ClipMusedError as error:
        return refused(error)


def guided(sets: TrialSets, variant: Variant, hyperparameters: Hyperparameters) -> TrialSets:
    """Give targets to methods that read them; the others never see any."""
    return sets.with_targets(hyperparameters.targets) if METHODS[variant.method].guided else sets


def scores(method: Method, test: TrialData) -> Result:
    """Scores of each participant's single test trials, and their floors."""
    # Predictions cannot hang on what they are compared with.
    probabilities = method.predict_proba(replace(test, labels=np.full_like(test.labels, np.nan)))
    metrics: dict[str, dict[str, float]] = {}
    floors: dict[str, dict[str, float]] = {}
    for p, participant in enumerate(test.participants):
        mine = test.participant == p
        found = _scored(test.labels[mine], probabilities[mine])
        metrics[participant] = {name: found[name][0] for name in METRICS}
        floors[participant] = {name: found[name][1] for name in METRICS}
    return {"metrics": metrics, "floors": floors}


def refused(error: ClipMusedError) -> Result:
    """Result of a method that cannot serve such data, and why."""
    return {"refused": str(error).splitlines()[0]}


def _scored(labels: FloatArray, probabilities: FloatArray) -> dict[str, tuple[float, float]]:
    found = score(labels, probabilities, single_label=False)
    return {one.metric: (one.value, one.floor) for one in found}
