"""The command on real BOLD and real responses; figures to compare with stand in the data's own README."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.conftest import Command

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set"),
]


def top1(out: Path, label: str) -> pd.Series:
    metrics = pd.read_csv(out / f"group_desc-{label}_metrics.tsv", sep="\t")
    chosen = metrics[(metrics["metric"] == "top1") & (metrics["averaging"] == "single trials")]
    return chosen.set_index("participant_id")["value"]


def test_haxby_decodes_without_images(quick: Path, command: Command, tmp_path: Path) -> None:
    """Raw ``run-01`` and derivative ``run-1``; no images, so text guides the high level and nothing the low one."""
    done = command(
        Path(str(DATA)) / "haxby1", tmp_path, "group", "--split", "runs:12", "--clip-model", "demo",
        "--config-file", quick,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "high level from text; low level off" in done.stderr
    assert "knows simulated scenes only" in done.stderr
    assert top1(tmp_path, "clipmused+ridge")["sub-1"] >= 0.5  # chance 0.125, reference 0.69 over all runs
    table = pd.read_csv(tmp_path / "split.tsv", sep="\t")
    assert set(table[table["set"] == "test"]["run"]) == {"sub-1_task-objectviewing_run-12"}


def test_raider_trains_five_people_in_native_space(quick: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        Path(str(DATA)) / "raider5", tmp_path, "group", "--response", "betas", "--split", "runs:8",
        "--clip-model", "demo", "--config-file", quick,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "native space" in done.stderr
    assert len(list(tmp_path.glob("sub-*/func/*_desc-betas_responses.safetensors"))) == 40
    assert top1(tmp_path, "clipmused")["group"] > 0.3  # chance 0.143


def test_images_shown_in_blocks_are_not_divided_within_blocks(
    quick: Path, command: Command, tmp_path: Path
) -> None:
    """12 blocks of 16 images of one category, a second apart: split by image, neighbours would decode each other."""
    done = command(
        Path(str(DATA)) / "studyforrest", tmp_path, "group", "--train", "--method", "prevalence", "--config-file", quick
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unseen stimuli" not in done.stderr
    split = pd.read_csv(tmp_path / "split.tsv", sep="\t")
    assert set(split["rule"]) == {"tail"}
    assert "0 missing" not in done.stderr, "its images are not there, and none is invented"


def test_haxby_leaves_one_run_out(command: Command, tmp_path: Path) -> None:
    """The reference in the data's README: 0.69 over 12 runs, chance 0.125."""
    done = command(
        Path(str(DATA)) / "haxby1", tmp_path, "group", "--cv", "runs", "--method", "ridge,logistic"
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "group_desc-ridge_comparison.tsv", sep="\t", na_values="n/a")
    rows = table[(table["participant_id"] == "group") & (table["metric"] == "top1")].set_index("method")
    assert set(rows.index) == {"ridge", "logistic", "ridge-pooled", "ridge-stack", "prevalence"}
    assert rows.loc["ridge", "n_trials"] == 96
    assert (rows.loc[["ridge", "logistic"], "value"] >= 0.6).all()
    assert (rows.loc[["ridge", "logistic"], "p_value"] <= 0.01).all()
    assert rows.loc["prevalence", "value"] == pytest.approx(0.125)
    folds = pd.read_csv(tmp_path / "group_desc-ridge_folds.tsv", sep="\t", na_values="n/a")
    assert sorted(folds["fold"].unique()) == list(range(1, 13))
