from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr

from clipmused_bids.errors import DataError
from clipmused_bids.records import Split
from clipmused_bids.stages import voxel_choice
from clipmused_bids.stages.assemble import open_responses
from clipmused_bids.stages.auditing import audit_fit
from clipmused_bids.stages.decoder_choice import decoder_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import predict
from clipmused_bids.stages.train import train_decoder
from clipmused_bids.stages.training_set import TrainingSet, training_set
from clipmused_bids.stages.voxel_choice import require_repeats
from tests.stages.conftest import World, make_catalogue, make_run

# Voxels that answer: two of both people, one of each alone; the others are noise.
BOTH, FIRST, SECOND = [4, 11], [2], [7]
N_STIMULI, N_VOXELS = 24, 15
NAMES = [f"s{k:02d}" for k in range(N_STIMULI)]
SETS = {name: "train" if k < 14 else "val" if k < 18 else "test" for k, name in enumerate(NAMES)}
CATALOGUE = make_catalogue({name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)})


def repeated(folder: Path, *, held: float = 1.0) -> World:
    """Two people saw every stimulus once in each of two runs; `held` scales everything outside the training set."""
    world, rng = World(folder), np.random.default_rng(6)
    outside = np.array([SETS[name] != "train" for name in NAMES])
    signal = rng.normal(size=(N_STIMULI, N_VOXELS))
    for participant, own in (("01", FIRST), ("02", SECOND)):
        for number in (1, 2):
            values = rng.normal(size=(N_STIMULI, N_VOXELS))
            values[:, [*BOTH, *own]] += 3 * signal[:, [*BOTH, *own]]
            values[outside] *= held
            if held != 1:
                # A voxel of noise that only held-out responses call reliable.
                values[outside, 0] = 100 * np.arange(outside.sum())
            world.add(make_run(participant, number), NAMES, values)
    return world


def plan_of(world: World, n_voxels: int, **settings: Any) -> Plan:
    return world.plan(hyperparameters={"responses": {"reliable_voxels": n_voxels}}, **settings)


def build(world: World, plan: Plan, split: Split) -> TrainingSet:
    with ExitStack() as scratch:
        return training_set(
            plan, world.tree, CATALOGUE, split, members=plan.participants, method="ridge-pooled", maker=None,
            scratch=scratch,
        )  # fmt: skip


def voxels_of(made: TrainingSet) -> list[list[int]]:
    return [space.voxels.tolist() for space in made.train.spaces]


def test_one_choice_for_all_in_a_common_space_and_each_his_own_in_native_space(tmp_path: Path) -> None:
    world = repeated(tmp_path)
    split = world.split(SETS)
    common = build(world, plan_of(world, 2), split)
    assert voxels_of(common) == [BOTH, BOTH]
    native = build(world, plan_of(world, 3, common_space=False), split)
    assert voxels_of(native) == [sorted([*BOTH, *FIRST]), sorted([*BOTH, *SECOND])]
    assert common.voxel_choice is not None
    assert native.voxel_choice is not None
    assert common.voxel_choice["criterion"] == "split-half reliability, mean over participants"
    assert native.voxel_choice["n_voxels"] == {"01": 3, "02": 3}
    assert native.voxel_choice["n_before"] == {"01": N_VOXELS, "02": N_VOXELS}
    assert native.voxel_choice["fitted_on"] == ["train"]


def test_what_is_kept_is_read_and_standardised_as_it_was(tmp_path: Path) -> None:
    world = repeated(tmp_path)
    split = world.split(SETS)
    every, few = build(world, plan_of(world, 0), split), build(world, plan_of(world, 2), split)
    assert every.voxel_choice is None
    for whole, part in zip(every.train.read(), few.train.read(), strict=True):
        np.testing.assert_array_equal(part, whole[:, BOTH])
    for one in few.standardizations:
        assert {len(unit.offset) for unit in one.statistics.values()} == {2}
    everything = build(world, plan_of(world, 99), split)
    assert voxels_of(everything) == voxels_of(every)


