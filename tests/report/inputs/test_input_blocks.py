"""What the page says of runs, sets, exclusions and stimuli: words and numbers against counts by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from clipmused_bids.report.blocks import Details, Figure, Paragraph, Table
from clipmused_bids.report.inputs.runs import RunFacts, displacement_of, motion_blocks, run_blocks
from clipmused_bids.report.inputs.stimuli import (
    LabelFacts,
    StimulusFacts,
    chosen_stimuli,
    gallery_blocks,
    label_blocks,
    stimulus_blocks,
)
from clipmused_bids.report.inputs.trials import Exclusion, SetFacts, exclusion_blocks, set_blocks


def run(number, *, displacement=None, n_dropped=1):
    return RunFacts(
        "", "x", str(number), 200 + number, 0, 2.0, 40, n_dropped, "lss", "6: 6 motion", displacement
    )


def stimuli(labels, *, shown=None, pictured=(), movies=0):
    names = [f"s{k}" for k in range(len(labels))]
    columns = tuple(f"label{k}" for k in range(np.shape(labels)[1]))
    times = dict.fromkeys(names, 1) if shown is None else dict(zip(names, shown, strict=True))
    return StimulusFacts(times, frozenset(pictured), columns, np.array(labels, dtype=float), movies)


def test_displacement_counts_known_volumes_only():
    found = displacement_of(np.array([np.nan, 0.1, 0.2, 0.3, 0.6, 0.5]))

    assert found.n_volumes == 5
    assert found.median == pytest.approx(0.3)
    assert found.above == pytest.approx(0.2), "0.5 is not above 0.5"
    assert found.high == pytest.approx(0.58), "four fifths of the way from 0.5 to 0.6"
    assert displacement_of(np.full(4, np.nan)) is None


def test_many_runs_are_folded_below_a_line_that_sums_them_up():
    (table,) = run_blocks([run(k) for k in range(1, 13)])
    (folded,) = run_blocks([run(k) for k in range(1, 14)])

    assert isinstance(table, Table)
    assert "session" not in table.columns
    assert table.rows[2] == ["x", "3", "203", "2", "40", "1", "lss", "6: 6 motion"]
    assert isinstance(folded, Details)
    assert folded.summary == (
        "All 13 runs: 201 to 213 volumes, 40 trials each, TR 2 s, 13 trials left out in all"
    )


def test_a_run_without_responses_says_so():
    (table,) = run_blocks([run(1, n_dropped=None)])

    assert table.rows[0][-3:] == ["–", "none stored", "6: 6 motion"]


def test_motion_is_weighed_by_volumes_and_tells_which_runs_lack_it():
    short, long = np.array([1.0, 0.0]), np.array([0.1] * 7 + [0.9])
    known = [displacement_of(short), displacement_of(long)]

    words, strip = motion_blocks([run(1, displacement=known[0]), run(2, displacement=known[1]), run(3)])

    assert "20.0\u00a0% of 10 volumes are above 0.5 mm" in words.text
    assert "1 run has none" in words.text
    assert isinstance(strip, Figure)
    (none,) = motion_blocks([run(1), run(2)])
    assert none.text.startswith("Motion: not known.")


def test_sets_have_their_rule_and_regime():
    sets = [SetFacts("train", 60, 30, 3), SetFacts("test", 20, 10, 1)]

    words, table = set_blocks(sets, rule="runs", regime="unseen stimuli", folds=False)

    assert words.text.endswith("rule “runs”. A score of the test trials speaks about unseen stimuli.")
    assert [row[1:3] for row in table.rows] == [["60", "75\u00a0%"], ["20", "25\u00a0%"]]
    *_, warning = set_blocks(sets[:1], rule="runs", regime="", folds=False)
    assert "no test trials" in warning.text


def test_what_was_left_out_is_told_or_that_nothing_was():
    (nothing,) = exclusion_blocks([], n_rows=96)
    (table,) = exclusion_blocks([Exclusion("trials", 3, "beyond the run", "not scored")], n_rows=96)

    assert nothing.text == "Nothing was left out. Each of 96 rows of the events belongs to a trial."
    assert list(table.rows[0]) == ["3", "trials", "beyond the run", "not scored"]


@pytest.mark.parametrize(
    ("pictured", "words", "tone"),
    [
        ((), "There are no pictures of them", "plain"),
        (("s0",), "1 of 3 pictures were found, 2 are missing (67\u00a0%).", "warning"),
        (("s0", "s1", "s2"), "All pictures were found.", "plain"),
    ],
)
def test_pictures_found_and_missing(pictured, words, tone):
    block = stimulus_blocks(stimuli([[1], [0], [1]], pictured=pictured))[0]

    assert words in block.text
    assert block.tone == tone


def test_repeats_are_counted():
    words, histogram = stimulus_blocks(stimuli([[1]] * 4, shown=[1, 1, 3, 2]))

    assert words.text.startswith(
        "4 stimuli were shown in 7 trials; 2 of them more than once (at most 3 times)."
    )
    assert "2 shown once, 1 shown 2 times, 1 shown 3 times" in histogram.alt
    assert len(stimulus_blocks(stimuli([[1]] * 4, shown=[2] * 4))) == 1, "no histogram of one bar"


def test_stimuli_to_show_are_spread_over_labels_whatever_their_order():
    rng = np.random.default_rng(5)
    labels = np.eye(6)[np.concatenate([np.zeros(90, int), np.arange(1, 6).repeat(2)])]
    facts = stimuli(labels, pictured=[f"s{k}" for k in range(100)])
    order = rng.permutation(100)
    names = list(facts.shown)
    other = StimulusFacts(
        {names[k]: 1 for k in order}, facts.pictured, facts.label_names, labels[order], movies=0
    )

    chosen = chosen_stimuli(facts)

    assert len(set(chosen)) == 12
    assert Counter(facts.labels_of(name)[0] for name in chosen) == {f"label{k}": 2 for k in range(6)}
    assert chosen == chosen_stimuli(other)


def test_stimuli_with_a_picture_come_first_and_all_are_shown_where_there_are_few():
    facts = stimuli([[1]] * 20, pictured=[f"s{k}" for k in range(0, 20, 2)])

    chosen = chosen_stimuli(facts, n=10)

    assert set(chosen) == facts.pictured
    assert sorted(chosen_stimuli(stimuli([[0]] * 3))) == ["s0", "s1", "s2"], "none has the label"


def test_cards_say_labels_and_repeats():
    facts = stimuli([[1, 1], [0, 0]], shown=[1, 4], pictured=["s0"])

    (gallery,) = gallery_blocks(facts, {"s0": b"x", "s1": None})

    assert gallery.caption.startswith("2 of 2 stimuli")
    assert [card.lines for card in gallery.cards] == [
        ("label0, label1", "shown once"),
        ("no label", "shown 4 times"),
    ]
    assert [card.image for card in gallery.cards] == [b"x", None]


def test_labels_are_sorted_and_those_without_test_trials_named():
    labels = [LabelFacts("a", 3, (5, 10), (0, 4)), LabelFacts("b", 2, (8, 10), (1, 4))]

    table, note = label_blocks(labels, single=False)

    assert [list(row) for row in table.rows] == [
        ["b", "2", "8", "80\u00a0%", "1", "25\u00a0%"],
        ["a", "3", "5", "50\u00a0%", "0", "0\u00a0%"],
    ]
    assert note.text.startswith("No test trial has a:")
    single = label_blocks(labels[:1], single=True)[-1]
    assert isinstance(single, Paragraph)
    assert "a single label" in single.text
    many = label_blocks([LabelFacts(f"l{k}", 1, (1, 4), (1, 4)) for k in range(21)], single=False)
    assert isinstance(many[0], Details)
