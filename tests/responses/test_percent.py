from __future__ import annotations

import numpy as np
import pytest

from clipmused_bids.errors import DataError
from clipmused_bids.responses.percent import percent_scale


def test_scale_is_a_hundred_over_the_mean_of_the_kept_scans():
    bold = np.random.default_rng(0).normal(1000, 10, size=(50, 4)).astype(np.float32)
    bold[:3] = 5000
    scans = np.arange(3, 50)
    scale, valid = percent_scale(bold, valid=np.ones(4, bool), sample_mask=scans, voxel_block=3)
    np.testing.assert_allclose(scale, 100 / bold[3:].mean(axis=0), rtol=1e-5)
    assert valid.all()


@pytest.mark.parametrize("content", [np.nan, np.inf, 0.0, 700.1, -700.0])
def test_voxels_without_signal_are_not_valid(content):
    generator = np.random.default_rng(0)
    bold = generator.normal(1000, 10, size=(50, 5))
    bold[:, 2] = content if content != -700.0 else generator.normal(-700, 10, size=50)
    scale, valid = percent_scale(bold, valid=np.array([1, 1, 1, 0, 1], bool), sample_mask=np.arange(50))
    np.testing.assert_array_equal(valid, [True, True, False, False, True])
    np.testing.assert_array_equal(scale[[2, 3]], 0)


def test_a_demeaned_image_is_refused():
    bold = np.random.default_rng(0).normal(0, 10, size=(50, 100))
    with pytest.raises(
        DataError, match=r"of 100 voxels vary around a positive mean(.|\n)*hint: .*not demeaned"
    ):
        percent_scale(bold - bold.mean(axis=0) + 1e-6, valid=np.ones(100, bool), sample_mask=np.arange(50))


def test_no_scan_left_is_refused():
    with pytest.raises(DataError, match="no scan is left"):
        percent_scale(np.ones((5, 2)), valid=np.ones(2, bool), sample_mask=np.array([], dtype=int))
