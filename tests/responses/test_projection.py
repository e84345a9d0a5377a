from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.errors import DesignError
from clipmused_bids.responses.projection import orthonormal_basis, remove_subspace, weigh_voxels


def awkward_confounds(generator, n_scans=80):
    """Copies, an empty column, a sum of others, and scales from 1e-6 to 1e6."""
    base = generator.normal(size=(n_scans, 5)) * np.array([1e-6, 1e-3, 1.0, 1e3, 1e6])
    return np.column_stack(
        [
            np.zeros(n_scans),
            base,
            base[:, 2],
            base[:, 0] * 7,
            np.ones(n_scans),
            base[:, 1] + base[:, 2],
            np.ones(n_scans),
        ]
    )


def test_rank_deficient_nuisance_leaves_the_least_squares_residual():
    generator = np.random.default_rng(0)
    nuisance, signal = awkward_confounds(generator), generator.normal(size=(80, 4))
    basis = orthonormal_basis(nuisance)
    unit = nuisance[:, 1:] / np.linalg.norm(nuisance[:, 1:], axis=0)
    expected = signal - unit @ np.linalg.lstsq(unit, signal, rcond=1e-12)[0]
    assert basis.shape == (80, 6)
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(remove_subspace(signal, basis), expected, atol=1e-11)


@pytest.mark.parametrize("n_columns", [0, 3])
def test_empty_columns_span_nothing(n_columns):
    basis = orthonormal_basis(np.zeros((10, n_columns)))
    signal = np.arange(20.0).reshape(10, 2)
    assert basis.shape == (10, 0)
    np.testing.assert_array_equal(remove_subspace(signal, basis), signal)


@settings(deadline=None, max_examples=40)
@given(voxel_block=st.integers(1, 40), seed=st.integers(0, 1000))
def test_blocks_of_voxels_do_not_change_the_product(voxel_block, seed):
    generator = np.random.default_rng(seed)
    bold, weights = generator.normal(size=(12, 23)).astype(np.float32), generator.normal(size=(3, 9))
    scans = np.array([1, 2, 3, 4, 5, 7, 8, 10, 11])
    out = weigh_voxels(weights, bold, sample_mask=scans, voxel_block=voxel_block)
    assert out.dtype == np.float32
    expected = weights @ bold[scans]
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_weights_for_another_image_are_refused():
    with pytest.raises(DesignError, match="kept scans up to scan 9; the image has 8"):
        weigh_voxels(np.ones((2, 10)), np.ones((8, 3)), sample_mask=np.arange(10))
    with pytest.raises(DesignError, match="10 rows for 8 kept scans"):
        weigh_voxels(np.ones((2, 10)), np.ones((8, 3)), sample_mask=np.arange(8))


def test_a_memory_map_is_read_block_by_block(tmp_path):
    values = np.random.default_rng(1).normal(size=(6, 100)).astype(np.float32)
    stored = np.lib.format.open_memmap(tmp_path / "bold.npy", mode="w+", dtype=np.float32, shape=values.shape)
    stored[:] = values
    weights = np.eye(6)[[0, 5]]
    out = weigh_voxels(weights, stored, sample_mask=np.arange(6), voxel_block=7)
    np.testing.assert_allclose(out, values[[0, 5]], atol=3e-7)
