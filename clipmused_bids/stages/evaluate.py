"""A decoder's scores beside honest baselines of the same split: the table, the files, the verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.dataset.outputs.metric_files import write_group_metrics
from clipmused_bids.dataset.outputs.model_card import model_card
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import write_card
from clipmused_bids.errors import UsageError
from clipmused_bids.evaluation.inference import (
    Interval,
    over_participants,
    paired_difference,
    stimulus_difference,
    verdict,
)
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import Split
from clipmused_bids.report.leak_notes import leakage_lines, merged_fields
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decode import decode_participants, decoder_of, left_out_by
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.illustrate import draw_scores, write_methods
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.scoring import Scored, score_decoder, scores_by_participant
from clipmused_bids.stages.train import train_group

logger = logging.getLogger(__name__)

BASELINES = ("ridge", "ridge-pooled", "prevalence")
MAIN_METRICS = ("mAP", "AUC", "Hamming")


def evaluate(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split | None,
    *,
    ceilings: Mapping[str, float],
    device: str,
    failures: Failures,
) -> None:
    """Score the decoder; at group level beside baselines that are fitted to the same split.

    ``ceilings`` are the medians of the voxels' noise ceilings by participant, to stand beside the scores.

    Raises
    ------
    UsageError
        If nothing was held out.
    """
    label, method = plan.config.model_label, plan.config.method
    if split is None:
        raise UsageError(
            "--evaluate: there is no split, so nothing is held out.", hint="train first: group --train"
        )
    # Told by the decoder: an evaluation alone opens no picture.
    catalogue = catalogue.without(left_out_by(tree, model_label=label))
    if "decode" not in plan.config.actions:
        decode_participants(plan, tree, split, model_label=label, failures=failures, label_names=())
        plan = plan.without(failures)
    ours = score_decoder(plan, tree, catalogue, model_label=label, method=method)
    baselines: dict[str, Scored] = {}
    if plan.config.level == "group":
        for other in BASELINES:
            if other != method:
                baselines[other] = _baseline(
                    plan, tree, catalogue, split, other, device=device, failures=failures
                )
    metric = "top1" if catalogue.stimuli.single_label else "mAP"
    verdicts = compare(ours, baselines, metric=metric, seed=plan.config.random_seed)
    if plan.config.level == "group":
        for one in baselines.values():
            write_scores(plan, tree, one, regime=split.regime, baselines={}, verdicts=(), ceilings=ceilings)
        write_scores(
            plan, tree, ours, regime=split.regime, baselines=baselines, verdicts=verdicts, ceilings=ceilings
        )
    draw_scores(tree, ours)
    write_methods(plan, tree, decoder_of(tree, plan.participants[0], model_label=label))
    table = comparison_table(ours, baselines, ceilings=ceilings, main=metric)
    logger.info("Scores of held-out trials (regime: %s):\n%s", split.regime, table)
    for _, text in verdicts:
        logger.info("%s %s.", method, text)
    for line in leakage_lines(merged_fields([one.leakage for one in (ours, *baselines.values())])):
        logger.warning("%s", line) if line.startswith("LEAKAGE") else logger.info("%s", line)


def baseline_label(model_label: str, method: str) -> str:
    """Label of a baseline that was fitted beside a decoder on the same split."""
    return f"{model_label}+{method.replace('-', '')}"


def compare(
    ours: Scored, baselines: Mapping[str, Scored], *, metric: str, seed: int
) -> list[tuple[Interval, str]]:
    """Difference to the best linear baseline over people and over stimuli, each with its verdict.

    The best one is the one with the highest score on these test trials, so it is never the weaker rival.
    """
    linear = {name: one for name, one in baselines.items() if METHODS[name].linear}
    if not linear or ours.method in BASELINES:
        return []
    best = max(linear, key=lambda name: linear[name].score_of(metric, "group").value)
    theirs = linear[best]
    people = sorted(set(ours.participant))
    over_people = paired_difference(
        {p: ours.score_of(metric, p).value for p in people},
        {p: theirs.score_of(metric, p).value for p in people},
    )
    over_stimuli = stimulus_difference(
        ours.labels,
        ours.probabilities,
        theirs.probabilities,
        stimulus_id=ours.stimulus_id,
        participant=ours.participant,
        metric="top1" if metric == "top1" else "mAP",
        rng=np.random.default_rng(seed),
    )
    return [(one, verdict(one, metric=metric, baseline=best)) for one in (over_people, over_stimuli)]


def write_scores(
    plan: Plan,
    tree: OutputTree,
    scored: Scored,
    *,
    regime: str,
    baselines: Mapping[str, Scored],
    verdicts: Sequence[tuple[Interval, str]],
    ceilings: Mapping[str, float],
) -> None:
    """Write a decoder's scores of all participants, and its model card."""
    summaries = over_participants(scores_by_participant(scored.rows, averaging="single trials"))
    write_group_metrics(
        tree,
        scored.rows,
        model_label=scored.label,
        sources=scored.sources,
        details={
            "Method": scored.method,
            "Regime": regime,
            "Participants": [f"sub-{p}" for p in plan.participants],
            "Intervals": {one.metric: asdict(one.interval) for one in summaries},
            "Comparisons": [{"Interval": asdict(one), "Verdict": text} for one, text in verdicts],
            "MedianVoxelNoiseCeiling": {f"sub-{p}": value for p, value in ceilings.items()},
            **scored.leakage,
        },
    )
    _write_card(plan, tree, scored, regime=regime, baselines=baselines)


