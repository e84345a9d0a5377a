"""How the scores in the output folder were made, for the methods text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.report.methods.facts import Compared, EvaluationFacts
from clipmused_bids.stages.reporting.stored_scores import (
    StoredComparison,
    StoredScores,
    runs_scored,
    stored_comparison,
    stored_scores,
)


def evaluation_facts(
    tree: OutputTree, label: str, configs: Sequence[Mapping[str, Any]]
) -> EvaluationFacts | None:
    """Look up how a label's decoder was scored; None where it was not, or other weights were.

    Raises
    ------
    MissingInputError, DataError
        If a file of scores is broken.
    """
    if not configs:
        return None
    single_label = bool(configs[0]["single_label"])
    metric = "top1" if single_label else "mAP"
    name = str(configs[0].get("variant", configs[0]["method"]))
    scores = stored_scores(tree, label)
    comparison = stored_comparison(tree, label) if scores is not None else None
    if scores is None or comparison is None:
        return _alone(runs_scored(tree, label), metric=metric, name=name)
    return _together(scores, comparison, name=name)


def _alone(found: Mapping[str, Sequence[MetricRow]], *, metric: str, name: str) -> EvaluationFacts | None:
    if not found:
        return None
    rows = [row for own in found.values() for row in own if row.averaging == "single trials"]
    return EvaluationFacts(
        metric=metric,
        n_participants=len(found),
        n_test_trials=sum(row.score.n_trials for row in rows if row.score.metric == "mAP"),
        repeats_averaged=False,
        together=False,
        methods=[Compared(name, "", scored=True)],
    )


def _together(scores: StoredScores, comparison: StoredComparison, *, name: str) -> EvaluationFacts:
    metric = str(comparison.details["MainMetric"])
    rows = comparison.group_rows(metric)
    described: Mapping[str, str] = comparison.details["Methods"]
    people = [row for row in scores.rows if row.participant != "group" and row.score.metric == metric]
    single = [row for row in people if row.averaging == "single trials"]
    tested = any(not math.isnan(row.p_value) for row in rows)
    methods = [
        Compared(row.method, described[row.method], not math.isnan(row.value))
        for row in sorted(rows, key=lambda row: row.method != name)
    ]
    baselines = [row.baseline for row in rows if not math.isnan(row.difference)]
    return EvaluationFacts(
        metric=metric,
        n_participants=len(single),
        n_test_trials=sum(row.score.n_trials for row in single),
        repeats_averaged=len(people) > len(single),
        together=True,
        methods=methods,
        best=baselines[0] if baselines else "",
        interval_over_stimuli=any(not math.isnan(row.stimuli_low) for row in rows),
        n_permutations=int(comparison.details["Permutations"]) if tested else 0,
        exchanged=str(comparison.details["Exchanged"]),
        calibrated=bool(comparison.details["Calibrated"]),
        noise_ceiling=bool(scores.details["MedianVoxelNoiseCeiling"]),
    )
