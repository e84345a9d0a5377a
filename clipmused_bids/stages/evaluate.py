"""Decoders' scores beside honest baselines of the same split: the tables, the files, the verdicts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from clipmused_bids.dataset.outputs.comparison_files import (
    ComparisonRow,
    write_comparison,
    write_folds,
    write_labels,
)
from clipmused_bids.dataset.outputs.metric_files import write_group_metrics
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    decoders_in,
    read_config,
    weights_hashes,
)
from clipmused_bids.errors import UsageError
from clipmused_bids.evaluation.cross_validation import fold_numbers
from clipmused_bids.evaluation.inference import Interval, over_participants
from clipmused_bids.evaluation.weighted import Metric
from clipmused_bids.long_work import each_of
from clipmused_bids.records import Split
from clipmused_bids.report.leak_notes import leakage_lines, merged_fields
from clipmused_bids.report.numbers import shown
from clipmused_bids.stages.carry_out import Job, decode_contender, train_contender
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.comparing import (
    Rival,
    best_linear,
    comparison_rows,
    difference,
    label_rows,
)
from clipmused_bids.stages.comparison_text import comparison_text
from clipmused_bids.stages.contenders import BASELINES, Contender, contenders
from clipmused_bids.stages.decoder_choice import left_out_by
from clipmused_bids.stages.permuting import exchange_scheme, permutation_tests
from clipmused_bids.stages.scoring import Scored, score_decoder, scores_by_participant
from clipmused_bids.stages.splitting import tested_people

logger = logging.getLogger(__name__)

MAIN_METRICS: tuple[Metric, ...] = ("mAP", "AUC", "Hamming")


@dataclass(frozen=True)
class Evaluation:
    """What all methods of one evaluation share.

    Parameters
    ----------
    job : Job
    catalogue : Catalogue
    split : Split
    metric : str
        The one that decides: top-1 where each trial has one label.
    metrics : tuple of str
        Those of the comparison.
    """

    job: Job
    catalogue: Catalogue
    split: Split
    metric: Metric
    metrics: tuple[Metric, ...]

    @property
    def tree(self) -> OutputTree:
        """Where everything lies."""
        return self.job.tree

    @property
    def n_permutations(self) -> int:
        """Of each method's test; 0: none."""
        return self.job.plan.hyperparameters.evaluation.permutations

    @property
    def seed(self) -> int:
        """Seed of all that is random."""
        return self.job.plan.config.random_seed


def evaluate(job: Job, *, ceilings: Mapping[str, float]) -> None:
    """Score what was trained; at group level beside baselines that are fitted to the same split.

    ``ceilings`` are the medians of the voxels' noise ceilings by participant, to stand beside the scores.

    Raises
    ------
    UsageError
        If nothing was held out.
    """
    if job.split is None or job.catalogue is None:
        raise UsageError(
            "--evaluate: there is no split, so nothing is held out.", hint="train first: group --train"
        )
    # Told by the decoder: an evaluation alone opens no picture.
    left_out = left_out_by(job.tree, model_label=job.plan.config.model_label)
    catalogue = job.catalogue.without(left_out)
    single_label = catalogue.stimuli.single_label
    work = Evaluation(
        job=replace(job, catalogue=catalogue),
        catalogue=catalogue,
        split=job.split,
        metric="top1" if single_label else "mAP",
        metrics=(*MAIN_METRICS, "top1") if single_label else MAIN_METRICS,
    )
    with each_of(contenders(job.plan.config), "Methods to score", "method") as methods:
        rivals = [_rival(work, one) for one in methods]
    rows = comparison_rows(
        rivals,
        metrics=work.metrics,
        best=best_linear(rivals, metric=work.metric),
        seed=work.seed,
        tests=permutation_tests(
            rivals, job.plan, metric=work.metric, n_permutations=work.n_permutations, seed=work.seed
        ),
    )
    if job.plan.config.level == "group":
        _write(work, rivals, rows, ceilings=ceilings)
    _say(work, rivals, rows, ceilings=ceilings)


def compare(
    ours: Scored, rivals: Sequence[Rival], *, metric: Metric, seed: int
) -> list[tuple[Interval, str]]:
    """Difference to the best linear baseline over people and over stimuli, each with its verdict; none to itself."""
    best = best_linear(rivals, metric=metric)
    if best is None or best.label == ours.label:
        return []
    found = difference(ours, best, metric=metric, seed=seed)
    return list(zip(found.intervals, found.verdicts, strict=True))


def _rival(work: Evaluation, contender: Contender) -> Rival:
    """Train what is missing, decode, and score one contender; or say why it cannot be."""
    methods = work.job.methods
    if contender.label not in methods.errors:
        with methods.of_method(contender.label, name=contender.name, main=contender.main):
            return _scored_rival(work, contender)
    return Rival(contender, None, str(methods.errors[contender.label].args[0]))


