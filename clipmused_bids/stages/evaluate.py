"""From predictions to scores, with floors and baselines, and the verdict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.dataset.metric_files import Averaging, MetricRow, write_group_metrics, write_run_metrics
from clipmused_bids.dataset.model_card import model_card
from clipmused_bids.dataset.outputs import OutputTree
from clipmused_bids.dataset.prediction_files import read_predictions
from clipmused_bids.dataset.weights import write_card
from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.inference import (
    Interval,
    over_participants,
    paired_difference,
    stimulus_difference,
    verdict,
)
from clipmused_bids.evaluation.metrics import average_repeats, best_thresholds, score
from clipmused_bids.records import BoolArray, FloatArray, Run, Score
from clipmused_bids.responses.reliability import noise_ceiling, noise_ceiling_snr
from clipmused_bids.stages.assemble import fit_standardization, open_responses, response_table, usable_voxels
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decode import decoder_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.train import row_sets, standardization_unit

logger = logging.getLogger(__name__)

BASELINES = ("ridge", "ridge-pooled", "prevalence")
LINEAR = ("ridge", "ridge-pooled")
MAIN_METRICS = ("mAP", "AUC", "Hamming")


@dataclass(frozen=True)
class Scored:
    """Predictions of one decoder for the scored trials of all participants, and their scores.

    Parameters
    ----------
    label, method : str
    label_names : tuple of str
    participant, stimulus_id : tuple of str, length n
    labels, probabilities : ndarray of shape (n, C)
    rows : tuple of MetricRow
        Per participant and for the group.
    sources : tuple of str
        BIDS URIs of the predictions.
    """

    label: str
    method: str
    label_names: tuple[str, ...]
    participant: tuple[str, ...]
    stimulus_id: tuple[str, ...]
    labels: FloatArray
    probabilities: FloatArray
    rows: tuple[MetricRow, ...]
    sources: tuple[str, ...]

    def value(self, metric: str, participant: str) -> Score | None:
        """One score of single trials; None where it was not computed."""
        found = (
            row.score
            for row in self.rows
            if row.participant == participant
            and row.averaging == "single trials"
            and row.score.metric == metric
        )
        return next(found, None)


def baseline_label(model_label: str, method: str) -> str:
    """Label of a baseline that was fitted beside a decoder on the same split."""
    return f"{model_label}+{method.replace('-', '')}"


def score_decoder(plan: Plan, tree: OutputTree, catalogue: Catalogue, *, model_label: str) -> Scored:
    """Score the test trials of a decoder, per participant, and write the scores of each run.

    Raises
    ------
    DataError
        If no prediction is of a test trial.
    """
    parts: list[dict[str, Any]] = []
    rows: list[MetricRow] = []
    for participant in plan.participants:
        found = [
            _scored_run(tree, catalogue, run, model_label=model_label) for run in plan.runs_of(participant)
        ]
        joined = _joined([one for one in found if one is not None], participant)
        rows += _rows_of(participant, joined, single_label=catalogue.stimuli.single_label)
        parts.append(joined)
    whole = {
        name: sum((part[name] for part in parts), ()) for name in ("participant", "stimulus_id", "sources")
    }
    rows += _group_rows(rows)
    return Scored(
        label=model_label,
        method=decoder_of(tree, plan.participants[0], model_label=model_label).config["method"],
        label_names=parts[0]["label_names"],
        labels=np.concatenate([part["labels"] for part in parts]),
        probabilities=np.concatenate([part["probabilities"] for part in parts]),
        rows=tuple(rows),
        **whole,
    )


def compare(
    ours: Scored, baselines: Mapping[str, Scored], *, metric: str, seed: int
) -> list[tuple[Interval, str]]:
    """Difference to the best linear baseline over people and over stimuli, each with its verdict."""
    linear = {name: one for name, one in baselines.items() if name in LINEAR}
    if not linear or ours.method in LINEAR or ours.method == "prevalence":
        return []
    best = max(linear, key=lambda name: _group_value(linear[name], metric))
    theirs = linear[best]
    people = sorted(set(ours.participant))
    over_people = paired_difference(
        {p: _value(ours, metric, p) for p in people}, {p: _value(theirs, metric, p) for p in people}
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


def voxel_ceilings(plan: Plan, tree: OutputTree, split: Any) -> dict[str, float]:
    """Median over voxels of the explainable variance of a single training response; {} without repeats.

    Only repeats of training stimuli are looked at.
    """
    ceilings: dict[str, float] = {}
    for participant in plan.participants:
        person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
        train = np.array([name == "train" for name in row_sets(person, plan, split)])
        voxels = usable_voxels([person], common_space=False)[0]
        scaling = fit_standardization(person, voxels, unit=standardization_unit(plan), train=train)
        chosen = np.flatnonzero(train)
        names = [person.stimulus_id[k] for k in chosen]
        if len(set(names)) == len(names):
            continue
        values = response_table(person, voxels, scaling).read(chosen)
        ceilings[participant] = float(np.median(noise_ceiling(noise_ceiling_snr(values, names))))
    return ceilings


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
    """Write the group's scores and the model card of one decoder."""
    write_group_metrics(
        tree,
        scored.rows,
        model_label=scored.label,
        sources=scored.sources,
        details={
            "Method": scored.method,
            "Regime": regime,
            "Participants": [f"sub-{p}" for p in plan.participants],
            "Intervals": {
                f"{row.metric}": asdict(row.interval)
                for row in over_participants(
                    {p: [r.score for r in scored.rows if r.participant == p and r.averaging == "single trials"]
                     for p in plan.participants}
                )
            },
            "Comparisons": [{"interval": asdict(one), "verdict": text} for one, text in verdicts],
            "MedianVoxelNoiseCeiling": {f"sub-{p}": value for p, value in ceilings.items()},
        },
    )  # fmt: skip
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
            "split": f"{config['split']['rule']}",
            "guidance": f"high level from {config['guidance']['high']}, low level {config['guidance']['low']}",
        },
        participants=plan.participants,
        label_names=scored.label_names,
        scores=scored.rows,
        regime=regime,
        baselines={name: one.rows for name, one in baselines.items()},
    )
    write_card(tree.model_folder(scored.label), text)


