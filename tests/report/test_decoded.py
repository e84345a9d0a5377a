"""Ranking of stimuli against scikit-learn and against three stimuli worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score

from clipmused_bids.report.blocks import Gallery, Paragraph, Table
from clipmused_bids.report.decoded import (
    DecodedStimulus,
    chosen_stimuli,
    decoded_stimuli,
    stimulus_blocks,
    trial_precision,
)

NAMES = ("cat", "dog", "cow", "owl")
# Trials of a (twice), b and c; d has none of the labels.
IDS = ("a", "b", "a", "c", "d")
LABELS = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=float)
GUESS = np.array(
    [
        [0.9, 0.8, 0.1, 0.2],  # cat, dog first: 1
        [0.9, 0.5, 0.4, 0.1],  # cow third: 1/3
        [0.9, 0.1, 0.8, 0.7],  # cat first, dog fourth: (1/1 + 2/4)/2 = 3/4
        [0.6, 0.2, 0.1, 0.5],  # owl second: 1/2
        [0.1, 0.1, 0.1, 0.1],
    ]
)


def test_three_stimuli_worked_by_hand() -> None:
    found = decoded_stimuli(LABELS, GUESS, IDS, NAMES)
    assert [one.stimulus_id for one in found] == ["a", "c", "b"]
    assert [one.score for one in found] == pytest.approx([7 / 8, 1 / 2, 1 / 3])
    assert found[0].n_trials == 2
    assert found[0].true_labels == ("cat", "dog")
    assert found[0].predicted[0] == ("cat", pytest.approx(0.9))
    # Means over both trials: three of 0.45, in the order of the labels.
    assert [name for name, _ in found[0].predicted] == ["cat", "dog", "cow", "owl"]
    # One of four, at a random place: (1 + 1/2 + 1/3 + 1/4)/4.
    assert found[1].floor == pytest.approx(25 / 48)


def test_each_trial_is_scored_as_by_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 7)) < 0.3).astype(float)
    labels = labels[(labels.sum(axis=1) > 0) & (labels.sum(axis=1) < 7)]
    guess = rng.integers(0, 5, size=labels.shape) / 5
    expected = [
        label_ranking_average_precision_score(y[None], p[None]) for y, p in zip(labels, guess, strict=True)
    ]
    np.testing.assert_allclose(trial_precision(labels, guess), expected)


def test_entries_that_nobody_knows_are_no_part_of_the_ranking() -> None:
    labels, guess = np.array([[1.0, 0.0, np.nan, 0.0]]), np.array([[0.5, 0.1, 0.9, np.nan]])
    assert trial_precision(labels, guess) == pytest.approx(1.0)
    assert np.isnan(trial_precision(np.array([[1.0, 1.0]]), np.array([[0.5, 0.1]]))).all()


def stimuli(n: int) -> list[DecodedStimulus]:
    return [DecodedStimulus(f"s{k:02d}", ("cat",), (("cat", 0.5),), 1 - k / n, 0.5, 1) for k in range(n)]


def test_best_median_and_worst_do_not_overlap() -> None:
    groups = chosen_stimuli(stimuli(31))
    names = [[one.stimulus_id for one in group] for group in groups.values()]
    assert names[0] == [f"s{k:02d}" for k in range(6)]
    assert names[1] == [f"s{k:02d}" for k in range(12, 18)]
    assert names[2] == [f"s{k:02d}" for k in range(25, 31)]
    assert [len(group) for group in chosen_stimuli(stimuli(18)).values()] == [18]
    nineteen = [one.stimulus_id for group in chosen_stimuli(stimuli(19)).values() for one in group]
    assert len(set(nineteen)) == len(nineteen) == 18


def test_pictures_make_galleries_and_their_lack_a_table() -> None:
    ranked = decoded_stimuli(LABELS, GUESS, IDS, NAMES)
    (gallery,) = [one for one in stimulus_blocks(ranked, {"a": b"jpeg"}) if isinstance(one, Gallery)]
    assert [card.image for card in gallery.cards] == [b"jpeg", None, None]
    assert "shown: cat, dog" in gallery.cards[0].lines
    (table,) = [one for one in stimulus_blocks(ranked, {}, n_unranked=1) if isinstance(one, Table)]
    assert [row[0] for row in table.rows] == ["a", "c", "b"]
    assert "No pictures" in table.caption
    last = stimulus_blocks(ranked, {}, n_unranked=1)[-1]
    assert isinstance(last, Paragraph)
    assert last.text.startswith("1 scored stimulus")
