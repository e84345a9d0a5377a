from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clipmused_bids.dataset.images.maps import encode_map, write_map
from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid

# Axes of unequal length, one of them backwards: a transposed or mirrored map would be seen.
GRID = Grid((2, 3, 4), np.array([[-2.0, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]]))
VOXELS = np.array([1, 7, 23])
VALUES = np.array([0.5, -1.25, 99.0])


def test_each_value_lies_at_its_voxel(tmp_path: Path) -> None:
    path = tmp_path / "sub-01" / "func" / "sub-01_desc-x_statmap.nii.gz"
    write_map(path, VALUES, voxels=VOXELS, grid=GRID, space="T1w", sidecar={"Units": "percent"})
    image = nibabel.load(path)
    found = np.asarray(image.dataobj)
    expected = np.zeros(GRID.shape)
    for place, value in (((0, 0, 1), 0.5), ((0, 1, 3), -1.25), ((1, 2, 3), 99.0)):
        expected[place] = value
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    np.testing.assert_allclose(image.affine, GRID.affine)
    assert json.loads((path.parent / "sub-01_desc-x_statmap.json").read_text()) == {"Units": "percent"}
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "sub-01_desc-x_statmap.json",
        "sub-01_desc-x_statmap.nii.gz",
    ]


@pytest.mark.parametrize(
    ("space", "code"), [("MNI152NLin2009cAsym", 4), ("MNI152NLin6Asym", 4), ("T1w", 1), (None, 1)]
)
def test_coordinates_are_those_of_the_space(tmp_path: Path, space: str | None, code: int) -> None:
    write_map(tmp_path / "m.nii.gz", VALUES, voxels=VOXELS, grid=GRID, space=space, sidecar={})
    header = nibabel.load(tmp_path / "m.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (code, code)
    assert header.get_xyzt_units()[0] == "mm"


def test_the_bytes_hold_no_time() -> None:
    content = encode_map(VALUES, voxels=VOXELS, grid=GRID, space=None)
    assert content[4:8] == bytes(4)
    assert content == encode_map(VALUES, voxels=VOXELS, grid=GRID, space=None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match="1 of 3 values of a map are not finite"):
        write_map(
            tmp_path / "m.nii.gz", np.array([1, value, 2]), voxels=VOXELS, grid=GRID, space=None, sidecar={}
        )
    assert list(tmp_path.iterdir()) == []
