from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from clipmused_bids.errors import DataError
from clipmused_bids.responses.regions import cluster_regions, grid_regions


def volume(mask, region):
    out = np.full(mask.shape, -1)
    out[mask] = region
    return out


def is_contiguous(mask, region):
    image = volume(mask, region)
    return all(label(image == r)[1] == 1 for r in range(region.max() + 1))


def planted(shape=(8, 6, 4), seed=0):
    """Two slabs with a time course each, in a box."""
    generator = np.random.default_rng(seed)
    slab = np.broadcast_to((np.arange(shape[0]) >= 3)[:, None, None], shape)
    courses = generator.normal(size=(20, 2))
    mask = np.ones(shape, bool)
    return (
        courses[:, slab[mask].astype(int)] + 0.1 * generator.normal(size=(20, mask.sum())),
        mask,
        slab[mask],
    )


def test_clusters_find_planted_regions():
    responses, mask, truth = planted()
    np.testing.assert_array_equal(cluster_regions(responses, mask, n_regions=2), truth.astype(int))


def test_clusters_are_contiguous_and_do_not_change_between_calls():
    mask = np.random.default_rng(1).random((7, 7, 5)) < 0.8
    mask = label(mask)[0] == 1
    responses = np.random.default_rng(2).normal(size=(15, mask.sum()))
    first, second = (cluster_regions(responses, mask, n_regions=12) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.max() == 11
    assert is_contiguous(mask, first)
    assert list(dict.fromkeys(first)) == list(range(12))


def test_parts_that_do_not_touch_are_clustered_without_a_warning():
    mask = np.zeros((12, 4, 4), bool)
    mask[:3], mask[5:8], mask[11, 3, 3] = True, True, True
    responses = np.random.default_rng(3).normal(size=(10, mask.sum()))
    region = cluster_regions(responses, mask, n_regions=5)
    assert set(region) == set(range(5))
    # The lone voxel is nearer to the second part than to the first and can only be linked to that.
    image = volume(mask, cluster_regions(np.ones((4, mask.sum())), mask, n_regions=2))
    assert image[11, 3, 3] not in set(image[:3].ravel()) - set(image[5:8].ravel())


@pytest.mark.parametrize(("n_regions", "expected"), [(1, 1), (500, 192)])
def test_as_many_clusters_as_there_can_be(n_regions, expected):
    responses, mask, _ = planted()
    assert len(np.unique(cluster_regions(responses, mask, n_regions=n_regions))) == expected


@settings(deadline=None, max_examples=40)
@given(n_regions=st.integers(1, 30), seed=st.integers(0, 100))
def test_grid_regions_are_even_and_complete(n_regions, seed):
    mask = np.random.default_rng(seed).random((6, 5, 4)) < 0.6
    region = grid_regions(mask, n_regions=n_regions)
    counts = np.bincount(region)
    assert region.shape == (mask.sum(),)
    assert len(counts) == min(n_regions, mask.sum())
    assert counts.max() <= counts.min() + 2
    assert list(dict.fromkeys(region)) == list(range(len(counts)))


def test_grid_regions_cut_the_longest_side_in_mm():
    mask = np.ones((6, 2, 4), bool)
    along_x = volume(mask, grid_regions(mask, n_regions=2))
    along_z = volume(mask, grid_regions(mask, n_regions=2, voxel_size=(1, 1, 5)))
    assert (along_x == np.array([0, 0, 0, 1, 1, 1])[:, None, None]).all()
    assert (along_z == np.array([0, 0, 1, 1])).all()


def test_what_cannot_be_cut_is_refused():
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(DataError, match="the mask is empty"):
        grid_regions(~mask, n_regions=2)
    with pytest.raises(DataError, match="responses of 7 voxels, a mask of 8"):
        cluster_regions(np.ones((3, 7)), mask, n_regions=2)
    with pytest.raises(DataError, match="NaN"):
        cluster_regions(np.full((3, 8), np.nan), mask, n_regions=2)
