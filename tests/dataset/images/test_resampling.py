"""Against nilearn's resampling of whole images."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import resample_img

from clipmused_bids.dataset.images import nifti_stream
from clipmused_bids.dataset.images.masks import participant_mask
from clipmused_bids.dataset.images.resampling import (
    linear_on_grid,
    nearest_on_grid,
    share_in_view,
    voxel_coordinates,
)
from clipmused_bids.dataset.images.series import read_bold, read_grid
from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid, Run

SOURCE = Grid((7, 6, 5), np.array([[-3.0, 0, 0, 10], [0, 3, 0, -8], [0, 0, 3.5, -6], [0, 0, 0, 1]]))
# Finer, turned a little, and reaching beyond the source on one side.
TARGET = Grid(
    (10, 9, 8), np.array([[2.0, 0.1, 0, -7.13], [-0.1, 2, 0, -9.07], [0, 0, 2.2, -5.21], [0, 0, 0, 1]])
)

MNI = np.array([[-1.7, 0, 0, 90.3], [0, 1.7, 0, -126.1], [0, 0, 1.7, -72.7], [0, 0, 0, 1]])


def save(path: Path, values: np.ndarray, grid: Grid) -> Path:
    nibabel.Nifti1Image(values, grid.affine).to_filename(path)
    return path


def run_of(image: Path, mask: Path | None = None, kind: str = "bold") -> Run:
    return Run("01", None, "x", None, {}, None, image, kind, mask=mask)  # type: ignore[arg-type]


def by_nilearn(path: Path, target: Grid, interpolation: str) -> np.ndarray:
    moved = resample_img(
        nibabel.load(path), target_affine=target.affine, target_shape=target.shape,
        interpolation=interpolation, force_resample=True, copy_header=True,
    )  # fmt: skip
    return np.asarray(moved.dataobj)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_series_at_the_masks_voxels_are_nilearns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    # Two volumes a block, so that blocks and their rest are met.
    monkeypatch.setattr(nifti_stream, "CHUNK_BYTES", 2 * 210 * np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    values = rng.normal(100, 10, size=(*SOURCE.shape, 5)).astype(dtype)
    path = save(tmp_path / "x.nii.gz", values, SOURCE)
    mask = rng.random(TARGET.shape) > 0.3
    read = read_bold(run_of(path), mask, TARGET, other_grid="resample")
    floats = save(tmp_path / "f.nii.gz", values.astype(np.float32), SOURCE)
    expected = by_nilearn(floats, TARGET, "linear")[mask].T
    np.testing.assert_allclose(read.values, expected, rtol=1e-4, atol=1e-3)
    outside = (expected == 0).all(axis=0)
    assert 0 < outside.mean() < 0.9
    np.testing.assert_array_equal(read.valid, ~outside)
    with pytest.raises(DataError, match=r"x\.nii\.gz: its grid .* is not that of the mask"):
        read_bold(run_of(path), mask, TARGET)


def test_an_image_on_the_grid_is_read_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(*SOURCE.shape, 4)).astype(np.float32)
    path = save(tmp_path / "x.nii.gz", values, SOURCE)
    mask = np.ones(SOURCE.shape, dtype=bool)
    read = read_bold(run_of(path), mask, SOURCE, other_grid="resample")
    np.testing.assert_array_equal(read.values, values[mask].T)


def test_nan_reaches_no_farther_than_its_neighbours(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(*SOURCE.shape, 4)).astype(np.float32)
    values[3, 3, 2, 1] = np.nan
    path = save(tmp_path / "x.nii.gz", values, SOURCE)
    mask = np.ones(TARGET.shape, dtype=bool)
    places = voxel_coordinates(SOURCE, TARGET, mask)
    near = (np.abs(places - np.array([3, 3, 2])[:, None]) < 1).all(axis=0)
    in_view = ((places >= 0) & (places <= np.array(SOURCE.shape)[:, None] - 1)).all(axis=0)
    read = read_bold(run_of(path), mask, TARGET, other_grid="resample")
    assert read.n_nonfinite == near.sum() > 0
    np.testing.assert_array_equal(read.valid, in_view & ~near)


def test_masks_and_means_are_nilearns(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    inside = rng.random(SOURCE.shape) > 0.5
    labels = save(tmp_path / "m.nii.gz", inside.astype(np.uint8), SOURCE)
    moved = nearest_on_grid(inside, SOURCE, TARGET)
    assert moved.dtype == bool
    places = voxel_coordinates(SOURCE, TARGET, np.ones(TARGET.shape, dtype=bool)).reshape(3, *TARGET.shape)
    last = np.array(SOURCE.shape)[:, None, None, None] - 1
    # nilearn leaves out what lies beyond the centres of the outermost voxels.
    within = ((places >= 0) & (places <= last)).all(axis=0)
    np.testing.assert_array_equal(moved & within, by_nilearn(labels, TARGET, "nearest") > 0)
    in_voxels = ((places >= -0.5) & (places < last + 0.5)).all(axis=0)
    assert (moved & ~within).any()
    assert not (moved & ~in_voxels).any()
    signal = rng.normal(size=SOURCE.shape).astype(np.float32)
    path = save(tmp_path / "s.nii.gz", signal, SOURCE)
    np.testing.assert_allclose(
        linear_on_grid(signal, SOURCE, TARGET), by_nilearn(path, TARGET, "linear"), atol=1e-5
    )


@settings(deadline=None, max_examples=20)
@given(
    shift=st.tuples(*[st.integers(-2, 2)] * 3),
    flip=st.booleans(),
    affine=st.sampled_from([SOURCE.affine, TARGET.affine, MNI]),
)
def test_whole_voxel_shifts_move_values_and_change_none(
    shift: tuple[int, int, int], flip: bool, affine: np.ndarray
) -> None:
    """A grid that is moved by whole voxels, and perhaps mirrored, meets the voxels themselves."""
    source = Grid(SOURCE.shape, affine)
    values = np.arange(1, 211, dtype=np.float32).reshape(SOURCE.shape)
    turn = np.eye(4)
    turn[:3, 3] = shift
    if flip:
        turn[0, 0], turn[0, 3] = -1, SOURCE.shape[0] - 1 - shift[0]
    target = Grid(SOURCE.shape, source.affine @ turn)
    expected = np.zeros_like(values)
    for place in np.ndindex(*SOURCE.shape):
        own = (turn @ np.array([*place, 1.0]))[:3].astype(int)
        if (own >= 0).all() and (own < SOURCE.shape).all():
            expected[place] = values[tuple(own)]
    np.testing.assert_allclose(linear_on_grid(values, source, target), expected, rtol=1e-5)
    np.testing.assert_array_equal(nearest_on_grid(values.astype(int), source, target), expected.astype(int))


def test_the_share_in_view_is_counted_to_the_voxels_edges() -> None:
    moved = SOURCE.affine.copy()
    moved[:3, 3] += 1.4 * SOURCE.affine[:3, 0]
    everywhere = np.ones(SOURCE.shape, dtype=bool)
    assert share_in_view(SOURCE, Grid(SOURCE.shape, moved), everywhere) == pytest.approx(6 / 7)
    moved[:3, 3] += 0.2 * SOURCE.affine[:3, 0]
    assert share_in_view(SOURCE, Grid(SOURCE.shape, moved), everywhere) == pytest.approx(5 / 7)


@pytest.mark.parametrize("kind", ["masks", "betas"])
def test_masks_of_runs_on_two_grids_meet_on_the_target(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(5)
    head = np.zeros(TARGET.shape, dtype=bool)
    head[3:8, 2:7, 2:6] = True
    runs = []
    for k, grid in enumerate((SOURCE, TARGET)):
        inside = nearest_on_grid(head, TARGET, grid)
        values = (rng.normal(500, 5, size=(*grid.shape, 6)) * inside[..., None]).astype(np.float32)
        image = save(tmp_path / f"{k}_bold.nii.gz", values, grid)
        mask = save(tmp_path / f"{k}_mask.nii.gz", inside.astype(np.uint8), grid)
        runs.append(run_of(image, mask) if kind == "masks" else run_of(image, kind="betas"))
    grid, found = participant_mask(runs, mask=None, target=TARGET)
    assert grid is TARGET
    back = by_nilearn(tmp_path / "0_mask.nii.gz", TARGET, "nearest") > 0
    np.testing.assert_array_equal(found, back & head)
    assert 0 < found.sum() < head.sum()
    with pytest.raises(DataError, match="its grid"):
        participant_mask(runs, mask=None)


def test_a_computed_mask_is_found_on_the_target(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    grids = [Grid((24, 24, 16), np.diag([3.0, 3, 3, 1])), Grid((30, 30, 20), np.diag([2.5, 2.5, 2.5, 1]))]

    def head(grid: Grid) -> np.ndarray:
        places = (np.indices(grid.shape) + 0.5) * grid.affine[0, 0] - np.array([36, 36, 24])[
            :, None, None, None
        ]
        return (places**2).sum(axis=0) < 21**2

    runs = []
    for k, grid in enumerate(grids):
        values = rng.normal(0, 5, size=(*grid.shape, 12)) + 600 * head(grid)[..., None]
        runs.append(run_of(save(tmp_path / f"{k}.nii.gz", values.astype(np.float32), grid)))
    _, found = participant_mask(runs, mask=None, target=grids[1])
    expected = head(grids[1])
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.8


def test_the_grid_read_back_is_the_one_written(tmp_path: Path) -> None:
    assert read_grid(save(tmp_path / "g.nii.gz", np.zeros(TARGET.shape, np.int16), TARGET)).agrees_with(
        TARGET
    )
