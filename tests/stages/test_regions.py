from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clipmused_bids.config import InputOptions
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import TrialData, VoxelSpace
from clipmused_bids.stages.atlas import choose_atlas
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.regions import voxel_spaces
from tests.conftest import planted_trials
from tests.stages.conftest import GRID, World, make_run

VOXELS = (np.array([0, 1, 2, 3, 10, 20]), np.array([1, 2, 3, 4, 10, 20]))


def with_atlas(world: World, atlas: str | None, *, common_space: bool = False) -> Plan:
    if not world.runs:
        for participant in ("01", "02"):
            world.add(make_run(participant), "ab", np.ones((2, 6)))
    plan = world.plan(common_space=common_space)
    return replace(plan, config=replace(plan.config, inputs=InputOptions(atlas=atlas)))


def two_people(*, common_space: bool = False) -> TrialData:
    data = planted_trials(n_participants=2, n_voxels=6, n_regions=0)
    voxels = (VOXELS[0],) * 2 if common_space else VOXELS
    spaces = tuple(VoxelSpace(GRID, own, np.full(6, -1), ()) for own in voxels)
    return replace(data, spaces=spaces, common_space=common_space)


def write_atlas(path: Path, values: dict[int, int], names: dict[int, str] | None = None) -> None:
    volume = np.zeros(GRID.shape, dtype=np.int16)
    for voxel, value in values.items():
        volume.flat[voxel] = value
    nibabel.save(nibabel.Nifti1Image(volume, GRID.affine), path)
    if names:
        rows = "".join(f"{index}\t{name}\n" for index, name in names.items())
        path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text(f"index\tname\n{rows}")


def test_regions_of_people_are_matched_by_name(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other numbers for the same names; `left` is outside the mask of one of the two and is nobody's region."""
    names = ({1: "early", 2: "left", 7: "late"}, {4: "late", 5: "early", 9: "left"})
    values = ({0: 2, 1: 1, 2: 7, 3: 7, 10: 1}, {1: 5, 3: 4, 4: 4, 20: 5, 0: 9})
    for participant, own, table in zip(("01", "02"), values, names, strict=True):
        write_atlas(tmp_path / f"sub-{participant}_dseg.nii.gz", own, table)
    plan = with_atlas(world, str(tmp_path / "sub-{participant}_dseg.nii.gz"))
    with caplog.at_level(logging.INFO):
        first, second = voxel_spaces(two_people(), choose_atlas(plan))
    assert first.region_names == second.region_names == ("early", "late")
    assert first.region.tolist() == [-1, 0, 1, 1, 0, -1]
    assert second.region.tolist() == [0, -1, 1, 1, -1, 0]
    assert "1 region(s) of the atlas are missing in some participant's mask" in caplog.text
    assert "2 of the atlas; 4 of 6 voxels lie in one" in caplog.text


def test_one_atlas_serves_everyone_in_a_common_space(world: World, tmp_path: Path) -> None:
    write_atlas(tmp_path / "a_dseg.nii.gz", {0: 3, 1: 3, 10: 8, 40: 9})
    plan = with_atlas(world, str(tmp_path / "a_dseg.nii.gz"), common_space=True)
    for space in voxel_spaces(two_people(common_space=True), choose_atlas(plan)):
        assert space.region_names == ("region-3", "region-8")
        assert space.region.tolist() == [0, 0, -1, -1, 1, -1]


def test_a_single_region_is_no_set_of_patches(world: World, tmp_path: Path) -> None:
    write_atlas(tmp_path / "sub-01_dseg.nii.gz", {0: 1, 1: 2})
    write_atlas(tmp_path / "sub-02_dseg.nii.gz", {1: 2, 2: 3})
    plan = with_atlas(world, str(tmp_path / "sub-{participant}_dseg.nii.gz"))
    with pytest.raises(DataError, match=r"the atlas has 1 region\(s\) inside the masks of all"):
        voxel_spaces(two_people(), choose_atlas(plan))


@pytest.mark.parametrize("atlas", ["grid:4", "clusters:4"])
def test_made_regions_need_a_common_space(world: World, atlas: str) -> None:
    with pytest.raises(UsageError, match="native space, where made regions of two people do not correspond"):
        voxel_spaces(two_people(), choose_atlas(with_atlas(world, atlas)))


def test_boxes_are_the_same_for_everyone_and_cover_the_mask(world: World) -> None:
    data = two_people(common_space=True)
    first, second = voxel_spaces(data, choose_atlas(with_atlas(world, "grid:3", common_space=True)))
    np.testing.assert_array_equal(first.region, second.region)
    assert np.bincount(first.region).tolist() == [2, 2, 2]
    assert first.region_names == ("box1", "box2", "box3")


@pytest.mark.parametrize("atlas", [None, "clusters:3"])
def test_clusters_are_left_to_the_decoder(world: World, atlas: str | None) -> None:
    """It makes them from its training responses, so nothing else can have a say."""
    data = two_people(common_space=True)
    assert voxel_spaces(data, choose_atlas(with_atlas(world, atlas, common_space=True))) is data.spaces
