"""Scores in words: how far from the floor, verdicts, and what cannot be scored."""

from __future__ import annotations

import numpy as np
import pytest

from clipmused_bids.evaluation.comparison import Difference
from clipmused_bids.evaluation.inference import Interval
from clipmused_bids.evaluation.metrics import LabelScore
from clipmused_bids.records import Score
from clipmused_bids.report.blocks import Paragraph, Table
from clipmused_bids.report.scores import (
    MethodScores,
    ScoredPerson,
    difference_text,
    headline_text,
    label_table,
    mean_probabilities,
    methods_blocks,
    scores_blocks,
    unscorable_note,
    way_to_perfect,
)

NAN = float("nan")


def test_the_way_from_floor_to_perfect_counts_down_for_distances() -> None:
    assert way_to_perfect(Score("mAP", 0.6, 0.2, 3, 9)) == pytest.approx(0.5)
    assert way_to_perfect(Score("Hamming", 0.1, 0.4, 3, 9)) == pytest.approx(0.75)
    assert way_to_perfect(Score("AUC", 0.4, 0.5, 3, 9)) == pytest.approx(-0.2)
    assert np.isnan(way_to_perfect(Score("Hamming", 0.1, 0.0, 3, 9)))


def test_the_headline_has_the_floor_or_says_why_there_is_none() -> None:
    assert headline_text(Score("mAP", 0.6, 0.2, 3, 1)) == (
        "mAP 0.600, knowing nothing 0.200: 50 % of the way from the floor to a perfect score (1 trial, 3 labels)."
    )
    assert "no label has a positive and a negative" in headline_text(Score("mAP", NAN, NAN, 0, 9))


@pytest.mark.parametrize(
    ("metric", "low", "high", "words", "tone"),
    [
        ("mAP", 0.01, 0.05, "Beats the best", "good"),
        ("mAP", -0.05, -0.01, "Worse than the best", "warning"),
        ("mAP", -0.01, 0.05, "Undetermined", "note"),
        ("Hamming", 0.01, 0.05, "Worse than the best", "warning"),
        ("mAP", NAN, NAN, "no interval: 30 stimuli", "note"),
    ],
)
def test_a_difference_ends_in_a_verdict(metric: str, low: float, high: float, words: str, tone: str) -> None:
    people = Interval(0.02, NAN, NAN, 1)
    stimuli = Interval(0.02, low, high, 30, "other stimuli")
    found = Difference("ours", "ridge", "the best linear baseline", metric, (people, stimuli), NAN)
    text, found_tone = difference_text(found)
    assert words in text
    assert "ridge" in text
    assert found_tone == tone


def test_tables_hold_each_score_beside_its_floor_and_mark_the_main_one() -> None:
    single = (Score("mAP", 0.6, 0.2, 3, 8), Score("AUC", 0.9, 0.5, 3, 8))
    person = ScoredPerson("x", "mAP", "unseen stimuli", single, (Score("mAP", 0.7, 0.3, 3, 4),), 5)
    table, legend = scores_blocks(person)
    assert isinstance(table, Table)
    assert isinstance(legend, Paragraph)
    assert "AUC: mean area under" in legend.text
    assert [row[:3] for row in table.rows] == [
        ("mAP", "0.600", "0.200"),
        ("AUC", "0.900", "0.500"),
        ("mAP (repeats averaged)", "0.700", "0.300"),
    ]
    assert list(table.marked) == [0, 2]
    assert "5 folds" in table.caption


def test_methods_stand_best_first_and_failed_ones_below_with_the_reason() -> None:
    def one(name: str, value: float) -> MethodScores:
        return MethodScores(name, False, {"top1": Score("top1", value, 0.1, 3, 8)}, 0.02)

    failed = MethodScores("srm", True, note="srm: needs at least 2 participants")
    table, legend = methods_blocks([failed, one("a", 0.5), one("b", 0.7)], ours="a", main="top1")
    assert isinstance(table, Table)
    assert isinstance(legend, Paragraph)
    assert [row[0] for row in table.rows] == ["b", "a"]
    assert list(table.marked) == [1]
    assert "Without a score: srm: needs at least 2" in legend.text
    assert table.columns[1] == "top1 (floor 0.100)"


def test_labels_without_a_score_are_named() -> None:
    labels = [LabelScore("cat", 0.5, 0.2, 0.1, 0.6, 1, 10), LabelScore("dog", NAN, NAN, 0.0, NAN, 0, 10)]
    note = unscorable_note(labels)
    assert note is not None
    assert note.text.startswith("1 of 2 labels cannot be scored")
    assert "dog" in note.text
    assert unscorable_note(labels[:1]) is None
    (table,) = label_table(labels[::-1]).blocks
    assert [row[0] for row in table.rows] == ["cat", "dog"]  # type: ignore[union-attr]


def test_mean_probabilities_skip_what_a_decoder_does_not_know() -> None:
    table = mean_probabilities(("cat", "dog"), np.array([[0.2, 0.6], [0.4, np.nan]]))
    assert [tuple(row) for row in table.rows] == [("dog", "0.600", "0.600"), ("cat", "0.300", "0.400")]
