from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid, VoxelSpace
from clipmused_bids.responses.standardize import UnitStatistics
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    Standardization,
    fit_standardization,
    open_responses,
    response_table,
    staged,
    trial_data,
    usable_voxels,
)
from tests.stages.conftest import GRID, World, make_run

# Columns of the three files: voxel 9 is first in one and last in another; 30 and 40 are in some only.
PLACES = ([2, 5, 9, 30], [1, 2, 5, 9], [2, 5, 9, 40])
WANTED = np.array([2, 5, 9])


def three_runs(world: World, *, precision: str = "float32", n: int = 12) -> ParticipantResponses:
    """Two runs of one session and one of another, on scales a thousand apart."""
    rng = np.random.default_rng(4)
    for k, (places, session) in enumerate(zip(PLACES, ("1", "1", "2"), strict=True)):
        values = rng.normal(size=(n, 4)) * [1e-3, 1.0, 40.0, 12_000.0] + [0, 5, -300, 70_000]
        stimuli = [f"s{k}-{i}" for i in range(n)]
        world.add(
            make_run(number=k + 1, session=session), stimuli, values, voxels=places, precision=precision
        )
    return open_responses(world.tree, "01", world.runs, kind="lss")


def by_hand(world: World, *, precision: str) -> list[np.ndarray]:
    """Values of the wanted voxels as float64, after the rounding that half precision means."""
    found = []
    for run, places in zip(world.runs, PLACES, strict=True):
        values = world.values[run.key].astype(np.float64)
        if precision == "float16":
            scale = 2.0 ** (np.floor(np.log2(np.abs(values).max(axis=0))) + 1)
            values = (values / scale).astype(np.float16).astype(np.float64) * scale
        found.append(values[:, [places.index(v) for v in WANTED]])
    return found


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("unit", ["run", "session", "participant", "none"])
def test_reading_is_scaling_choosing_and_standardising(world: World, unit: str, precision: str) -> None:
    person = three_runs(world, precision=precision)
    train = ~np.isin(np.arange(36), [1, 5, 14, 35])
    table = response_table(person, WANTED, fit_standardization(person, WANTED, unit=unit, train=train))
    rows = np.array([35, 0, 17, 12, 11, 24, 24, 3])

    blocks = by_hand(world, precision=precision)
    members = {"run": [[0], [1], [2]], "session": [[0, 1], [2]], "participant": [[0, 1, 2]], "none": []}[unit]
    expected = [block.copy() for block in blocks]
    for group in members:
        of_unit = np.concatenate([blocks[b][train[12 * b : 12 * b + 12]] for b in group])
        for b in group:
            expected[b] = (blocks[b] - of_unit.mean(axis=0)) / of_unit.std(axis=0)
    expected_rows = np.concatenate(expected)[rows]
    np.testing.assert_allclose(table.read(rows), expected_rows, rtol=2e-4, atol=2e-3)
    assert table.read(rows).dtype == np.float32
    assert (table.n_rows, table.n_voxels) == (36, 3)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_staged_rows_are_the_same_rows(world: World, tmp_path: Path, precision: str) -> None:
    """More than one chunk of 512 rows, and a last one that is not full."""
    person = three_runs(world, precision=precision, n=200)
    scaling = fit_standardization(person, WANTED, unit="run", train=np.ones(600, bool))
    table = response_table(person, WANTED, scaling)
    copy = staged(table, tmp_path / "rows.npy")
    rows = np.random.default_rng(0).permutation(600)
    np.testing.assert_array_equal(copy.read(rows), table.read(rows))
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), table.read(np.arange(600)))


@pytest.mark.parametrize(("n_train", "source"), [(10, "training"), (9, "transductive"), (0, "transductive")])
def test_ten_training_trials_are_enough(world: World, n_train: int, source: str) -> None:
    person = three_runs(world)
    train = np.zeros(36, bool)
    train[:n_train] = True
    found = fit_standardization(person, WANTED, unit="run", train=train).statistics[person.runs[0].key]
    values = by_hand(world, precision="float32")[0]
    used = values[:10] if source == "training" else values
    assert (found.source, found.n_trials) == (source, len(used))
    np.testing.assert_allclose(found.mean, used.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.sd, used.std(axis=0), rtol=1e-4)