def comparison_table(
    ours: Scored, baselines: Mapping[str, Scored], *, ceilings: Mapping[str, float], main: str
) -> str:
    """Text table: participants by metrics, with floors, the baselines' main metric and the voxels' noise ceiling."""
    metrics = MAIN_METRICS if main in MAIN_METRICS else (*MAIN_METRICS, main)
    lines = [["participant"]]
    for metric in metrics:
        lines[0] += [metric, "floor"]
    lines[0] += [f"{name} {main}" for name in baselines] + ["voxel ceiling"]
    for who in [*sorted(set(ours.participant)), "group"]:
        cells = [who if who == "group" else f"sub-{who}"]
        for metric in metrics:
            one = ours.score_of(metric, who)
            cells += [_shown(one.value), _shown(one.floor)]
        cells += [_shown(other.score_of(main, who).value) for other in baselines.values()]
        lines.append([*cells, _shown(ceilings.get(who, math.nan))])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _baseline(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    method: str,
    *,
    device: str,
    failures: Failures,
) -> Scored:
    label = baseline_label(plan.config.model_label, method)
    train_group(plan, tree, catalogue, split, method=method, model_label=label, maker=None, device=device)
    decode_participants(plan, tree, split, model_label=label, failures=failures, label_names=())
    return score_decoder(plan, tree, catalogue, model_label=label, method=method)


def _write_card(
    plan: Plan, tree: OutputTree, scored: Scored, *, regime: str, baselines: Mapping[str, Scored]
) -> None:
    config = decoder_of(tree, plan.participants[0], model_label=scored.label).config
    text = model_card(
        label=scored.label,
        method=scored.method,
        software=f"clipmused-bids {__version__}",
        data={
            "task": ", ".join(config["tasks"]),
            "space": config["space"] or "native",
            "responses": config["response_kind"],
            "training trials": str(config["n_training_trials"]),
            "validation trials": str(config["n_validation_trials"]),
            "split": config["split"]["rule"],
            "guidance": f"high level: {config['guidance']['high']}, low level: {config['guidance']['low']}",
        },
        participants=plan.participants,
        label_names=scored.label_names,
        scores=scored.rows,
        regime=regime,
        baselines={
            name: [row for row in one.rows if row.participant == "group"] for name, one in baselines.items()
        },
        leakage=leakage_lines(scored.leakage),
    )
    write_card(tree.model_folder(scored.label), text)


def _shown(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"