def comparison_table(
    ours: Scored, baselines: Mapping[str, Scored], *, ceilings: Mapping[str, float], single_label: bool
) -> str:
    """Text table: participants by metrics, with floors, baselines and the voxels' noise ceiling."""
    metrics = (*MAIN_METRICS, "top1") if single_label else MAIN_METRICS
    main = metrics[-1] if single_label else "mAP"
    header = [
        "participant",
        *metrics,
        *(f"floor {m}" for m in metrics),
        *(f"{name} {main}" for name in baselines),
    ]
    header.append("voxel ceiling")
    lines = [header]
    for who in [*sorted(set(ours.participant)), "group"]:
        scores = [ours.value(metric, who) for metric in metrics]
        cells = [who if who == "group" else f"sub-{who}"]
        cells += [_shown(None if one is None else one.value) for one in scores]
        cells += [_shown(None if one is None else one.floor) for one in scores]
        cells += [_shown(_value(other, main, who)) for other in baselines.values()]
        cells.append(_shown(ceilings.get(who)))
        lines.append(cells)
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _scored_run(
    tree: OutputTree, catalogue: Catalogue, run: Run, *, model_label: str
) -> dict[str, Any] | None:
    path = tree.predictions(run, model_label=model_label)
    if not path.exists():
        return None
    predictions, _ = read_predictions(path)
    names = predictions.label_names
    labels = catalogue.labels_of(predictions.stimulus_id, names=names)
    known = ~np.isnan(labels).all(axis=1)
    test = np.array([name == "test" for name in predictions.set_name]) & known
    validation = np.array([name == "val" for name in predictions.set_name]) & known
    one = {
        "label_names": names,
        "labels": labels,
        "probabilities": predictions.probabilities,
        "stimulus_id": np.array(predictions.stimulus_id, dtype=object),
        "test": test,
        "validation": validation,
        "sources": (tree.uri(path),),
    }
    if test.any():
        scores = score(labels[test], one["probabilities"][test], single_label=catalogue.stimuli.single_label)
        rows = [MetricRow(run.participant, "test", "single trials", each) for each in scores]
        write_run_metrics(tree, run, rows, model_label=model_label, sources=[tree.uri(path)], details={})
    return one


def _joined(runs: Sequence[Mapping[str, Any]], participant: str) -> dict[str, Any]:
    """The test trials of one participant over runs, with thresholds chosen on validation trials."""
    if not any(one["test"].any() for one in runs):
        raise DataError(
            f"sub-{participant}: no prediction is of a test trial.",
            hint="decode the runs that hold test trials; split.tsv names them",
        )
    held: BoolArray = np.concatenate([one["validation"] for one in runs])
    test: BoolArray = np.concatenate([one["test"] for one in runs])
    labels = np.concatenate([one["labels"] for one in runs])
    probabilities = np.concatenate([one["probabilities"] for one in runs])
    stimuli = np.concatenate([one["stimulus_id"] for one in runs])
    return {
        "label_names": runs[0]["label_names"],
        "labels": labels[test],
        "probabilities": probabilities[test],
        "stimulus_id": tuple(stimuli[test]),
        "participant": (participant,) * int(test.sum()),
        "thresholds": best_thresholds(labels[held], probabilities[held]) if held.any() else None,
        "sources": sum((one["sources"] for one in runs), ()),
    }


def _rows_of(participant: str, joined: Mapping[str, Any], *, single_label: bool) -> list[MetricRow]:
    labels, probabilities = joined["labels"], joined["probabilities"]
    rows = _metric_rows(
        participant, "single trials",
        score(labels, probabilities, single_label=single_label, thresholds=joined["thresholds"]),
    )  # fmt: skip
    repeats = average_repeats(probabilities, joined["stimulus_id"], joined["participant"])
    if len(repeats.trial) < len(labels):
        averaged = score(labels[repeats.trial], repeats.probabilities, single_label=single_label)
        rows += _metric_rows(participant, "repeats averaged", averaged)
    return rows


def _metric_rows(participant: str, averaging: Averaging, scores: Sequence[Score]) -> list[MetricRow]:
    return [MetricRow(participant, "test", averaging, each) for each in scores]


def _group_rows(rows: Sequence[MetricRow]) -> list[MetricRow]:
    group: list[MetricRow] = []
    averagings: tuple[Averaging, ...] = ("single trials", "repeats averaged")
    for averaging in averagings:
        scores: dict[str, list[Score]] = {}
        for row in rows:
            if row.averaging == averaging:
                scores.setdefault(row.participant, []).append(row.score)
        for summary in over_participants(scores):
            of_metric = [each for own in scores.values() for each in own if each.metric == summary.metric]
            mean = Score(
                metric=summary.metric,
                value=summary.interval.mean,
                floor=summary.floor,
                n_labels=min(each.n_labels for each in of_metric),
                n_trials=sum(each.n_trials for each in of_metric),
            )
            group.append(MetricRow("group", "test", averaging, mean))
    return group


def _value(scored: Scored, metric: str, participant: str) -> float:
    found = scored.value(metric, participant)
    return float("nan") if found is None else found.value


def _group_value(scored: Scored, metric: str) -> float:
    return _value(scored, metric, "group")


def _shown(value: float | None) -> str:
    return "n/a" if value is None or np.isnan(value) else f"{value:.3f}"