def _scored_rival(work: Evaluation, contender: Contender) -> Rival:
    job, actions = work.job, work.job.plan.config.actions
    # A deep rival is trained on request only; what has a closed form is fitted where it is missing.
    trained = contender.asked and "train" in actions
    if not (contender.main or contender.info.deep or trained):
        train_contender(job, contender)
    if "decode" not in actions or not contender.asked:
        decode_contender(job, contender)
    failures = job.failures_of(contender)
    plan = job.plan_for(contender)
    plan = replace(plan, participants=tested_people(plan, work.split))
    if not plan.participants:
        raise next(iter(failures.errors.values()))
    scored = score_decoder(
        plan, job.tree, work.catalogue, model_label=contender.label, method=contender.name,
        failures=failures,
    )  # fmt: skip
    lost = [f"sub-{p}: {str(error.args[0]).splitlines()[0]}" for p, error in failures.errors.items()]
    shared, own = _parameters(job.tree, contender.label)
    return Rival(contender, scored, "; ".join(lost), shared, own)


def _parameters(tree: OutputTree, label: str) -> tuple[int | None, dict[str, int]]:
    """Shared parameters, and those of each participant, as stored with the decoders of a label."""
    folder = tree.model_folder(label)
    shared: int | None = None
    own: dict[str, int] = {}
    for participant in decoders_in(folder):
        counts = read_config(folder, participant=participant)["parameters"]
        shared = int(counts["shared"])
        own |= {name: int(n) for name, n in counts["per_participant"].items()}
    return shared, own


def _write(
    work: Evaluation, rivals: Sequence[Rival], rows: Sequence[ComparisonRow], *, ceilings: Mapping[str, float]
) -> None:
    tree, label = work.tree, work.job.plan.config.model_label
    scored = [(one, one.scored) for one in rivals if one.scored is not None]
    for _, one in scored:
        write_scores(
            work, one, verdicts=compare(one, rivals, metric=work.metric, seed=work.seed), ceilings=ceilings,
        )  # fmt: skip
    write_comparison(
        tree, rows, model_label=label,
        sources=[source for _, one in scored for source in one.sources],
        details={
            "Regime": work.split.regime,
            "MainMetric": work.metric,
            "SplitRule": work.split.rule,
            "NumberOfFolds": len(fold_numbers(work.split)) or None,
            "RandomSeed": work.seed,
            "Permutations": work.n_permutations,
            "Exchanged": exchange_scheme(work.job.plan, rivals),
            "Calibrated": work.job.plan.hyperparameters.evaluation.calibrate,
            "Methods": {one.contender.name: one.contender.variant.description for one in rivals},
        },
    )  # fmt: skip
    write_labels(tree, label_rows(rivals), model_label=label)
    if fold_numbers(work.split):
        folds = [
            (rival.contender.name, one.label, fold, row)
            for rival, one in scored
            for fold, found in one.fold_rows.items()
            for row in found
        ]
        write_folds(tree, folds, model_label=label)
    work.job.watch.store(tree, model_label=label)


def _say(
    work: Evaluation, rivals: Sequence[Rival], rows: Sequence[ComparisonRow], *, ceilings: Mapping[str, float]
) -> None:
    """Print: the main decoder's participants, then all methods, then the verdicts on it."""
    ours = next((one.scored for one in rivals if one.contender.main), None)
    folds = len(fold_numbers(work.split))
    what = f"Scores of held-out trials (regime: {work.split.regime}{f'; mean of {folds} folds' if folds else ''})"
    if ours is not None:
        beside = {one.contender.name: one.scored for one in rivals if one.contender.name in BASELINES}
        others = {name: one for name, one in beside.items() if one is not None and one is not ours}
        table = participant_table(ours, others, ceilings=ceilings, main=work.metric)
        logger.info("%s:\n%s", what, table)
    if len(rivals) > 1:
        text = comparison_text(rows, work.job.watch, metrics=work.metrics, main=work.metric)
        logger.info("Methods on the same trials (mean over participants):%s", f"\n{text}")
    if ours is not None:
        for _, text in compare(ours, rivals, metric=work.metric, seed=work.seed):
            logger.info("%s %s.", ours.method, text)
    for line in leakage_lines(
        merged_fields([one.scored.leakage for one in rivals if one.scored is not None])
    ):
        logger.warning("%s", line) if line.startswith("LEAKAGE") else logger.info("%s", line)


def write_scores(
    work: Evaluation,
    scored: Scored,
    *,
    verdicts: Sequence[tuple[Interval, str]],
    ceilings: Mapping[str, float],
) -> None:
    """Write a decoder's scores of all participants."""
    summaries = over_participants(scores_by_participant(scored.rows, averaging="single trials"))
    write_group_metrics(
        work.tree,
        scored.rows,
        model_label=scored.label,
        sources=scored.sources,
        details={
            "Method": scored.method,
            "Regime": work.split.regime,
            "Participants": [f"sub-{p}" for p in scored.people],
            "Intervals": {one.metric: asdict(one.interval) for one in summaries},
            "Comparisons": [{"Interval": asdict(one), "Verdict": text} for one, text in verdicts],
            **({"NumberOfFolds": len(folds)} if (folds := fold_numbers(work.split)) else {}),
            "MedianVoxelNoiseCeiling": {f"sub-{p}": value for p, value in ceilings.items()},
            # Whose scores these are: a decoder may be trained again under the label.
            "DecoderWeights": weights_hashes(work.tree.model_folder(scored.label)),
            **scored.leakage,
        },
    )


def participant_table(
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
            cells += [shown(one.value), shown(one.floor)]
        cells += [shown(other.score_of(main, who).value) for other in baselines.values()]
        lines.append([*cells, shown(ceilings.get(who, math.nan))])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
