from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.errors import DataError, SelectionError, UsageError
from clipmused_bids.evaluation.leakage import audit
from clipmused_bids.evaluation.splits import assign, count_sets, make_split


def sets_of(design, split):
    return np.array(assign(split, design.run_key, design.stimulus_id).set_name)


def stimuli_in(design, split, name, *, sets=None):
    sets = sets_of(design, split) if sets is None else sets
    return {s for s, where in zip(design.stimulus_id, sets, strict=True) if where == name}


def check_audit(design, split, *, sets=None):
    return audit(
        set_name=sets_of(design, split) if sets is None else sets,
        run_key=design.run_key,
        participant=design.participant,
        stimulus_id=design.stimulus_id,
        onset=design.onset,
        regime=split.regime,
        design="continuous" if design.continuous else "events",
        labels=design.labels,
        content=design.content,
    )


@pytest.mark.parametrize(
    ("dataset", "rule", "prefix", "n_test"),
    [
        ("nsd", "repeats", "shared", 1000),
        ("things", "repeats", "test", 100),
        ("god", "repeats", "test", 50),
        ("bold5000", "repeats", "again", 113),
        ("nod", "repeats", "coco", 120),
    ],
)
def test_public_datasets_get_the_test_set_their_authors_meant(designs, dataset, rule, prefix, n_test):
    design = getattr(designs, dataset)()
    split = make_split(design, seed=0)
    sets = sets_of(design, split)
    test = stimuli_in(design, split, "test", sets=sets)
    assert split.rule == rule
    assert split.regime == "unseen stimuli"
    assert len(test) == n_test
    assert all(name.startswith(prefix) for name in test)
    # A tenth of what remains validates, by whole stimuli, for every participant that trains.
    val = stimuli_in(design, split, "val", sets=sets)
    train = stimuli_in(design, split, "train", sets=sets)
    assert not val & train
    assert 0.07 < len(val) / len(val | train) < 0.13
    people = np.array(design.participant)
    assert set(people[sets == "val"]) == set(people[sets == "train"])
    assert check_audit(design, split, sets=sets).leaks == ()


def test_one_participant_goes_by_stimulus(designs):
    design = designs.skeleton([designs.images("a", 500, 3)])
    split = make_split(design, seed=0)
    assert split.rule == "stimuli"
    assert split.regime == "unseen stimuli"
    assert abs(len(stimuli_in(design, split, "test")) - 50) <= 5
    assert abs(len(stimuli_in(design, split, "val")) - 50) <= 5


def test_all_stimuli_shared_goes_by_stimulus(designs):
    design = designs.skeleton([designs.images("a", 300, 2)] * 4)
    assert make_split(design, seed=0).rule == "stimuli"


def test_unique_stimuli_give_every_participant_test_and_validation_trials(designs):
    design = designs.skeleton([designs.images(f"p{p}x", 60) for p in range(5)])
    split = make_split(design, seed=0)
    counts = Counter(zip(design.participant, sets_of(design, split).tolist(), strict=True))
    assert split.rule == "stimuli"
    for p in set(design.participant):
        assert 5 <= counts[p, "test"] <= 7
        assert 5 <= counts[p, "val"] <= 7


def test_stimuli_seen_by_several_participants_test(designs):
    shown = [designs.images(f"p{p}x", 100) + designs.images("both", 30) for p in range(3)]
    design = designs.skeleton(shown)
    # The modal number of presentations is 1 and 30 of 330 stimuli are shown 3 times: rule 4 takes them first.
    assert make_split(design, seed=0).rule == "repeats"
    pair = designs.skeleton(shown[:2])
    split = make_split(pair, seed=0)
    assert split.rule == "shared"
    assert stimuli_in(pair, split, "test") == {f"both{k:05d}" for k in range(30)}


@pytest.mark.parametrize(
    ("n_often", "rule"), [(19, "stimuli"), (20, "repeats"), (60, "repeats"), (61, "stimuli")]
)
def test_repeated_stimuli_must_be_twenty_and_at_most_thirty_percent(designs, n_often, rule):
    shown = designs.images("once", 200 - n_often) + designs.images("often", n_often, 3)
    assert make_split(designs.skeleton([shown]), seed=0).rule == rule


def test_twice_the_usual_number_is_not_more_than_twice(designs):
    shown = designs.images("once", 160) + designs.images("twice", 40, 2)
    assert make_split(designs.skeleton([shown]), seed=0).rule == "stimuli"


