"""Labels and participants over people, and provenance: against numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from clipmused_bids.dataset.outputs.comparison_files import LabelRow
from clipmused_bids.report.group_labels import label_figure, label_table, over_people
from clipmused_bids.report.participants import (
    MOST_ROWS,
    all_scores_table,
    people_figure,
    people_table,
    shown_methods,
)
from clipmused_bids.report.provenance import (
    changed_settings,
    decoder_rows,
    description_rows,
)
from clipmused_bids.report.standing import Standing, standing
from tests.report.comparisons import rows_of
from tests.report.test_figures import texts


def label_row(label: str, who: str, value: float, *, model_label: str = "m") -> LabelRow:
    return LabelRow("clip-mused", model_label, who, label, value, 0.1, 0.05, 0.6, 1, 10)


def test_labels_weigh_people_alike_and_leave_out_who_has_no_score() -> None:
    rows = [
        label_row("cat", "sub-01", 0.2),
        label_row("cat", "sub-02", 0.4),
        label_row("dog", "sub-01", 0.9),
        label_row("dog", "sub-02", math.nan),
        label_row("cow", "sub-01", math.nan),
        label_row("cat", "sub-01", 1.0, model_label="another"),
    ]
    found = over_people(rows, model_label="m")
    assert [(one.label, one.n_people) for one in found] == [("dog", 1), ("cat", 2), ("cow", 0)]
    cat = found[1]
    assert (cat.mean, cat.low, cat.high, cat.floor) == (pytest.approx(0.3), 0.2, 0.4, pytest.approx(0.1))
    figure = label_figure(found, method="clip-mused")
    assert "best dog 0.900 (floor 0.100), worst cat 0.300" in figure.alt
    assert "cow" not in texts(figure.image)
    assert label_table(found).rows[2] == ["cow", "n/a", "n/a", "n/a", "n/a", "n/a", "0"]


def test_of_many_labels_the_ends_are_drawn() -> None:
    found = over_people([label_row(f"c{k:02d}", "sub-01", k / 50) for k in range(50)], model_label="m")
    drawn = [text for text in texts(label_figure(found, method="x").image) if text.startswith("c")]
    assert drawn == [f"c{k:02d}" for k in (*range(49, 29, -1), *range(19, -1, -1))]
    assert "20 best and the 20 worst of 50" in label_figure(found, method="x").caption


def people(n: int) -> Standing:
    scores = [0.3 + 0.4 * k / n for k in range(n)]
    rows = [*rows_of("clip-mused", scores, baseline="ridge", difference=0.1), *rows_of("ridge", [0.2] * n)]
    found = standing(rows, metric="mAP", model_label="m")
    assert found is not None
    return found


def test_few_people_are_rows_and_many_are_points() -> None:
    few = texts(people_figure(people(3), {"sub-01": 0.1}).image)
    assert {"sub-01", "sub-03", "clip-mused", "ridge", "floor"} <= set(few)
    many = people_figure(people(MOST_ROWS + 1), {"sub-01": 0.1})
    assert "sub-01" not in texts(many.image)
    assert f"one of {MOST_ROWS + 1} participants" in many.caption
    assert f"mAP of {MOST_ROWS + 1} participant(s)" in many.alt
    # Points, not rows: the figure does not grow.
    assert (
        people_figure(people(300), {}).image.split(b"viewBox")[1][:30] == many.image.split(b"viewBox")[1][:30]
    )


def test_the_table_of_people_has_failures_and_ceilings() -> None:
    found = people(2)
    own = {one.participant_id: one for one in rows_of("clip-mused", [0.3, 0.5])[1:]}
    table = people_table(found, own, {"sub-02": 0.25}, {"sub-03": "failed: broken"})
    assert table.columns == [
        "participant",
        "clip-mused",
        "floor",
        "ridge",
        "p",
        "trials",
        "labels",
        "noise ceiling",
        "note",
    ]
    assert table.rows[1] == ["sub-02", "0.500", "0.200", "0.200", "n/a", "10", "2", "0.250", ""]
    assert table.rows[2] == ["sub-03", *["n/a"] * 7, "failed: broken"]
    assert all_scores_table(found).rows[0] == ["sub-01", "0.300", "0.200"]
    assert shown_methods(found) == ("clip-mused", "ridge")


def test_settings_are_compared_table_by_table() -> None:
    found = changed_settings(
        {"a": 1, "t": {"x": 1.5, "y": "z"}, "new": True}, {"a": 1, "t": {"x": 2.5, "y": "z"}}
    )
    assert found == [("t.x", "1.5", "2.5"), ("new", "true", "not set")]


def test_descriptions_and_decoders_become_rows() -> None:
    description: dict[str, Any] = {
        "Name": "outputs for X",
        "GeneratedBy": [
            {"Name": "clipmused-bids", "Version": "1", "Container": {"Type": "docker", "Tag": "x:1"}}
        ],
        "SourceDatasets": [{"URL": "bids:raw:"}, {"URL": "https://doi.org/10.1/x"}],
        "DatasetLinks": {"raw": "../../secret/place"},
    }
    rows = dict(description_rows(description))
    assert rows["container"] == "docker: x:1"
    assert rows["sources"] == "https://doi.org/10.1/x"
    assert "secret" not in str(rows)
    decoder = dict(
        decoder_rows({"method": "ridge", "random_seed": 0, "split": {"rule": "runs", "hash": "abc"}})
    )
    assert (decoder["method"], decoder["random seed"], decoder["CLIP"]) == ("ridge", "0", "none")
    assert "abc" in decoder["split"]
