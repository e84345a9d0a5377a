"""What is read is what was written; what was not, is refused by name."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from clipmused_bids.dataset.outputs.comparison_files import (
    LabelRow,
    write_comparison,
    write_folds,
    write_labels,
    write_timing,
)
from clipmused_bids.dataset.outputs.comparison_reading import (
    FoldRow,
    read_comparison,
    read_folds,
    read_labels,
    read_timing,
)
from clipmused_bids.dataset.outputs.history_reading import read_history
from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.records import Score
from tests.report.comparisons import missing, rows_of


def same(one: object, other: object) -> None:
    """As asserting equality, where NaN equals NaN."""
    ours, theirs = asdict(one), asdict(other)  # type: ignore[call-overload]
    assert {k: v for k, v in ours.items() if v == v} == {k: v for k, v in theirs.items() if v == v}  # noqa: PLR0124
    assert [k for k, v in ours.items() if v != v] == [k for k, v in theirs.items() if v != v]  # noqa: PLR0124


def test_a_comparison_comes_back(tmp_path: Path) -> None:
    tree = OutputTree(tmp_path)
    rows = [
        *rows_of("clip-mused", [1 / 3, 0.1], p_value=0.01, parameters_shared=5, people_verdict="no", note="a note"),
        missing("srm", "srm: needs at least 2 participants; there is 1."),
    ]  # fmt: skip
    write_comparison(tree, rows, model_label="m", sources=[], details={})
    found = read_comparison(tree.group_table(model_label="m", kind="comparison"))
    assert len(found) == 4
    for one, other in zip(found, rows, strict=True):
        same(one, other)


def test_labels_folds_and_times_come_back(tmp_path: Path) -> None:
    tree = OutputTree(tmp_path)
    label = LabelRow("ridge", "m+ridge", "sub-01", "cat", math.nan, 0.2, 0.1, 0.5, 0, 7)
    write_labels(tree, [label], model_label="m")
    same(read_labels(tree.group_table(model_label="m", kind="labels"))[0], label)
    score = Score("mAP", 0.25, 0.1, 3, 9)
    write_folds(
        tree, [("ridge", "m+ridge", 2, MetricRow("01", "test", "single trials", score))], model_label="m"
    )
    (fold,) = read_folds(tree.group_table(model_label="m", kind="folds"))
    assert fold == FoldRow("ridge", "m+ridge", 2, "sub-01", "mAP", 0.25, 0.1, 3, 9)
    write_timing(tree, [("m", 1.5, math.nan)], model_label="m")
    (time,) = read_timing(tree.group_table(model_label="m", kind="timing"))
    assert (time.model_label, time.fit_seconds, math.isnan(time.decode_seconds)) == ("m", 1.5, True)


def test_a_broken_table_is_refused_by_column_and_row(tmp_path: Path) -> None:
    path = tmp_path / "timing.tsv"
    path.write_text("model_label\tfit_seconds\nm\t1\n")
    with pytest.raises(DataError, match="column decode_seconds is missing"):
        read_timing(path)
    path.write_text("model_label\tfit_seconds\tdecode_seconds\nm\t1\t2\nm\tx\t2\n")
    with pytest.raises(DataError, match="row 2: could not convert"):
        read_timing(path)


def test_a_history_says_which_epoch_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.tsv"
    assert read_history(path, {}) is None
    path.write_text("epoch\tloss\tkept\n0\tn/a\tfalse\n1\t0.5\ttrue\n2\t0.4\tfalse\n")
    found = read_history(path, {"stopped": "after 2 epochs"})
    assert found is not None
    assert (found.best_epoch, found.stopped, list(found.columns)) == (1, "after 2 epochs", ["epoch", "loss"])
    assert found.columns["loss"][1:] == (0.5, 0.4)
    path.write_text("epoch\tloss\n0\tx\n")
    with pytest.raises(DataError, match="could not convert"):
        read_history(path, {})