def test_haxby_goes_by_run_for_all_participants(designs):
    design = designs.haxby()
    split = make_split(design, seed=0)
    run = np.array(design.run)
    sets = sets_of(design, split)
    assert split.rule == "runs"
    assert split.regime == "unseen trials of seen stimuli"
    assert set(run[sets == "test"]) == {12}
    assert set(run[sets == "val"]) == {11}
    assert set(run[sets == "train"]) == set(range(1, 11))
    assert "run 12" in next(r for r, s in zip(split.reason, split.set_name, strict=True) if s == "test")


@pytest.mark.parametrize(("n_stimuli", "rule"), [(100, "runs"), (101, "stimuli")])
def test_few_stimuli_go_by_run(designs, n_stimuli, rule):
    design = designs.skeleton([designs.images("a", n_stimuli, 4)], n_runs=4)
    assert make_split(design, seed=0).rule == rule


def test_runs_that_not_everyone_has_are_not_held_out(designs):
    design = designs.haxby()
    keep = np.array([p == "01" or r <= 9 for p, r in zip(design.participant, design.run, strict=True)])
    cut = design.take(keep)
    sets = sets_of(cut, make_split(cut, seed=0))
    assert set(np.array(cut.run)[sets == "test"]) == {9}
    assert {10, 11, 12} <= set(np.array(cut.run)[sets == "train"])


def test_runs_without_common_index_go_by_their_position(designs):
    design = designs.haxby(n_people=2, n_runs=4)
    shifted = tuple(r + 4 if p == "02" else r for p, r in zip(design.participant, design.run, strict=True))
    other = replace(design, run=shifted)
    sets = sets_of(other, make_split(other, seed=0))
    assert set(np.array(shifted)[sets == "test"]) == {4, 8}


def test_sessions_stand_for_runs_that_have_no_index(designs):
    design = designs.haxby(n_people=1, n_runs=11)
    session = tuple(str(r) for r in design.run)  # as text, "10" sorts before "2"
    keys = tuple(f"sub-01_ses-{s}_task-see" for s in session)
    other = replace(design, run=(None,) * len(keys), session=session, run_key=keys)
    sets = sets_of(other, make_split(other, seed=0))
    assert set(np.array(session)[sets == "test"]) == {"11"}
    assert set(np.array(session)[sets == "val"]) == {"10"}


def test_two_runs_validate_on_single_trials_of_the_training_run(designs):
    label_of = dict(zip("abcd", np.eye(4), strict=True))
    shown = [[(name, 1) for name in "abcd"] * 40]
    design = designs.skeleton(shown, n_runs=2, label_of=label_of, blocked=True, shuffle=False)
    split = make_split(design, seed=0)
    sets, run = sets_of(design, split), np.array(design.run)
    assert set(run[sets == "test"]) == {2}
    assert set(run[sets == "val"]) == {1}
    names = np.array(design.stimulus_id)
    assert Counter(names[sets == "val"]) == {"a": 2, "b": 2, "c": 2, "d": 2}
    # Presentations of one stimulus in one run belong to two sets, so each has its own row.
    assert "a#1" in split.stimulus_id
    assert count_sets(split.set_name) == {"train": 72, "val": 8, "test": 4}


def test_one_run_tests_on_its_end(designs):
    label_of = dict(zip("abcd", np.eye(4), strict=True))
    design = designs.skeleton(
        [[(name, 1) for name in "abcd"] * 10], n_runs=1, label_of=label_of, blocked=True, shuffle=False
    )
    split = make_split(design, seed=0)
    sets = sets_of(design, split)
    assert split.rule == "tail"
    assert sets.tolist() == ["train"] * 28 + ["val"] * 4 + ["test"] * 8
    assert any("one run only: its last 20 %" in reason for reason in split.reason)


def test_guard_passes_a_rule_over_when_a_label_would_not_train(designs):
    # Generic Object Decoding with categories for labels: no test category occurs in training.
    shown = designs.images("train", 150) + designs.images("test", 30, 8)
    names = [name for name, _ in shown]
    category = {name: np.eye(180)[k] for k, name in enumerate(names)}
    shown = [(f"{name}-{copy}", n) for name, n in shown[:150] for copy in range(8)] + shown[150:]
    label_of = {name: category[name.split("-")[0]] for name, _ in shown}
    design = designs.skeleton([shown], label_of=label_of)
    split = make_split(design, seed=0)
    assert split.rule == "stimuli"
    assert "no training trial is left for 30 labels (label 151" in split.reason[0]
    sets = sets_of(design, split)
    assert {
        s for s, where in zip(design.stimulus_id, sets, strict=True) if s[:4] == "test" and where != "train"
    } == set()


