from __future__ import annotations

import numpy as np
import pytest

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.leakage import Fitted, audit

CLEAN = {
    "set_name": ["train", "train", "val", "test", "test", "none", "new"],
    "run_key": ["r1", "r1", "r2", "r3", "r3", "r3", "r3"],
    "participant": ["1"] * 7,
    "stimulus_id": ["a", "b", "c", "d", "e", "a", "b"],
    "onset": np.array([0.0, 4, 0, 0, 4, 8, 12]),
    "regime": "unseen stimuli",
    "design": "events",
    "content": ["A", "B", "C", "D", "E", "A", "B"],
}


def look(**changes):
    return audit(**{**CLEAN, **changes})


def test_clean_design_passes_without_a_word():
    found = look()
    assert found.leaks == ()
    assert found.warnings == ()


@pytest.mark.parametrize("other", ["train", "val"])
def test_stimulus_in_two_sets(other):
    sets = [other, other, "train", "test", "test", "none", "new"]
    with pytest.raises(DataError, match=rf"1 stimuli, by name, are in two sets: a \({other}, test\)"):
        look(set_name=sets, stimulus_id=["a", "b", "c", "d", "a", "x", "y"], content=None)


def test_training_stimulus_in_the_validation_set():
    with pytest.raises(DataError, match=r"a \(train, val\)"):
        look(stimulus_id=["a", "b", "a", "d", "e", "x", "y"], content=None)


def test_same_content_under_two_names():
    with pytest.raises(DataError, match=r"1 stimuli, by content, are in two sets: A \(train, test\)") as leak:
        look(content=["A", "B", "C", "D", "A", "", ""])
    assert "by name" not in str(leak.value)
    assert "--split" in leak.value.hint


def test_seen_stimuli_may_be_in_two_sets_when_the_regime_says_so():
    found = look(stimulus_id=["a"] * 7, content=None, regime="unseen trials of seen stimuli")
    assert found.leaks == ()


def test_participant_on_both_sides():
    with pytest.raises(DataError, match=r"1 participants are in two sets: 1 \(train, test\)"):
        look(regime="unseen participant")
    people = ["1", "1", "1", "2", "2", "1", "1"]
    assert look(regime="unseen participant and unseen stimuli", participant=people).leaks == ()


@pytest.mark.parametrize(("gap", "leaks"), [(14.9, 1), (15.0, 0), (15.1, 0)])
def test_continuous_samples_of_one_run(gap, leaks):
    found = look(
        design="continuous",
        run_key=["r1"] * 2 + ["r2"] + ["r1"] * 2 + ["r1"] * 2,
        onset=np.array([0.0, 10, 0, 10 + gap, 40, 12, 13]),
        on_leak="report",
    )
    assert len(found.leaks) == leaks
    if leaks:
        assert "r1: train at 10 s, test at 24.9 s" in found.leaks[0]


def test_continuous_samples_are_compared_within_runs_and_in_time_order():
    changes = {"design": "continuous", "on_leak": "report"}
    assert look(**changes).leaks == ()
    unsorted = look(**changes, run_key=["r1"] * 7, onset=np.array([0.0, 100, 50, 150, 8, 1, 1]))
    assert "r1: train at 0 s, test at 8 s" in unsorted.leaks[0]
    assert look(run_key=["r1"] * 7, on_leak="report").leaks == ()  # events may lie close


@pytest.mark.parametrize(
    ("fitted", "leak"),
    [
        (Fitted("PCA", ("train",)), None),
        (Fitted("PCA", ("train", "test")), "PCA was fitted on trials of set test"),
        (Fitted("label choice", ("train", "val")), "label choice was fitted on trials of set val"),
        (Fitted("thresholds", ("val",), purpose="tuning"), None),
        (
            Fitted("thresholds", ("val", "test"), purpose="tuning"),
            "thresholds was fitted on trials of set test",
        ),
        (Fitted("SRM", ("train", "new")), "SRM was fitted on trials of set new"),
    ],
)
def test_anything_fitted_elsewhere(fitted, leak):
    found = look(fitted=[fitted], on_leak="report")
    assert found.leaks == (() if leak is None else (leak,))


def test_all_leaks_are_named_at_once():
    with pytest.raises(DataError, match="PCA was fitted") as leak:
        look(stimulus_id=["a"] * 7, fitted=[Fitted("PCA", ("test",))])
    assert "stimuli, by name" in str(leak.value)
    assert "by content" not in str(leak.value)


def test_comparison_by_name_only_is_a_warning():
    assert look(content=None).warnings == (
        "5 of 5 stimuli were compared by name only: their files were not found",
    )
    assert look(content=["A", "", "C", "D", "E", "", ""]).warnings[0].startswith("1 of 5 stimuli")
    assert look(content=None, regime="unseen trials of seen stimuli").warnings == ()
