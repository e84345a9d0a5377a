from __future__ import annotations

import math

from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.dataset.outputs.model_card import model_card
from clipmused_bids.records import Score


def card(*, scores: tuple[MetricRow, ...], leakage: tuple[str, ...] = ()) -> str:
    return model_card(
        label="clipmused",
        method="clip-mused",
        software="clipmused-bids 0.1",
        data={"Dataset": "Faces", "Trials": "1,200"},
        participants=("01", "02"),
        label_names=("cat", "dog"),
        scores=scores,
        regime="unseen stimuli",
        baselines={
            "ridge": (MetricRow("group", "test", "single trials", Score("mAP", 0.41234, 0.07, 2, 99)),)
        },
        leakage=leakage,
        limits=("No images: text guidance only.",),
    )


def test_every_section_is_there_in_order() -> None:
    text = card(scores=())
    places = [
        text.index(f"## {name}")
        for name in ("Data", "Participants", "Labels", "Scores", "Leakage", "Limits", "Privacy")
    ]
    assert places == sorted(places)
    assert "- Dataset: Faces\n- Trials: 1,200" in text
    assert "2 participants: sub-01, sub-02" in text
    assert "2 labels: cat, dog" in text
    assert "\n- No images: text guidance only." in text
    assert "consent" in text
    assert "Not evaluated yet" in text
    assert text.endswith("\n")


def test_leaks_are_listed_or_said_to_be_none() -> None:
    assert "## Leakage\n\nNone was found.\n\n## Limits" in card(scores=())
    assert "## Leakage\n\n- one\n- two\n\n## Limits" in card(scores=(), leakage=("one", "two"))


def test_scores_stand_beside_floors_and_baselines() -> None:
    rows = (
        MetricRow("01", "test", "single trials", Score("mAP", 0.5, 0.0714, 2, 99)),
        MetricRow("group", "test", "repeats averaged", Score("AUC", math.nan, 0.5, 0, 33)),
    )
    table = [line for line in card(scores=rows).splitlines() if line.startswith("|")]
    assert table[2:] == [
        "| clip-mused | sub-01 | test | single trials | mAP | 0.500 | 0.071 | 2 | 99 |",
        "| clip-mused | group | test | repeats averaged | AUC | n/a | 0.500 | 0 | 33 |",
        "| ridge | group | test | single trials | mAP | 0.412 | 0.070 | 2 | 99 |",
    ]
    assert len({line.count("|") for line in table}) == 1
    assert "Regime: unseen stimuli" in card(scores=rows)