def test_guard_names_the_rule_it_passed_over(designs):
    shown = designs.images("once", 180) + designs.images("often", 20, 5)
    rng = np.random.default_rng(0)
    label_of = {name: np.append(rng.random(4) < 0.3, name.startswith("often")) for name, _ in shown}
    design = designs.skeleton([shown], label_of=label_of, label_names=("a", "b", "c", "d", "often"))
    split = make_split(design, seed=0)
    assert split.rule == "stimuli"
    assert all("passed over: rule 4: shown more than 2 times" in reason for reason in split.reason)
    assert "1 label (often)" in split.reason[0]
    often = sets_of(design, split)[design.labels[:, 4] == 1]
    assert {"train", "test"} <= set(often)


def test_guard_wants_a_label_that_can_be_scored(designs):
    shown = designs.images("once", 180) + designs.images("often", 20, 5)
    rng = np.random.default_rng(0)
    unknown = np.full(3, np.nan)
    label_of = {
        n: unknown if n.startswith("often") else (rng.random(3) < 0.4).astype(float) for n, _ in shown
    }
    split = make_split(designs.skeleton([shown], label_of=label_of), seed=0)
    assert split.rule == "stimuli"
    assert "no label has both a positive and a negative test trial" in split.reason[0]


def test_last_run_without_scorable_labels_gives_way_to_the_one_before(designs):
    design = designs.haxby(n_people=1, n_runs=5)
    labels = design.labels.copy()
    labels[np.array(design.run) == 5] = np.nan
    other = replace(design, labels=labels)
    sets = sets_of(other, make_split(other, seed=0))
    assert set(np.array(other.run)[sets == "test"]) == {4}


def test_validation_never_takes_the_last_training_trials_of_a_label(designs):
    design = designs.haxby(n_people=1)
    run = np.array(design.run)
    rare = design.take((np.array(design.stimulus_id) != "cat") | (run >= 11))
    sets = sets_of(rare, make_split(rare, seed=0))
    assert set(np.array(rare.run)[sets == "test"]) == {12}
    assert set(np.array(rare.run)[sets == "val"]) == {10}


def test_validation_stimuli_are_new_where_test_stimuli_are(designs):
    old, new = designs.images("old", 40), designs.images("new", 40)
    design = designs.skeleton([old * 3 + new], n_runs=4, n_labels=3, shuffle=False)
    split = make_split(design, seed=0)
    assert split.rule == "runs"
    assert split.regime == "unseen stimuli"
    assert stimuli_in(design, split, "test") == {name for name, _ in new}
    val = stimuli_in(design, split, "val")
    assert 3 <= len(val) <= 5
    assert not val & stimuli_in(design, split, "train")
    assert check_audit(design, split).leaks == ()


def test_no_usable_split_says_why_each_rule_failed(designs):
    design = designs.haxby(n_people=1, n_runs=1)
    with pytest.raises(DataError, match="rule 1: no column names the sets") as refusal:
        make_split(design, seed=0)
    for number in range(1, 7):
        assert f"rule {number}: " in str(refusal.value)
    assert refusal.value.hint is not None