def test_the_threshold_is_the_reliability_of_the_last_voxel_kept(tmp_path: Path) -> None:
    """Two repeats: the one split there is, stepped up; by hand from the two runs' training trials."""
    world = repeated(tmp_path)
    made = build(world, plan_of(world, 3, common_space=False, participants=["01"]), world.split(SETS))
    runs = [world.values[run.key][:14] for run in world.runs[:2]]
    first, second = ((run - run.mean(axis=0)) / run.std(axis=0) for run in runs)
    by_hand = np.array([pearsonr(first[:, v], second[:, v]).statistic for v in range(N_VOXELS)])
    kept = np.sort(2 * by_hand / (1 + by_hand))[-3:]
    assert made.voxel_choice is not None
    # Which presentation is in which half is drawn for each stimulus, so the correlations differ a little.
    assert made.voxel_choice["threshold"]["01"] == pytest.approx(kept.min(), abs=0.03)


def test_validation_and_test_responses_do_not_move_the_choice(tmp_path: Path) -> None:
    """Even where they would make a voxel of noise the most reliable of all."""
    made = []
    for k, held in enumerate((1.0, 40.0)):
        world = repeated(tmp_path / str(k), held=held)
        made.append(build(world, plan_of(world, 2), world.split(SETS)))
    assert voxels_of(made[0]) == voxels_of(made[1]) == [BOTH, BOTH]
    assert made[0].voxel_choice == made[1].voxel_choice
    world = repeated(tmp_path / "seen", held=40.0)
    seen = build(world, plan_of(world, 2), world.split(dict.fromkeys(NAMES, "train")))
    assert voxels_of(seen) != [BOTH, BOTH], "the trap works: were they training trials, they would move it"


def test_decoding_reads_the_stored_voxels_only(tmp_path: Path) -> None:
    world = repeated(tmp_path)
    plan = plan_of(world, 2)
    train_decoder(
        plan, world.tree, CATALOGUE, world.split(SETS), members=["01", "02"], participant=None,
        method="ridge-pooled", model_label="m", maker=None, device="cpu",
    )  # fmt: skip
    model = decoder_of(world.tree, "01", model_label="m")
    assert model.tensors["voxels.common"].tolist() == BOTH
    assert model.config["voxel_choice"]["n_voxels"] == {"01": 2, "02": 2}
    before = predict(model, open_responses(world.tree, "01", world.runs[:2], kind="lss"))
    other = World(tmp_path / "other")
    for run in world.runs[:2]:
        values = world.values[run.key].copy()
        values[:, np.setdiff1d(np.arange(N_VOXELS), BOTH)] += 50.0
        other.add(run, NAMES, values)
    after = predict(model, open_responses(other.tree, "01", other.runs, kind="lss"))
    np.testing.assert_array_equal(after, before)


def test_too_few_repeats_are_refused_before_anything_is_estimated(world: World) -> None:
    """`sub-01` saw three stimuli twice, but one of them in the test set."""
    world.add(make_run("01"), "aabbccde", np.ones((8, 3)))
    split = world.split({name: "test" if name == "c" else "train" for name in "abcde"})
    require_repeats(plan_of(world, 0), split)
    with pytest.raises(DataError, match="sub-01: 2 training stimuli were shown more than once") as refused:
        require_repeats(plan_of(world, 2), split)
    assert "reliable_voxels = 0" in str(refused.value)
    require_repeats(plan_of(world, 2), world.split(dict.fromkeys("abcde", "train")))


def test_trials_without_a_name_are_no_repeats(world: World) -> None:
    world.add(make_run("01"), ["a", "a", "b", "b", "", "", ""], np.ones((7, 3)))
    with pytest.raises(DataError, match="sub-01: 2 training stimuli"):
        require_repeats(plan_of(world, 2), world.split(dict.fromkeys(["a", "b", ""], "train")))


def test_the_auditor_sees_what_the_choice_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what it says of itself: were other rows read, training would be refused."""
    world = repeated(tmp_path)
    split, plan = world.split(SETS), plan_of(world, 2)
    counts = build(world, plan, split).record.summary(plan, split)
    assert counts["voxel choice"] == {"purpose": "fit", "train": 56}, "14 stimuli, two runs of two people"
    assert "voxel choice" not in build(world, plan_of(world, 0), split).record.summary(plan, split)
    everything = lambda names, _sets: np.arange(len(names))  # noqa: E731
    monkeypatch.setattr(voxel_choice, "fitted_rows", everything)
    leaky = build(world, plan, split)
    with pytest.raises(
        DataError, match=r"voxel choice was fitted on trials of set val, test \(40; first: sub-01"
    ):
        audit_fit(plan, CATALOGUE, split, leaky)