def test_known_units_keep_their_statistics_and_new_ones_describe_themselves(world: World) -> None:
    person = three_runs(world)
    stored = UnitStatistics(np.full(3, 7.0, np.float32), np.full(3, 2.0, np.float32), "training", 99)
    first, second, third = (run.key for run in person.runs)
    known = Standardization("run", {first: stored, third: stored})
    found = fit_standardization(person, WANTED, unit="run", train=np.zeros(36, bool), known=known)
    assert found.statistics[first] is stored
    assert found.statistics[third] is stored
    assert found.statistics[second].source == "transductive"
    values = by_hand(world, precision="float32")
    read = response_table(person, WANTED, found).read(np.arange(36))
    np.testing.assert_allclose(read[:12], (values[0] - 7) / 2, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(read[12:24].mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(read[12:24].std(axis=0), 1, atol=2e-3)


def test_a_voxel_without_signal_in_a_run_reads_as_the_mean(world: World) -> None:
    rng = np.random.default_rng(2)
    for number, valid in ((1, [True, True]), (2, [True, False])):
        world.add(
            make_run(number=number),
            [f"{number}{k}" for k in range(12)],
            rng.normal(5, 2, (12, 2)),
            valid=valid,
        )
    person = open_responses(world.tree, "01", world.runs, kind="lss")
    voxels = np.array([0, 1])
    for unit in ("run", "participant"):
        scaling = fit_standardization(person, voxels, unit=unit, train=np.ones(24, bool))
        read = response_table(person, voxels, scaling).read(np.arange(24))
        np.testing.assert_array_equal(read[12:, 1], 0)
        np.testing.assert_allclose(read[:12, 1].mean(), 0, atol=1e-5)
        np.testing.assert_allclose(read[:12, 1].std(), 1, atol=1e-5)


def two_people(world: World, *, grid: Grid = GRID) -> list[ParticipantResponses]:
    values = np.random.default_rng(0).normal(size=(4, 4))
    world.add(make_run("01"), "abcd", values, voxels=[1, 4, 6, 8], valid=[True, True, True, False])
    world.add(make_run("02"), "abcd", values, voxels=[2, 4, 6, 8], grid=grid)
    return [
        open_responses(world.tree, p, [run], kind="lss")
        for p, run in zip(("01", "02"), world.runs, strict=True)
    ]


def test_common_space_keeps_the_intersection_and_native_space_keeps_all(world: World) -> None:
    people = two_people(world)
    common = usable_voxels(people, common_space=True)
    assert [list(one) for one in common] == [[4, 6], [4, 6]]
    native = usable_voxels(people, common_space=False)
    assert [list(one) for one in native] == [[1, 4, 6], [2, 4, 6, 8]]


def test_a_voxel_must_have_signal_in_every_run(world: World) -> None:
    values = np.ones((2, 3))
    world.add(make_run(number=1), "ab", values, voxels=[1, 2, 3], valid=[True, True, False])
    world.add(make_run(number=2), "cd", values, voxels=[1, 2, 3], valid=[False, True, True])
    person = open_responses(world.tree, "01", world.runs, kind="lss")
    assert [list(one) for one in usable_voxels([person], common_space=True)] == [[2]]


def test_no_voxel_with_signal_in_every_run_is_refused(world: World) -> None:
    world.add(make_run(number=1), "ab", np.ones((2, 2)), valid=[True, False])
    world.add(make_run(number=2), "cd", np.ones((2, 2)), valid=[False, True])
    person = open_responses(world.tree, "01", world.runs, kind="lss")
    with pytest.raises(DataError, match=r"sub-01: no voxel has a signal in every run"):
        usable_voxels([person], common_space=False)


@pytest.mark.parametrize(
    "other", [Grid((3, 4, 6), GRID.affine), Grid((3, 4, 5), np.diag([2.0, 2.0, 3.0, 1.0]))]
)
def test_other_grids_in_a_common_space_are_refused_by_name(world: World, other: Grid) -> None:
    people = two_people(world, grid=other)
    with pytest.raises(
        DataError,
        match=r"sub-02.*: its grid \(shape .*\) is not that of sub-01's responses \(shape \(3, 4, 5\)",
    ) as caught:
        usable_voxels(people, common_space=True)
    assert caught.value.hint is not None
    assert "--space" in caught.value.hint
    assert len(usable_voxels(people, common_space=False)) == 2


def test_masks_without_a_common_voxel_are_refused(world: World) -> None:
    world.add(make_run("01"), "ab", np.ones((2, 1)), voxels=[3])
    world.add(make_run("02"), "ab", np.ones((2, 1)), voxels=[4])
    people = [open_responses(world.tree, run.participant, [run], kind="lss") for run in world.runs]
    with pytest.raises(DataError, match="no voxel lies in the masks of all participants"):
        usable_voxels(people, common_space=True)


def test_runs_on_two_grids_are_refused_by_file(world: World) -> None:
    world.add(make_run(number=1), "ab", np.ones((2, 2)))
    world.add(make_run(number=2), "cd", np.ones((2, 2)), grid=Grid((5, 4, 3), GRID.affine))
    with pytest.raises(
        DataError, match=r"grids differ between runs: .*run-1.*\(3, 4, 5\).*run-2.*\(5, 4, 3\)"
    ):
        open_responses(world.tree, "01", world.runs, kind="lss")


def test_nothing_stored_is_refused(world: World) -> None:
    with pytest.raises(DataError, match="sub-01: no lss responses are stored"):
        open_responses(world.tree, "01", [make_run()], kind="lss")


@pytest.mark.parametrize("outside", [[0, 2, 5], [2, 5, 8], [2, 5, 59]])
def test_voxels_of_a_decoder_outside_the_mask_are_refused(world: World, outside: list[int]) -> None:
    person = three_runs(world)
    with pytest.raises(DataError, match=r"1 of the decoder's 3 voxels are outside the mask"):
        response_table(person, np.array(outside), Standardization("none", {}))


@pytest.mark.parametrize(
    ("group_by", "groups"), [("run", [0, 0, 1, 1, 0, 0, 1, 1]), ("stimulus", [0, 1, 0, 2, 1, 3, 0, 1])]
)
def test_rows_keep_their_participant_stimulus_and_group(
    world: World, group_by: str, groups: list[int]
) -> None:
    """The same run of both people is one group; so is a stimulus that both saw."""
    stimuli = {("01", 1): "ab", ("01", 2): "ac", ("02", 1): "bd", ("02", 2): "ab"}
    for k, ((participant, number), names) in enumerate(stimuli.items()):
        world.add(make_run(participant, number), names, np.arange(4.0).reshape(2, 2) + 10 * k)
    people = [
        open_responses(world.tree, p, [run for run in world.runs if run.participant == p], kind="lss")
        for p in ("01", "02")
    ]
    voxels = np.array([0, 1])
    labels = np.arange(8.0)[:, None]
    data = trial_data(
        people,
        [response_table(person, voxels, Standardization("none", {})) for person in people],
        [VoxelSpace(GRID, voxels, voxels, ("a", "b"))] * 2,
        common_space=True,
        labels=labels,
        label_names=("number",),
        single_label=False,
        targets=None,
        group_by=group_by,
    )
    assert "".join(data.stimulus_id) == "abacbdab"
    assert list(data.participant) == [0] * 4 + [1] * 4
    codes = {group: k for k, group in enumerate(dict.fromkeys(data.group.tolist()))}
    assert [codes[group] for group in data.group.tolist()] == groups
    read = np.concatenate(data.subset(np.array([1, 3, 6])).read())
    np.testing.assert_array_equal(read, [[2, 3], [12, 13], [30, 31]])
