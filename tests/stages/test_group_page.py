"""The group's page of output folders in every state that a run leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.dataset.files.documents import write_json, write_text
from clipmused_bids.dataset.outputs.comparison_files import (
    ComparisonRow,
    LabelRow,
    write_comparison,
    write_folds,
    write_labels,
    write_timing,
)
from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import Score
from clipmused_bids.report.page import render
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.reporting.pages import group_page
from clipmused_bids.stages.reporting.view import ReportView
from tests.report.comparisons import missing, rows_of
from tests.report.html import faults_of, read_page
from tests.stages.conftest import World, make_catalogue, make_run

CATALOGUE = make_catalogue({f"s{k}": [k % 2, k % 3 == 0] for k in range(6)})
VERSUS: dict[str, Any] = {
    "baseline": "ridge", "people_low": -0.1, "people_high": 0.3, "people_verdict": "undetermined",
    "stimuli_low": math.nan, "stimuli_high": math.nan, "stimuli_verdict": "undetermined", "people_p": 0.3,
    "people_p_holm": 0.6,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "method": "clip-mused", "variant": "clip-mused", "preset": "small", "random_seed": 3, "label_names": ["cat", "dog"],
    "split": {"rule": "runs", "regime": "unseen stimuli", "hash": "abcd"},
    "clip": {"model": "demo", "weights_sha256": "ef"}, "guidance": {"high": "text", "low": "off"},
    "leakage": {"near_duplicates": {"n_pairs": 2}}, "stopped": "after 2 epochs",
    "hyperparameters": {"training": {"choose_by": "map", "max_epochs": 2}}, "tasks": ["x"], "space": None,
}  # fmt: skip
HISTORY = "epoch\tloss\tval_map\tkept\n0\tn/a\t0.2\tfalse\n1\t0.5\t0.3\ttrue\n2\t0.4\t0.25\tfalse\n"


class Study:
    """An output folder of so many participants, in which files are laid by hand."""

    def __init__(self, world: World, people: Sequence[str]) -> None:
        self.tree = world.tree
        for participant in people:
            world.add(make_run(participant), ["s0", "s1"], np.zeros((2, 4)))
        self.plan = world.plan(model_label="m", method="clip-mused")

    def trained(
        self, label: str = "m", *, participant: str = "", history: str = HISTORY, **config: Any
    ) -> None:
        folder, start = self.tree.model_folder(label), f"{participant}_" if participant else ""
        write_json(folder / f"{start}config.json", {**CONFIG, **config})
        write_text(folder / f"{start}history.tsv", history)

    def evaluated(
        self, rows: Sequence[ComparisonRow], *, metric: str = "mAP", leakage: Sequence[str] = (), **more: Any
    ) -> None:
        details = {
            "Regime": "unseen stimuli", "MainMetric": metric, "SplitRule": "runs", "NumberOfFolds": None,
            "Permutations": 100, "Exchanged": "stimuli", "Methods": {}, **more,
        }  # fmt: skip
        write_comparison(self.tree, rows, model_label="m", sources=[], details=details)
        scores = {
            "Comparisons": [{"Interval": {"kind": "other stimuli", "n": 12}, "Verdict": ""}],
            "MedianVoxelNoiseCeiling": {"sub-01": 0.125},
            "Leakage": list(leakage),
        }
        write_json(self.tree.group_metrics(model_label="m").with_suffix(".json"), scores)
        labels = [
            LabelRow("clip-mused", "m", row.participant_id, label, value, 0.25, 0.1, 0.6, 1, 10)
            for row in rows
            if row.model_label == "m" and row.participant_id != "group"
            for label, value in (("cat", 0.5), ("dog", 0.75))
        ]
        write_labels(self.tree, labels, model_label="m")
        write_timing(self.tree, [("m", 12.5, 0.5)], model_label="m")

    def words(
        self, *, catalogue: Catalogue | None = CATALOGUE, errors: dict[str, ClipMusedError] | None = None
    ) -> str:
        """Everything that the page says."""
        html = render(group_page(ReportView(self.plan, self.tree, catalogue, None, errors or {})))
        assert faults_of(html) == []
        return " ".join(" ".join(read_page(html).text).split())


def both(ours: Sequence[float], theirs: Sequence[float], **group: Any) -> list[ComparisonRow]:
    difference = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    return [
        *rows_of("clip-mused", ours, difference=difference, **{**VERSUS, **group}),
        *rows_of("ridge", theirs, people_p=math.nan),
    ]


@pytest.fixture
def two(world: World) -> Study:
    return Study(world, ["01", "02"])


def test_nothing_trained(two: Study) -> None:
    words = two.words()
    assert (
        "Nothing was trained yet under the model label m: responses of 2 participants are prepared" in words
    )
    assert "Methods compared" not in words
    assert "2 participants; there are no scores to put side by side." in words


def test_trained_but_not_evaluated(two: Study) -> None:
    two.trained()
    words = two.words()
    assert "clip-mused was trained with 2 participants, but not evaluated: there are no scores" in words
    assert (
        "Training went on for 2 epochs and ended for this reason: after 2 epochs. The weights of epoch 1"
        in words
    )
    assert "Methods compared" not in words


def test_two_participants(two: Study) -> None:
    two.trained()
    two.evaluated(both([0.5, 0.7], [0.4, 0.6]))
    words = two.words()
    assert (
        "clip-mused scores highest of 2 methods: mAP 0.600 (floor 0.200); the next, ridge, the best linear"
        in words
    )
    assert "Intervals over people rest on so few" in words
    assert "12 test stimuli" in words
    assert "2 pairs of near-duplicates" in words
    assert "6 of 6 stimuli without picture" in words
    assert "2 participants: clip-mused mAP from 0.500 to 0.700. It is above ridge in 2 of 2." in words
    assert "2 of 2 labels above the floor" in words
    assert "group_desc-m_timing.tsv" in words
    # The catalogue of these tests is the simulator's.
    assert "Simulated data" in words
    assert "CLIP model demo" not in words


def test_every_number_of_the_table_is_on_the_page(two: Study) -> None:
    rows = [
        *both([0.512, 0.734], [0.421, 0.613], p_value=0.037, low=0.111, high=0.999),
        *rows_of("ss-vit", [0.333, 0.444], difference=-0.129, **VERSUS),
    ]
    two.evaluated(rows)
    words = two.words()
    for row in rows:
        assert f"{row.value:.3f}" in words
    assert "[0.111, 0.999]" in words
    assert "0.037" in words
    assert "-0.129" in words


def test_one_participant(world: World) -> None:
    study = Study(world, ["01"])
    study.trained()
    alone = {"people_low": math.nan, "people_high": math.nan}
    study.evaluated(
        [*both([0.5], [0.75], **alone), missing("srm", "srm: needs at least 2 participants; there is 1.")]
    )
    words = study.words()
    assert (
        "clip-mused is 0.250 below it, and one participant cannot tell whether that holds for others" in words
    )
    assert "no interval from 1 participant" in words
    assert "There is no interval over people" in words
    assert "Not compared: srm: needs at least 2 participants; there is 1." in words
    assert "One person gives no interval over people" in words
    assert "0.125" in words


def test_a_participant_that_failed(two: Study) -> None:
    two.trained()
    note = "sub-02: the image is broken"
    rows = both([0.5], [0.4], note=note)
    two.evaluated([rows[0], *rows[1:]])
    words = two.words(errors={"02": DataError("the image is broken")})
    assert "sub-02 failed: the image is broken" in words
    assert f"Lacking in clip-mused: {note}" in words
    assert "failed: the image is broken" in words.split("Participants", 2)[2]


def test_ours_failed(two: Study) -> None:
    two.evaluated([missing("clip-mused", "clip-mused: it diverged"), *rows_of("ridge", [0.5, 0.6])])
    words = two.words()
    assert "clip-mused has no score" in words
    assert "Not compared: clip-mused: it diverged" in words
    assert "No label could be scored" in words


def test_no_guidance_and_half_of_the_pictures(two: Study, tmp_path: Path) -> None:
    two.trained(guidance={"high": "off", "low": "off"})
    two.evaluated(both([0.5, 0.7], [0.4, 0.6]))
    half = make_catalogue(
        {f"s{k}": [1, 0] for k in range(4)}, paths={f"s{k}": tmp_path / f"{k}.png" for k in range(2)}
    )
    words = two.words(catalogue=half)
    assert "CLIP guided no level of this decoder" in words
    assert "2 of 4 stimuli without picture" in words
    assert "rests on the others" in words


def test_single_label_sets_are_told_by_top_1(two: Study) -> None:
    two.evaluated([*rows_of("clip-mused", [0.5, 0.7], metric="top1")], metric="top1")
    words = two.words(catalogue=None)
    assert "clip-mused scores highest: top-1 accuracy 0.600 (floor 0.200); nothing stands beside it." in words


def test_leaks_and_folds_are_said(two: Study) -> None:
    two.evaluated(both([0.5, 0.7], [0.4, 0.6]), leakage=["a stimulus is in two sets"], NumberOfFolds=2)
    scores = [("clip-mused", "m", fold, MetricRow(who, "test", "single trials", Score("mAP", value, 0.1, 2, 5)))
              for fold, who, value in ((1, "01", 0.2), (1, "02", 0.3), (2, "01", 0.5))]  # fmt: skip
    write_folds(two.tree, scores, model_label="m")
    words = two.words()
    assert "LEAKAGE, allowed by --allow-leakage: a stimulus is in two sets." in words
    assert "A single split" not in words
    assert "fold 1 fold 2 clip-mused 0.250 0.500" in words
    assert "means over 2 folds" in words


def test_ablations_are_paired_with_the_full_method(two: Study) -> None:
    idle = {"stopped": "after 2 epochs; no epoch was better than the start by a standard error"}
    two.trained(**idle)
    two.trained("m+clipmused+noperp", variant="clip-mused:no-perp", **idle)
    rows = both([0.5, 0.7], [0.4, 0.6])
    two.evaluated([*rows, *rows_of("clip-mused:no-perp", [0.4, 0.5], difference=-0.05, **VERSUS)])
    words = two.words()
    # Differences of 0.1 and 0.2: mean 0.15, t(0.975, 1) = 12.706 times 0.05.
    assert "clip-mused:no-perp 0.450 -0.150 [-0.785, +0.485] 2" in words.split("Ablations", 2)[2]
    assert "left as it started, and 1 of the variants were too" in words
    assert "1 variant of clip-mused" in words


def test_decoders_of_participants_and_closed_forms(two: Study) -> None:
    two.trained(participant="sub-01", method="ss-vit", variant="ss-vit")
    two.trained(participant="sub-02", method="ss-vit", variant="ss-vit")
    assert (
        "ss-vit (sub-01; one decoder for each of 2 participants): Training went on for 2 epochs"
        in two.words()
    )
    two.trained(
        participant="sub-01", method="ridge", variant="ridge", history="epoch\talpha\tkept\n1\t10.0\ttrue\n"
    )
    words = two.words()
    assert (
        "ridge: It is fitted in closed form: there is no training to show. Chosen on validation trials: alpha 10."
        in words
    )


def test_provenance_follows_the_files(two: Study) -> None:
    two.trained(hyperparameters={**CONFIG["hyperparameters"], "fit_on": "train"})
    words = two.words()
    write_text(two.tree.log_folder("a") / "config.toml", 'level = "group"\n')
    assert two.words() == words, "another run of the program is no other result"
    assert "fit_on train train+validation" in words
    assert "SHA-256 abcd" in words


def test_a_broken_table_is_said_and_the_rest_stands(two: Study) -> None:
    two.trained()
    two.evaluated(both([0.5, 0.7], [0.4, 0.6]))
    path = two.tree.group_table(model_label="m", kind="comparison")
    path.write_text(path.read_text().replace("0.6\t", "x\t", 1))
    words = two.words()
    assert "This summary could not be made" in words
    assert "This part could not be made" in words
    assert "SHA-256 abcd" in words


def test_pages_of_participants_are_linked_where_they_are(two: Study) -> None:
    write_text(two.tree.report("01"), "x")
    html = render(group_page(ReportView(two.plan, two.tree, CATALOGUE, None, {})))
    links = [one["href"] for one in read_page(html).all("a") if not one["href"].startswith("#")]
    assert links == ["sub-01.html"]
