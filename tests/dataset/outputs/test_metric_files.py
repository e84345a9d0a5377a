from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from clipmused_bids.dataset.outputs.metric_files import (
    MetricRow,
    read_metrics,
    write_group_metrics,
    write_run_metrics,
)
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.records import Run, Score

ROWS = (
    MetricRow("01", "test", "single trials", Score("mAP", 0.5, 0.071, 8, 100)),
    MetricRow("01", "test", "repeats averaged", Score("mAP", 0.625, 0.1, 8, 20)),
    MetricRow("group", "test", "single trials", Score("AUC", math.nan, 0.5, 0, 100)),
)


def test_group_scores_come_back(tmp_path: Path) -> None:
    path = write_group_metrics(
        OutputTree(tmp_path),
        ROWS,
        model_label="m",
        sources=["bids::p"],
        details={"Regime": "r", "Gap": math.nan},
    )
    assert path.read_text() == (
        "participant_id\tset\taveraging\tmetric\tvalue\tfloor\tn_labels\tn_trials\n"
        "sub-01\ttest\tsingle trials\tmAP\t0.5\t0.071\t8\t100\n"
        "sub-01\ttest\trepeats averaged\tmAP\t0.625\t0.1\t8\t20\n"
        "group\ttest\tsingle trials\tAUC\tn/a\t0.5\t0\t100\n"
    )
    found = read_metrics(path)
    assert found[:2] == ROWS[:2]
    assert math.isnan(found[2].score.value)
    assert found[2].participant == "group"
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert (sidecar["Sources"], sidecar["Regime"], sidecar["Gap"]) == (["bids::p"], "r", None)
    assert all(sidecar[name]["Description"] for name in path.read_text().splitlines()[0].split("\t"))


def test_scores_of_a_run(tmp_path: Path) -> None:
    run = Run(
        "01", "b", "x", 1, {"sub": "01", "ses": "b", "task": "x"}, events=None, image=None, image_kind="bold"
    )
    path = write_run_metrics(OutputTree(tmp_path), run, ROWS[:1], model_label="m", sources=[], details={})
    assert path == tmp_path / "sub-01" / "ses-b" / "func" / "sub-01_ses-b_task-x_desc-m_metrics.tsv"
    assert read_metrics(path) == ROWS[:1]
    assert "ses-b" in json.loads(path.with_suffix(".json").read_text())["Description"]


def test_refusals(tmp_path: Path) -> None:
    path = write_group_metrics(OutputTree(tmp_path), ROWS, model_label="m", sources=[], details={})
    text = path.read_text()
    path.write_text(text.replace("floor", "ground"))
    with pytest.raises(DataError, match="column floor is missing"):
        read_metrics(path)
    path.write_text(text.replace("0.625", "high"))
    with pytest.raises(DataError, match="sub-01 mAP"):
        read_metrics(path)
