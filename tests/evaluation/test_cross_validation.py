"""Folds against scikit-learn's splitters, hand-made designs, and what must be refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneGroupOut

from clipmused_bids.errors import DataError, SelectionError, UsageError
from clipmused_bids.evaluation.assignment import assign
from clipmused_bids.evaluation.cross_validation import (
    fold_numbers,
    make_folds,
    most_modest,
    parts_of,
    split_of_fold,
    trials_of_decoder,
)
from clipmused_bids.evaluation.split_design import SplitDesign
from clipmused_bids.evaluation.splits import make_split

CONDITIONS = ("cat", "dog", "face", "house")


def blocks(*, runs: dict[str, int], conditions: tuple[str, ...] = CONDITIONS) -> SplitDesign:
    """Every participant sees each condition once in each of his runs; the stimulus is the condition."""
    rows = [(p, r, name) for p, n in runs.items() for r in range(1, n + 1) for name in conditions]
    return SplitDesign(
        run_key=tuple(f"sub-{p}_task-x_run-{r}" for p, r, _ in rows),
        participant=tuple(p for p, _, _ in rows),
        session=(None,) * len(rows),
        run=tuple(r for _, r, _ in rows),
        stimulus_id=tuple(name for *_, name in rows),
        labels=np.array([[name == other for other in CONDITIONS] for *_, name in rows], dtype=float),
        onset=np.tile(np.arange(len(conditions)) * 20.0, len(rows) // len(conditions)),
        label_names=CONDITIONS,
        blocked=True,
    )


def pictures(n: int, *, n_people: int = 2, n_labels: int = 5, seed: int = 0) -> SplitDesign:
    """Everyone sees the same pictures once, in runs of ten."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, n_labels)) < 0.3).astype(float)
    rows = [(p, k) for p in range(n_people) for k in range(n)]
    return SplitDesign(
        run_key=tuple(f"sub-{p:02d}_task-x_run-{k // 10 + 1}" for p, k in rows),
        participant=tuple(f"{p:02d}" for p, _ in rows),
        session=(None,) * len(rows),
        run=tuple(k // 10 + 1 for _, k in rows),
        stimulus_id=tuple(f"picture{k:03d}" for _, k in rows),
        labels=np.concatenate([labels] * n_people),
        onset=np.array([4.0 * (k % 10) for _, k in rows]),
    )


def folds_of(design: SplitDesign, split) -> np.ndarray:
    return np.array([k or 0 for k in assign(split, design.run_key, design.stimulus_id).fold])


def test_runs_are_left_out_as_scikit_learn_leaves_groups_out() -> None:
    design = blocks(runs={"01": 5, "02": 5})
    split = make_folds(design, rule="runs", seed=0)
    fold = folds_of(design, split)
    peer = LeaveOneGroupOut().split(design.labels, groups=design.run)
    assert [np.flatnonzero(fold == k).tolist() for k in fold_numbers(split)] == [
        test.tolist() for _, test in peer
    ]
    assert split.regime == "unseen trials of seen stimuli"
    assert set(split.set_name) == {"test"}


def test_each_fold_tests_the_next_validates_and_the_rest_train() -> None:
    design = blocks(runs={"01": 4})
    split = make_folds(design, rule="runs", seed=0)
    for fold, following in zip((1, 2, 3, 4), (2, 3, 4, 1), strict=True):
        sets = np.array(assign(split_of_fold(split, fold), design.run_key, design.stimulus_id).set_name)
        runs = np.array(design.run)
        assert set(runs[sets == "test"]) == {fold}
        assert set(runs[sets == "val"]) == {following}
        assert set(runs[sets == "train"]) == {1, 2, 3, 4} - {fold, following}


def test_the_decoder_of_all_folds_is_described_by_every_trial() -> None:
    split = make_folds(blocks(runs={"01": 4}), rule="runs", seed=0)
    *folds, last = parts_of(split)
    assert [part.fold for part in folds] == [1, 2, 3, 4]
    assert (last.fold, last.of_all_folds) == (None, True)
    assert set(last.split.set_name) == {"train", "val"}
    assert set(last.described.set_name) == {"train"}
    assert trials_of_decoder(split) == last.described
    plain = make_split(blocks(runs={"01": 4}), seed=0)
    (only,) = parts_of(plain)
    assert only.split is only.described is plain


def test_folds_of_runs_are_consecutive_and_of_about_one_size() -> None:
    design = blocks(runs={"01": 8, "02": 8})
    split = make_folds(design, rule="runs:3", seed=0)
    fold, runs = folds_of(design, split), np.array(design.run)
    assert [sorted(set(runs[fold == k].tolist())) for k in (1, 2, 3)] == [[1, 2, 3], [4, 5, 6], [7, 8]]


def test_folds_of_stimuli_share_none_and_keep_label_frequencies() -> None:
    design = pictures(200)
    split = make_folds(design, rule="stimuli:5", seed=0)
    assert split.regime == "unseen stimuli"
    fold, names = folds_of(design, split), np.array(design.stimulus_id)
    assert [len(set(names[fold == k])) for k in range(1, 6)] == [40] * 5
    for a in range(1, 6):
        assert not set(names[fold == a]) & set(names[fold != a])
    frequency = [design.labels[fold == k].mean(axis=0) for k in range(1, 6)]
    np.testing.assert_allclose(frequency, [design.labels.mean(axis=0)] * 5, atol=0.03)
    assert make_folds(design, rule="stimuli:5", seed=0) == split
    assert make_folds(design, rule="stimuli:5", seed=1) != split


def test_pictures_of_one_content_are_in_one_fold() -> None:
    design = pictures(60, n_people=1)
    content = tuple(f"hash{int(name[-3:]) // 2}" for name in design.stimulus_id)
    split = make_folds(replace(design, content=content), rule="stimuli:3", seed=0)
    fold = folds_of(design, split)
    assert all(len(set(fold[np.array(content) == key])) == 1 for key in set(content))


def test_who_lacks_a_run_is_named_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    design = blocks(runs={"01": 5, "02": 4})
    split = make_folds(design, rule="runs", seed=0)
    assert len(fold_numbers(split)) == 5
    assert "sub-02 has no test trials in fold 5: scored in the other 4" in caplog.text


def test_a_label_that_a_fold_cannot_learn_is_named(caplog: pytest.LogCaptureFixture) -> None:
    design = blocks(runs={"01": 5})
    labels = design.labels.copy()
    rare = np.zeros(len(labels))
    rare[[0, 1]] = 1  # both in run 1: held out in fold 1, validated in fold 5
    design = replace(
        design, labels=np.column_stack([labels, rare]), label_names=(*CONDITIONS, "rare"),
        stimulus_id=tuple(f"{name}{k}" for k, name in enumerate(design.stimulus_id)),
    )  # fmt: skip
    make_folds(design, rule="runs", seed=0)
    assert "rare has no training trial where fold 1, 5 is held out" in caplog.text


def test_samples_of_repeated_clips_are_in_no_fold() -> None:
    design = replace(pictures(50, n_people=1), continuous=True, repeated_clip=np.arange(50) % 10 == 9)
    split = make_folds(design, rule="runs", seed=0)
    assert set(folds_of(design, split)[9::10]) == {0}
    assert {name for name, k in zip(split.set_name, split.fold, strict=True) if k is None} == {"none"}


@pytest.mark.parametrize(
    ("rule", "runs", "error", "match"),
    [
        ("runs", 2, UsageError, "2 fold.*at least 3 are needed"),
        ("runs:9", 5, UsageError, "5 run.s. that correspond between participants, fewer than folds"),
        ("runs:2", 5, UsageError, "at least 3"),
        ("stimuli:9", 5, UsageError, "4 different stimuli, fewer than folds"),
        ("weeks", 5, UsageError, "--cv weeks: unknown"),
        ("stimuli:4", 5, DataError, "no label has both a positive and a negative trial in fold 1"),
    ],
)
def test_bad_folds_are_refused(rule: str, runs: int, error: type[Exception], match: str) -> None:
    """Four stimuli in four folds: each fold has one condition only."""
    with pytest.raises(error, match=match):
        make_folds(blocks(runs={"01": runs}), rule=rule, seed=0)


def test_constant_labels_are_refused() -> None:
    with pytest.raises(DataError, match="no label has both a positive and a negative"):
        make_folds(blocks(runs={"01": 4}, conditions=("cat", "cat")), rule="runs", seed=0)


def test_movies_have_no_folds_of_stimuli() -> None:
    with pytest.raises(UsageError, match="neighbouring samples of a movie"):
        make_folds(replace(pictures(40), continuous=True), rule="stimuli:4", seed=0)


def test_the_most_modest_regime_speaks_for_all_folds() -> None:
    assert most_modest(["unseen stimuli", "unseen trials of seen stimuli"]) == "unseen trials of seen stimuli"
    assert (
        most_modest(["unseen participant and unseen stimuli"] * 2) == "unseen participant and unseen stimuli"
    )
    mixed = pictures(40, n_people=1)
    names = list(mixed.stimulus_id)
    names[0] = names[39]  # one picture of the last run is in the first one too
    assert make_folds(replace(mixed, stimulus_id=tuple(names)), rule="runs", seed=0).regime == (
        "unseen trials of seen stimuli"
    )


def test_a_participant_is_held_out_whole() -> None:
    design = pictures(60, n_people=3)
    split = make_split(design, rule="participants:02", seed=0)
    sets = np.array(assign(split, design.run_key, design.stimulus_id).set_name)
    person = np.array(design.participant)
    assert set(person[sets == "test"]) == {"02"}
    assert set(sets[person == "02"]) == {"test"}
    assert {"train", "val"} == set(sets[person != "02"])
    assert split.regime == "unseen participant"


def test_the_guard_leaves_the_stimuli_of_the_unseen_out() -> None:
    design = pictures(60, n_people=2)
    rows = np.array(
        [
            p == "00" or int(name[-3:]) < 20
            for p, name in zip(design.participant, design.stimulus_id, strict=True)
        ]
    )
    design = design.take(rows)
    split = make_split(design, rule="participants:01+stimuli", seed=0)
    sets = np.array(assign(split, design.run_key, design.stimulus_id).set_name)
    names = np.array(design.stimulus_id)
    assert split.regime == "unseen participant and unseen stimuli"
    assert not set(names[sets == "test"]) & set(names[np.isin(sets, ["train", "val"])])
    assert (sets == "none").sum() == 20


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("09", SelectionError, "no participant 09; participants are 00, 01"),
        ("00,01", SelectionError, "nobody else is left"),
        ("01+runs", SelectionError, "unknown guard"),
        ("01+stimuli", DataError, "the others saw no other stimuli"),
    ],
)
def test_impossible_people_are_refused(text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make_split(pictures(30), rule=f"participants:{text}", seed=0)
