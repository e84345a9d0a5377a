from __future__ import annotations

import numpy as np
import pytest

from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid, VoxelSpace
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    open_responses,
    trial_data,
    usable_voxels,
)
from clipmused_bids.stages.standardized import Standardization, response_table
from tests.stages.conftest import GRID, World, make_run


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
        [response_table(person, voxels, Standardization("none", "zscore", {})) for person in people],
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
