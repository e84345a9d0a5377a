"""What a participant's page says of his scores, in every state that an output folder can be in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.dataset.outputs.comparison_reading import read_comparison, read_labels
from clipmused_bids.dataset.outputs.metric_files import (
    read_metrics,
)
from clipmused_bids.evaluation.cross_validation import make_folds
from clipmused_bids.report.blocks import Figure
from clipmused_bids.stages.carry_out import Job, decode_contender, train_contender
from clipmused_bids.stages.contenders import asked_for
from clipmused_bids.stages.evaluate import evaluate
from clipmused_bids.stages.failures import Failures, MethodFailures
from clipmused_bids.stages.reporting.pages import participant_page
from clipmused_bids.stages.reporting.score_files import decoded_person
from clipmused_bids.stages.reporting.score_summary import participant_summary
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.splitting import design_of
from tests.stages.conftest import World, make_catalogue, make_run
from tests.stages.reporting.page_parts import flat, made, said, tables

NAMES = ("cat", "dog", "cow")
STIMULI = [f"s{k:02d}" for k in range(50)]
LABELS = {name: [float(k % 2 == 0), float(k % 3 == 0), float(k % 5 == 0)] for k, name in enumerate(STIMULI)}
SETS = {name: ("train", "train", "train", "test", "test")[k // 10] for k, name in enumerate(STIMULI)}
TABLES = {"fit_on": "train", "evaluation": {"permutations": 0}, "linear": {"alphas": [1.0, 10.0]}}


@dataclass(frozen=True)
class Study:
    """A world that was evaluated."""

    view: ReportView
    world: World


def evaluated(
    folder: Path, people: Sequence[str], *, level: str = "group", method: str = "ridge", folds: bool = False
) -> Study:
    """Ridge regression, with the baselines of a group, on labels that shift voxels; test stimuli are shown twice."""
    world, rng = World(folder), np.random.default_rng(3)
    truth = np.array(list(LABELS.values()))
    weights = rng.normal(size=(3, 10))
    for participant in people:
        for number in (1, 2, 3) if folds else (1, 2):
            world.add(make_run(participant, number), STIMULI, truth @ weights + 3 * rng.normal(size=(50, 10)))
    plan = world.plan(hyperparameters=TABLES, method=method, model_label="m")
    catalogue = make_catalogue(LABELS, names=NAMES)
    split = (
        make_folds(design_of(plan, catalogue, "auto"), rule="runs", seed=0) if folds else world.split(SETS)
    )
    actions: Any = ("train", "decode", "evaluate")
    config = replace(plan.config, actions=actions, level=level)  # type: ignore[arg-type]
    plan = replace(plan, config=config)
    job = Job(plan, world.tree, catalogue, split, None, "cpu", Failures(), MethodFailures(alone=True))
    for one in asked_for(plan.config):
        train_contender(job, one)
        decode_contender(job, one)
    evaluate(job, ceilings={})
    return Study(ReportView(plan, world.tree, catalogue, split, {}), world)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return evaluated(tmp_path_factory.mktemp("study"), ("01", "02"))


def test_numbers_of_the_page_are_those_of_the_tables(study: Study) -> None:
    section = made(study.view, "02")
    scores, methods, labels = tables(section)[:3]
    stored = [
        row
        for row in read_metrics(study.world.tree.group_metrics(model_label="m"))
        if row.participant == "02"
    ]
    assert {row.averaging for row in stored} == {"single trials", "repeats averaged"}
    suffix = {"single trials": "", "repeats averaged": " (repeats averaged)"}
    assert [tuple(row[:3]) for row in scores.rows] == [
        (row.score.metric + suffix[row.averaging], f"{row.score.value:.3f}", f"{row.score.floor:.3f}")
        for row in stored
    ]
    beside = read_comparison(study.world.tree.group_table(model_label="m", kind="comparison"))
    maps = {
        row.method: f"{row.value:.3f}"
        for row in beside
        if (row.participant_id, row.metric) == ("sub-02", "mAP")
    }
    assert {row[0].removesuffix(" (linear)"): row[1] for row in methods.rows} == maps
    assert set(maps) == {"ridge", "ridge-pooled", "ridge-stack", "prevalence"}
    own = {
        row.label: (
            f"{row.average_precision:.3f}",
            f"{row.floor:.3f}",
            f"{row.prevalence:.3f}",
            f"{row.auc:.3f}",
        )
        for row in read_labels(study.world.tree.group_table(model_label="m", kind="labels"))
        if (row.participant_id, row.model_label) == ("sub-02", "m")
    }
    assert {row[0]: tuple(row[1:5]) for row in labels.rows} == own


def test_the_difference_is_to_the_linear_method_that_does_best_with_this_participant(study: Study) -> None:
    beside = read_comparison(study.world.tree.group_table(model_label="m", kind="comparison"))
    for participant in ("01", "02"):
        mine = {
            row.method: row.value
            for row in beside
            if (row.participant_id, row.metric) == (f"sub-{participant}", "mAP")
            and row.method != "prevalence"
        }
        best = max(mine, key=lambda name: mine[name])
        one = decoded_person(study.view, participant)
        assert one is not None
        if best == "ridge":
            assert one.found is None
            assert "itself the best linear" in one.no_difference
        else:
            assert one.found is not None
            assert one.found.rival == best
            interval = one.found.intervals[1]
            assert interval.mean == pytest.approx(mine["ridge"] - mine[best])
            assert (interval.n, interval.low < interval.mean < interval.high) == (20, True)


def test_of_a_single_participant_the_interval_is_that_of_the_comparison(tmp_path: Path) -> None:
    alone = evaluated(tmp_path, ("01",), method="prevalence")
    (row,) = [
        row
        for row in read_comparison(alone.world.tree.group_table(model_label="m", kind="comparison"))
        if (row.method, row.participant_id, row.metric) == ("prevalence", "group", "mAP")
    ]
    one = decoded_person(alone.view, "01")
    assert one is not None
    assert one.found is not None
    assert one.found.rival == row.baseline
    assert (one.found.intervals[1].low, one.found.intervals[1].high) == (row.stimuli_low, row.stimuli_high)


def test_figures_of_the_page_are_the_files(study: Study) -> None:
    section = made(study.view)
    shown = {block.image for block in flat(section.blocks) if isinstance(block, Figure)}
    files = {path.name: path.read_bytes() for path in study.world.tree.figures("01").iterdir()}
    assert set(files) == {
        f"sub-01_desc-m_{name}.svg" for name in ("labels", "precisionrecall", "calibration")
    }
    assert shown == set(files.values())


def test_the_first_screen_says_how_many_how_well_and_against_what(study: Study) -> None:
    text = said(participant_summary(study.view, "01"))
    (score,) = [
        row.score
        for row in read_metrics(study.world.tree.group_metrics(model_label="m"))
        if (row.participant, row.averaging, row.score.metric) == ("01", "single trials", "mAP")
    ]
    assert "100 trials of 50 stimuli were decoded by ridge" in text
    assert "40 held-out trials of 20 stimuli (unseen stimuli)" in text
    assert f"mAP {score.value:.3f}, knowing nothing {score.floor:.3f}" in text
    assert "best linear" in text
    assert "Only 40 trials of 20 stimuli were scored" in text
    page = participant_page(study.view, "01")
    assert [link.href for link in page.links] == ["group.html"]


def test_after_a_cross_validation_scores_are_means_of_folds(tmp_path: Path) -> None:
    folded = evaluated(tmp_path, ("01",), folds=True)
    section = made(folded.view)
    assert "3 folds" in tables(section)[0].caption
    stored = read_metrics(folded.world.tree.group_metrics(model_label="m"))
    (value,) = [f"{r.score.value:.3f}" for r in stored if (r.participant, r.score.metric) == ("01", "mAP")]
    assert tables(section)[0].rows[0][1] == value
    curves = next(
        b for b in section.blocks if isinstance(b, Figure) and "Precision against recall" in b.caption
    )
    assert "A thin line is one fold" in curves.caption
    assert "not those of the predictions" not in said(section.blocks)


def test_one_participant_alone_is_scored_without_a_comparison(tmp_path: Path) -> None:
    alone = evaluated(tmp_path, ("01",), level="participant")
    assert not alone.world.tree.group_metrics(model_label="m").exists()
    section = made(alone.view)
    # The same trials, decoder and seed as a group of one, whose scores are stored.
    group = evaluated(tmp_path / "group", ("01",))
    stored = read_metrics(group.world.tree.group_metrics(model_label="m"))
    single = [
        f"{r.score.value:.3f}" for r in stored if (r.participant, r.averaging) == ("01", "single trials")
    ]
    assert [row[1] for row in tables(section)[0].rows] == single
    text = said(section.blocks)
    assert "No baselines were scored" in text
    assert "averaged over repeats are stored by the evaluation of the group" in text


def test_scores_of_other_predictions_are_named(tmp_path: Path) -> None:
    old = evaluated(tmp_path, ("01",))
    path = old.world.tree.predictions(make_run("01", 2), model_label="m")
    side = json.loads(path.with_suffix(".json").read_text("utf-8"))
    side.pop("TableHash")
    path.with_suffix(".json").write_text(json.dumps(side), "utf-8")
    lines = path.read_text("utf-8").splitlines()
    path.write_text(
        "\n".join([lines[0], *(line.rpartition("\t")[0] + "\t0.5" for line in lines[1:])]) + "\n", "utf-8"
    )
    assert "not those of the predictions" in said(made(old.view).blocks)
