from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import run_glm
from scipy.signal import lfilter

from clipmused_bids.responses.autocorrelation import autocorrelation, weights_for_unwhitened, whitened
from clipmused_bids.responses.projection import orthonormal_basis


def autoregressive(coefficients, *, n_scans=200, seed=0):
    generator = np.random.default_rng(seed)
    steps = generator.normal(size=(n_scans, len(coefficients)))
    return np.column_stack(
        [lfilter([1], [1, -c], step) for c, step in zip(coefficients, steps.T, strict=True)]
    )


@pytest.fixture
def design():
    generator = np.random.default_rng(1)
    return np.column_stack([np.ones(200), np.linspace(-1, 1, 200), generator.normal(size=(200, 4))])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("voxel_block", [7, 4096])
def test_coefficients_are_nilearns(design, dtype, voxel_block):
    bold = (1000 + 30 * autoregressive(np.linspace(-0.5, 0.9, 50))).astype(dtype)
    scans = np.delete(np.arange(200), [0, 1, 50, 51, 52, 120])
    labels, _ = run_glm(bold[scans].astype(np.float64), design[scans], noise_model="ar1")
    found = autocorrelation(
        bold, orthonormal_basis(design[scans]), sample_mask=scans, voxel_block=voxel_block
    )
    np.testing.assert_array_equal(found, np.rint(100 * labels.astype(float)))
    assert len(set(found)) > 30
    assert found.min() < 0


def test_planted_coefficients_come_back(design):
    planted = np.repeat([0.0, 0.3, 0.6, -0.4], 200)
    bold = 500 + autoregressive(planted)
    found = autocorrelation(bold, orthonormal_basis(design), sample_mask=np.arange(200)) / 100
    for coefficient in (0.0, 0.3, 0.6, -0.4):
        # Residuals of a fit are a little less autocorrelated than the noise.
        assert found[planted == coefficient].mean() == pytest.approx(coefficient, abs=0.05)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_level_counts_where_the_design_has_no_constant(design, dtype):
    bold = (3 + autoregressive([0.2, 0.5])).astype(dtype)
    basis = orthonormal_basis(design[:, 1:])
    residuals = bold - basis @ (basis.T @ bold)
    expected = (residuals[1:] * residuals[:-1]).sum(0) / 199 / ((residuals**2).sum(0) / 200)
    assert (expected > 0.85).all()
    found = autocorrelation(bold, basis, sample_mask=np.arange(200))
    np.testing.assert_array_equal(found, (100 * expected).astype(int))


def test_voxels_without_a_signal_have_no_coefficient(design):
    bold = 100 + autoregressive([0.5, 0.5, 0.5, 0.5])
    bold[:, 1], bold[3, 2], bold[5, 3] = 0.0, np.nan, np.inf
    found = autocorrelation(bold, orthonormal_basis(design), sample_mask=np.arange(200))
    assert found[0] > 30
    np.testing.assert_array_equal(found[1:], 0)


@settings(deadline=None, max_examples=30)
@given(coefficient=st.floats(-0.99, 0.99), seed=st.integers(0, 99))
def test_weights_take_the_whitening_along(coefficient, seed):
    generator = np.random.default_rng(seed)
    weights, data = generator.normal(size=(3, 12)), generator.normal(size=(12, 2))
    filtered = lfilter([1, -coefficient], [1], data, axis=0)
    np.testing.assert_allclose(whitened(data, coefficient), filtered, atol=1e-12)
    np.testing.assert_allclose(
        weights_for_unwhitened(weights, coefficient) @ data, weights @ filtered, atol=1e-12
    )
