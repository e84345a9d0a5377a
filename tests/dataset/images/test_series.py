from __future__ import annotations

import gzip
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.dataset.images import nifti_stream
from clipmused_bids.dataset.images.masks import participant_mask
from clipmused_bids.dataset.images.series import read_bold, read_grid, read_mask
from clipmused_bids.errors import DataError, MissingInputError, UsageError
from clipmused_bids.records import Run

AFFINE = np.diag([3.0, 3.0, 3.5, 1.0])
SHAPE = (5, 4, 3)


def save(path: Path, values: np.ndarray, *, affine=AFFINE, tr=2.0, unit="sec") -> Path:
    image = nibabel.Nifti1Image(values, affine)
    if values.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        image.header.set_xyzt_units("mm", unit)
    image.to_filename(path)
    return path


def run_of(image: Path, *, mask: Path | None = None, kind="bold", session=None) -> Run:
    return Run("01", session, "x", None, {}, None, image, kind, mask=mask)


@pytest.fixture
def series(rng) -> np.ndarray:
    return rng.normal(100, 10, size=(*SHAPE, 7)).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_masked_values_are_nibabels(tmp_path, rng, monkeypatch, dtype, extension):
    # Two volumes a block, so that blocks and their rest are met.
    monkeypatch.setattr(nifti_stream, "CHUNK_BYTES", 2 * 60 * np.dtype(dtype).itemsize)
    values = rng.integers(0, 200, size=(*SHAPE, 7)).astype(dtype)
    path = tmp_path / f"x{extension}"
    image = nibabel.Nifti1Image(values, AFFINE)
    if np.dtype(dtype).kind in "iu":
        image.header.set_slope_inter(0.25, -3)
    image.to_filename(path)
    mask = rng.random(SHAPE) > 0.4
    read = read_bold(run_of(path), mask, read_grid(path))
    expected = nibabel.load(path).get_fdata()[mask].T
    np.testing.assert_allclose(read.values, expected, rtol=1e-6)
    assert read.values.dtype == np.float32
    assert read.valid.all()


@given(slope=st.floats(1e-3, 1e3), inter=st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=15)
def test_scaling_is_nibabels(tmp_path_factory, slope, inter):
    path = tmp_path_factory.mktemp("s") / "x.nii"
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 2, 2), AFFINE)
    image.header.set_slope_inter(slope, inter)
    image.to_filename(path)
    read = read_bold(run_of(path), np.ones((2, 3, 2), dtype=bool), read_grid(path))
    expected = nibabel.load(path).get_fdata().reshape(-1, 2).T
    np.testing.assert_allclose(read.values, expected, rtol=1e-5, atol=1e-3)


def test_few_bad_voxels_are_left_out_and_counted(tmp_path, rng, caplog):
    values = rng.normal(size=(10, 10, 2, 6)).astype(np.float32)
    values[0, 0, 0, 3] = np.nan
    values[1, 0, 0, 2] = np.inf
    values[2, 0, 0] = 7
    path = save(tmp_path / "x.nii.gz", values)
    read = read_bold(run_of(path), np.ones((10, 10, 2), dtype=bool), read_grid(path))
    assert (read.n_nonfinite, read.n_constant, int((~read.valid).sum())) == (2, 1, 3)
    assert np.isfinite(read.values).all()
    assert [int(k) for k in np.flatnonzero(~read.valid)] == [0, 20, 40]
    assert "2 hold NaN or infinite values and 1 never change" in caplog.text


def test_many_bad_voxels_are_refused_unless_outside_the_mask(tmp_path, series):
    series[0, 0] = np.nan
    path = save(tmp_path / "x.nii.gz", series)
    mask = np.ones(SHAPE, dtype=bool)
    with pytest.raises(DataError, match=r"x\.nii\.gz: 5\.0% of the voxels .* NaN|x\.nii\.gz: .*NaN"):
        read_bold(run_of(path), mask[:, :, :] & (np.arange(5)[:, None, None] < 2), read_grid(path))
    mask[0, 0] = False
    assert read_bold(run_of(path), mask, read_grid(path)).valid.all()


@pytest.mark.parametrize("value", [0, 1000])
def test_constant_images_are_refused_by_name(tmp_path, value):
    path = save(tmp_path / "flat_bold.nii.gz", np.full((*SHAPE, 5), value, dtype=np.int16))
    with pytest.raises(DataError, match=r"flat_bold\.nii\.gz: the image is constant"):
        read_bold(run_of(path), np.ones(SHAPE, dtype=bool), read_grid(path))


def test_three_axes_are_refused(tmp_path, series):
    path = save(tmp_path / "still.nii.gz", series[..., 0])
    with pytest.raises(
        DataError, match=r"still\.nii\.gz: 3-D image of shape \(5, 4, 3\); a 4-D series was expected"
    ):
        read_bold(run_of(path), np.ones(SHAPE, dtype=bool), read_grid(path))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_truncated_gzip_is_refused_by_name(tmp_path, series, kept):
    path = save(tmp_path / "cut_bold.nii.gz", series)
    raw = path.read_bytes()
    grid = read_grid(path)
    path.write_bytes(raw[: int(kept * len(raw))])
    with pytest.raises(DataError, match=r"cut_bold\.nii\.gz: the image is truncated or damaged"):
        read_bold(run_of(path), np.ones(SHAPE, dtype=bool), grid)