class TestColumn:
    def design(self, designs, values):
        shown = designs.images("a", 200, 2)
        plain = designs.skeleton([shown])
        return replace(plain, column=tuple(values[int(s[1:]) % len(values)] for s in plain.stimulus_id))

    def test_is_taken_before_any_other_rule(self, designs):
        design = self.design(designs, ["Training", "training", "test", "validation", "n/a"])
        split = make_split(design, seed=0)
        expected = {"training": "train", "test": "test", "validation": "val", "n/a": "none"}
        assert split.rule == "column"
        assert sets_of(design, split).tolist() == [expected[v.lower()] for v in design.column]

    def test_without_validation_takes_whole_stimuli_from_training(self, designs):
        design = self.design(designs, ["train", "train", "train", "test"])
        split = make_split(design, seed=0)
        assert stimuli_in(design, split, "test") == {
            s for s, v in zip(design.stimulus_id, design.column, strict=True) if v == "test"
        }
        assert abs(len(stimuli_in(design, split, "val")) - 15) <= 3
        assert not stimuli_in(design, split, "val") & stimuli_in(design, split, "train")

    def test_without_validation_and_with_seen_stimuli_takes_a_run(self, designs):
        plain = designs.haxby(n_people=1, n_runs=6)
        column = tuple("test" if run == 2 else "train" for run in plain.run)
        design = replace(plain, column=column)
        split = make_split(design, seed=0)
        sets = sets_of(design, split)
        assert set(np.array(design.run)[sets == "val"]) == {6}
        assert split.regime == "unseen trials of seen stimuli"

    def test_of_other_meaning_is_passed_by(self, designs):
        design = self.design(designs, ["A", "B", "A", "B"])
        assert make_split(design, seed=0).rule == "stimuli"
        with pytest.raises(DataError, match="holds a, b; expected train, val and test"):
            make_split(design, rule="column:set", seed=0)

    def test_may_hold_out_participants(self, designs):
        plain = designs.skeleton([designs.images("a", 150, 2)] * 3)
        people = tuple("test" if p == "03" else "train" for p in plain.participant)
        split = make_split(replace(plain, column=people), rule="column:set", seed=0)
        assert split.regime == "unseen participant"
        own = designs.skeleton([designs.images(f"p{p}x", 150, 2) for p in range(3)])
        split = make_split(replace(own, column=people), rule="column:set", seed=0)
        assert split.regime == "unseen participant and unseen stimuli"


@pytest.mark.parametrize("other", ["train", "val"])
def test_one_stimulus_seen_in_training_or_validation_is_a_seen_stimulus(designs, other):
    plain = designs.skeleton([designs.images("a", 120, 2)])
    number = np.array([int(s[1:]) for s in plain.stimulus_id])
    column = np.where(number < 60, "train", np.where(number < 90, "val", "test"))
    clean = replace(plain, column=tuple(column.tolist()))
    assert make_split(clean, seed=0).regime == "unseen stimuli"
    column[np.flatnonzero(column == "test")[0]] = other
    seen = replace(plain, column=tuple(column.tolist()))
    assert make_split(seen, seed=0).regime == "unseen trials of seen stimuli"


class TestNamedRuns:
    def test_hold_out_these_runs_and_validate_on_the_one_before(self, designs):
        design = designs.haxby()
        sets = sets_of(design, make_split(design, rule="runs:8", seed=0))
        run = np.array(design.run)
        assert set(run[sets == "test"]) == {8}
        assert set(run[sets == "val"]) == {7}

    def test_several(self, designs):
        design = designs.haxby()
        sets = sets_of(design, make_split(design, rule="runs:1,2", seed=0))
        run = np.array(design.run)
        assert set(run[sets == "test"]) == {1, 2}
        assert set(run[sets == "val"]) == {3}

    def test_in_every_session(self, designs):
        design = designs.haxby(n_people=1, n_runs=6)
        session = tuple("1" if r <= 3 else "2" for r in design.run)
        run = tuple((r - 1) % 3 + 1 for r in design.run)
        keys = tuple(f"sub-01_ses-{s}_task-see_run-{r}" for s, r in zip(session, run, strict=True))
        other = replace(design, session=session, run=run, run_key=keys)
        split = make_split(other, rule="runs:3", seed=0)
        tested = {k for k, s in zip(split.run_key, split.set_name, strict=True) if s == "test"}
        assert tested == {"sub-01_ses-1_task-see_run-3", "sub-01_ses-2_task-see_run-3"}

    def test_may_cost_a_label_its_training_trials(self, designs):
        design = designs.haxby(n_people=1, n_runs=6)
        keep = np.array([s != "cat" or r == 6 for s, r in zip(design.stimulus_id, design.run, strict=True)])
        split = make_split(design.take(keep), rule="runs:6", seed=0)
        assert count_sets(split.set_name) == {"train": 28, "val": 7, "test": 8}

    def test_participants_without_the_run_are_named(self, designs):
        design = designs.haxby()
        keep = np.array([p == "01" or r <= 9 for p, r in zip(design.participant, design.run, strict=True)])
        split = make_split(design.take(keep), rule="runs:12", seed=0)
        assert any("(not in 02)" in reason for reason in split.reason)

    @pytest.mark.parametrize("text", ["runs:", "runs:a", "runs:8;9", "run:8", "somewhere"])
    def test_misspelt(self, designs, text):
        with pytest.raises(UsageError, match="--split"):
            make_split(designs.haxby(), rule=text, seed=0)

    def test_that_nobody_has(self, designs):
        with pytest.raises(SelectionError, match="no participant has run 13; runs are 1, 2"):
            make_split(designs.haxby(), rule="runs:12,13", seed=0)


