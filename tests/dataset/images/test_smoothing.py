from __future__ import annotations

import nibabel
import numpy as np
import pytest
from nilearn.image import smooth_img

from clipmused_bids.dataset.images import nifti_stream
from clipmused_bids.dataset.images.series import read_bold, read_grid
from clipmused_bids.records import Run

SHAPE = (11, 9, 7)
TURN = np.array([[0.8, -0.6, 0.0, 3.0], [0.6, 0.8, 0.0, -4.0], [0.0, 0.0, 1.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
AFFINES = {
    "isotropic": np.diag([2.0, 2.0, 2.0, 1.0]),
    "anisotropic": np.diag([1.5, 2.0, 4.0, 1.0]),
    "flipped": np.diag([-3.0, 3.0, 3.5, 1.0]),
    "oblique": TURN @ np.diag([1.5, 2.5, 3.5, 1.0]),
}


def run_of(path) -> Run:
    return Run("01", None, "x", None, {}, None, path, "bold")


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("fwhm", [1.0, 5.0, 12.0])
def test_smoothed_volumes_are_nilearns(tmp_path, monkeypatch, affine, fwhm):
    monkeypatch.setattr(nifti_stream, "CHUNK_BYTES", 2 * 4 * np.prod(SHAPE))  # two volumes a block, then one
    rng = np.random.default_rng(0)
    values = rng.normal(100, 20, size=(*SHAPE, 5)).astype(np.float32)
    path = tmp_path / "x.nii.gz"
    nibabel.Nifti1Image(values, AFFINES[affine]).to_filename(path)
    mask = rng.random(SHAPE) > 0.5
    read = read_bold(run_of(path), mask, read_grid(path), smoothing_fwhm=fwhm)
    expected = smooth_img(str(path), fwhm).get_fdata()[mask].T
    np.testing.assert_allclose(read.values, expected, rtol=1e-5)
    unsmoothed = read_bold(run_of(path), mask, read_grid(path)).values
    np.testing.assert_array_equal(unsmoothed, values[mask].T)


def test_scaled_integers_are_smoothed_as_the_numbers_they_stand_for(tmp_path):
    values = np.random.default_rng(1).integers(0, 4000, size=(*SHAPE, 3)).astype(np.int16)
    image = nibabel.Nifti1Image(values, AFFINES["anisotropic"])
    image.header.set_slope_inter(0.5, -100)
    image.to_filename(tmp_path / "x.nii")
    mask = np.ones(SHAPE, dtype=bool)
    read = read_bold(run_of(tmp_path / "x.nii"), mask, read_grid(tmp_path / "x.nii"), smoothing_fwhm=6.0)
    expected = smooth_img(str(tmp_path / "x.nii"), 6.0).get_fdata().reshape(-1, 3).T
    np.testing.assert_allclose(read.values, expected, rtol=1e-4, atol=1e-2)


def test_nan_counts_as_zero_for_its_neighbours_and_stays_bad_itself(tmp_path):
    """Outside the mask it takes part in smoothing, as in nilearn; inside, its voxel is left out and counted."""
    rng = np.random.default_rng(2)
    values = rng.normal(100, 5, size=(*SHAPE, 4)).astype(np.float32)
    values[3, 3, 3, 2] = np.nan
    values[4, 4, 4, 1] = -np.inf
    values[0, 0, 0] = 50  # constant as stored; varies only by what its neighbours add
    path = tmp_path / "x.nii.gz"
    nibabel.Nifti1Image(values, AFFINES["isotropic"]).to_filename(path)
    mask = np.ones(SHAPE, dtype=bool)
    mask[4, 4, 4] = False
    read = read_bold(run_of(path), mask, read_grid(path), smoothing_fwhm=5.0)
    assert (read.n_nonfinite, read.n_constant) == (1, 1)
    whole = np.zeros(SHAPE, dtype=bool)
    whole[mask] = ~read.valid
    assert np.argwhere(whole).tolist() == [[0, 0, 0], [3, 3, 3]]
    expected = smooth_img(str(path), 5.0).get_fdata()[mask].T
    np.testing.assert_allclose(read.values, expected, rtol=1e-5)