def test_a_wrong_checksum_is_noticed_though_all_volumes_are_there(tmp_path, series):
    path = save(tmp_path / "crc.nii.gz", series)
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"crc\.nii\.gz: .*CRC check failed"):
        read_bold(run_of(path), np.ones(SHAPE, dtype=bool), read_grid(path))


def test_uncompressed_and_not_an_image(tmp_path, series):
    path = save(tmp_path / "cut.nii", series)
    grid = read_grid(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.nii: the image is truncated or damaged"):
        read_bold(run_of(path), np.ones(SHAPE, dtype=bool), grid)
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no image"))
    with pytest.raises(DataError, match=r"text\.nii\.gz"):
        read_grid(tmp_path / "text.nii.gz")
    with pytest.raises(MissingInputError, match=r"gone\.nii\.gz"):
        read_grid(tmp_path / "gone.nii.gz")


def test_an_affine_of_zeros_is_refused(tmp_path, series):
    path = save(tmp_path / "zero.nii.gz", series)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[252:256] = (0).to_bytes(2, "little") + (1).to_bytes(2, "little")  # qform_code, sform_code
    raw[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(DataError, match=r"zero\.nii\.gz: the affine does not place voxels"):
        read_grid(path)


def test_another_grid_is_refused_with_both(tmp_path, series):
    path = save(tmp_path / "x.nii.gz", series)
    moved = AFFINE.copy()
    moved[0, 3] = 0.01
    mask = save(tmp_path / "m.nii.gz", np.ones(SHAPE, dtype=np.uint8), affine=moved)
    grid, inside = read_mask(mask)
    with pytest.raises(
        DataError, match=r"x\.nii\.gz: its grid .*3 0 0 0;.* is not that of the mask .*3 0 0 0\.01;"
    ):
        read_bold(run_of(path), inside, grid)


@pytest.mark.parametrize(
    ("tr", "unit", "expected"),
    [(2.0, "sec", 2.0), (700, "msec", 0.7), (1.0, "unknown", None), (0.0, "sec", None)],
)
def test_repetition_time_of_the_header(tmp_path, series, tr, unit, expected):
    path = save(tmp_path / "x.nii.gz", series, tr=tr, unit=unit)
    assert read_bold(run_of(path), np.ones(SHAPE, dtype=bool), read_grid(path)).repetition_time == expected


def test_masks_of_runs_are_intersected(tmp_path, series, caplog):
    image = save(tmp_path / "x.nii.gz", series)
    first, second = np.zeros(SHAPE, dtype=np.uint8), np.zeros(SHAPE, dtype=np.uint8)
    first[:3], second[2:] = 1, 1
    runs = [run_of(image, mask=save(tmp_path / f"m{k}.nii.gz", m)) for k, m in enumerate((first, second))]
    with caplog.at_level(logging.INFO):
        _, inside = participant_mask(runs, mask=None)
    assert (inside == (first & second).astype(bool)).all()
    assert "12 voxels in all of 2 masks (20 % of all)" in caplog.text
    runs[1] = run_of(image, mask=save(tmp_path / "m2.nii.gz", 1 - first))
    with pytest.raises(DataError, match="no voxel in common"):
        participant_mask(runs, mask=None)


def test_given_masks_and_patterns(tmp_path, series):
    run = run_of(save(tmp_path / "x.nii.gz", series), session="b")
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[1] = 1
    save(tmp_path / "sub-01_b.nii.gz", values)
    _, inside = participant_mask([run], mask=str(tmp_path / "sub-{participant}_{session}.nii.gz"))
    assert inside.sum() == 12
    with pytest.raises(
        UsageError, match=r"--mask .*\{subject\}.*\nhint: fields are \{participant\}, \{session\}"
    ):
        participant_mask([run], mask="{subject}.nii.gz")
    with pytest.raises(MissingInputError, match=r"none\.nii\.gz"):
        participant_mask([run], mask=str(tmp_path / "none.nii.gz"))
    empty = save(tmp_path / "empty.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    with pytest.raises(DataError, match=r"empty\.nii\.gz: the mask is empty"):
        participant_mask([run], mask=str(empty))
    small = save(tmp_path / "small.nii.gz", np.ones((2, 2, 2), dtype=np.uint8))
    with pytest.raises(
        DataError,
        match=r"x\.nii\.gz: its grid \(shape \(5, 4, 3\).* is not that of small\.nii\.gz \(shape \(2, 2, 2\)",
    ):
        participant_mask([run], mask=str(small))


def test_betas_without_a_mask_use_what_is_finite_and_varies(tmp_path, series):
    series[0, 0, 0] = 0
    series[1, 0, 0, 2] = np.nan
    second = series.copy()
    second[4, 3, 2] = 5
    runs = [run_of(save(tmp_path / f"{k}.nii.gz", v), kind="betas") for k, v in enumerate((series, second))]
    _, inside = participant_mask(runs, mask=None)
    expected = np.ones(SHAPE, dtype=bool)
    expected[0, 0, 0] = expected[1, 0, 0] = expected[4, 3, 2] = False
    assert (inside == expected).all()


def test_without_any_mask_the_head_is_found(tmp_path, rng):
    axes = np.indices((24, 24, 16)) - np.array([12, 12, 8])[:, None, None, None]
    head = (axes**2).sum(axis=0) < 49
    values = rng.normal(0, 5, size=(24, 24, 16, 12)) + 600 * head[..., None]
    _, inside = participant_mask([run_of(save(tmp_path / "x.nii.gz", values.astype(np.float32)))], mask=None)
    overlap = 2 * (inside & head).sum() / (inside.sum() + head.sum())
    assert overlap > 0.8