class TestMovies:
    def test_last_movie_tests_and_the_one_before_validates(self, designs):
        design = designs.movies()
        split = make_split(design, seed=0)
        sets, movie = sets_of(design, split), np.array(design.movie)
        assert split.rule == "movies"
        assert split.regime == "unseen stimuli"
        assert {m: set(sets[movie == m]) for m in "ABCD"} == {
            "A": {"train"}, "B": {"train"}, "C": {"val"}, "D": {"test"},
        }  # fmt: skip
        assert check_audit(design, split).leaks == ()

    def test_repeated_clips_neither_test_nor_validate(self, designs):
        plain = designs.movies()
        repeated = plain.onset >= 180
        design = replace(plain, repeated_clip=repeated)
        sets, movie = sets_of(design, make_split(design, seed=0)), np.array(plain.movie)
        assert count_sets(sets[repeated].tolist()) == {"train": 80, "none": 80}
        assert set(sets[repeated & np.isin(movie, ["C", "D"])]) == {"none"}
        assert set(sets[~repeated & (movie == "D")]) == {"test"}

    def test_movies_that_share_a_run_keep_fifteen_seconds_apart(self, designs):
        plain = designs.movies()
        onset = plain.onset + 200 * (np.array(plain.run) - 1)
        keys = tuple(f"sub-{p}_task-movie" for p in plain.participant)
        design = replace(plain, onset=onset, run_key=keys, run=(None,) * len(keys))
        split = make_split(design, seed=0)
        sets, movie = sets_of(design, split), np.array(design.movie)
        assert set(sets[movie == "D"]) == {"test"}
        assert np.all(sets[(movie == "C") & (onset > 585)] == "none")
        assert np.all(sets[(movie == "C") & (onset <= 585)] == "val")
        assert np.all(sets[(movie == "B") & (onset > 385)] == "none")
        assert check_audit(design, split).leaks == ()

    def test_a_test_set_in_the_middle_keeps_its_distance_on_both_sides(self, designs):
        plain = designs.movies(n_people=1)
        own = np.array(plain.movie) == "B"
        within = own & (plain.onset >= 80) & (plain.onset < 120)
        column = np.where(within, "test", np.where(np.array(plain.movie) == "D", "val", "train"))
        design = replace(plain, column=tuple(column.tolist()))
        split = make_split(design, seed=0)
        sets = sets_of(design, split)
        assert plain.onset[own & (sets == "none")].tolist() == [*range(66, 80), *range(120, 134)]
        assert set(sets[own & ~within & (sets != "none")]) == {"train"}
        assert check_audit(design, split).leaks == ()

    def test_one_movie_in_several_runs_goes_by_run(self, designs):
        plain = designs.movies(names=("A", "B", "C", "D", "E"))
        design = replace(plain, movie=("Forrest Gump",) * plain.n_trials)
        sets = sets_of(design, make_split(design, seed=0))
        assert set(np.array(design.run)[sets == "test"]) == {5}
        assert set(np.array(design.run)[sets == "val"]) == {4}

    def test_one_run_tests_on_its_end_at_a_distance(self, designs):
        plain = designs.movies(names=("A",), seconds=1000, n_people=1)
        labels = np.stack([np.arange(1000) // k % 2 for k in (10, 25)], axis=1).astype(float)
        design = replace(plain, labels=labels)
        split = make_split(design, seed=0)
        sets = sets_of(design, split)
        assert np.all(sets[800:] == "test")
        assert np.all(sets[700:786] == "val")
        assert np.all(sets[786:800] == "none")
        assert np.all(sets[:686] == "train")
        assert check_audit(design, split).leaks == ()

    def test_are_never_split_at_random(self, designs):
        plain = designs.movies(names=("A", "B", "C"))
        labels = np.zeros((plain.n_trials, 1))
        with pytest.raises(DataError, match="neighbouring samples of a movie are not independent"):
            make_split(replace(plain, labels=labels), seed=0)


def test_copies_of_one_image_stay_together(designs):
    design = designs.skeleton([designs.images("a", 150) + designs.images("b", 150)])
    twins = tuple(name[1:] for name in design.stimulus_id)  # a00007 and b00007 have the same content
    split = make_split(replace(design, content=twins), seed=0)
    where = dict(zip(split.stimulus_id, split.set_name, strict=True))
    assert all(where[f"a{k:05d}"] == where[f"b{k:05d}"] for k in range(150))
    plain = make_split(design, seed=0)
    apart = dict(zip(plain.stimulus_id, plain.set_name, strict=True))
    assert any(apart[f"a{k:05d}"] != apart[f"b{k:05d}"] for k in range(150))


def test_seed_decides_and_nothing_else(designs):
    design = designs.skeleton([designs.images("a", 200)])
    assert make_split(design, seed=3) == make_split(design, seed=3)
    assert make_split(design, seed=3) != make_split(design, seed=4)


def test_trials_without_stimulus_get_no_row_and_are_new(designs):
    design = designs.skeleton([designs.images("a", 200)])
    ids = ("", *design.stimulus_id[1:])
    split = make_split(replace(design, stimulus_id=ids), seed=0)
    assert "" not in split.stimulus_id
    assert assign(split, design.run_key, ids).set_name[0] == "new"
    nameless = replace(design, stimulus_id=("",) * design.n_trials)
    with pytest.raises(DataError, match="no trial has a known stimulus"):
        make_split(nameless, seed=0)


def test_stimulus_named_like_a_repetition_is_refused(designs):
    label_of = dict(zip(("a", "b", "a#1"), np.eye(3), strict=True))
    shown = [[("a", 1), ("b", 1), ("a#1", 1)] * 30]
    design = designs.skeleton(shown, n_runs=2, label_of=label_of, blocked=True, shuffle=False)
    with pytest.raises(DataError, match="named like the repetition of another"):
        make_split(design, seed=0)


def test_design_columns_must_agree_in_length(designs):
    design = designs.haxby()
    with pytest.raises(DataError, match="onset has 3 entries for 192 trials"):
        replace(design, onset=design.onset[:3])
    with pytest.raises(DataError, match="2 label names for 8 columns"):
        replace(design, label_names=("a", "b"))


class TestAssign:
    def test_trials_the_split_does_not_name_are_listed(self, designs):
        design = designs.haxby(n_people=1)
        split = make_split(design, seed=0)
        ids = ("dog", *design.stimulus_id[1:8], "dog", *design.stimulus_id[9:])
        message = (
            r"no set for 2 of 96 trials: sub-01_task-see_run-1 dog \(1x\), sub-01_task-see_run-2 dog \(1x\)"
        )
        with pytest.raises(DataError, match=message):
            assign(split, design.run_key, ids)

    def test_what_the_data_lack_is_noted(self, designs):
        design = designs.haxby()
        split = make_split(design, seed=0)
        keep = np.array([
            p == "01" and r != 4 and not (r == 2 and s == "cat")
            for p, r, s in zip(design.participant, design.run, design.stimulus_id, strict=True)
        ])  # fmt: skip
        seen = design.take(keep)
        notes = assign(split, seen.run_key, seen.stimulus_id).notes
        assert notes == (
            "the split names 1 stimuli that these runs lack: sub-01_task-see_run-2 cat",
            "the split names 1 runs of these participants that are absent: sub-01_task-see_run-4",
        )

    def test_one_participant_alone_gets_the_same_sets(self, designs):
        design = designs.things()
        split = make_split(design, seed=0)
        own = design.take(np.array(design.participant) == "02")
        result = assign(split, own.run_key, own.stimulus_id)
        assert result.notes == ()
        assert result.set_name == tuple(sets_of(design, split)[np.array(design.participant) == "02"])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000), n_people=st.integers(1, 4), share=st.floats(0, 1), times=st.integers(1, 3)
)
def test_any_split_is_complete_and_passes_its_own_audit(designs, seed, n_people, share, times):
    n_shared = int(120 * share)
    shown = [
        designs.images("both", n_shared, times) + designs.images(f"p{p}x", 120 - n_shared)
        for p in range(n_people)
    ]
    design = designs.skeleton(shown, seed=seed, n_labels=5)
    split = make_split(design, seed=seed)
    sets = sets_of(design, split)
    assert set(sets) == {"train", "val", "test"}
    assert len(set(zip(split.run_key, split.stimulus_id, strict=True))) == len(split.run_key)
    assert (design.labels[sets == "train"] == 1).any(axis=0).all()
    assert check_audit(design, split).leaks == ()
