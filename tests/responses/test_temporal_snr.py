"""Temporal signal-to-noise ratio against numpy's own line, on every voxel by itself."""

import numpy as np
import pytest

from clipmused_bids.responses.temporal_snr import temporal_snr


def by_polyfit(series, scans):
    """Voxel by voxel: the mean over the standard deviation of what a fitted line leaves."""
    time, kept = scans.astype(float), series[scans]
    lines = [np.polyval(np.polyfit(time, voxel, 1), time) for voxel in kept.T]
    return kept.mean(axis=0) / (kept - np.transpose(lines)).std(axis=0)


@pytest.fixture
def series():
    rng = np.random.default_rng(3)
    drift = np.linspace(0, 80, 90)[:, None] * rng.normal(size=700)
    return (
        rng.uniform(400, 1500, 700) + drift + rng.normal(size=(90, 700)) * rng.uniform(3, 40, 700)
    ).astype(np.float32)


def test_it_is_the_mean_over_what_a_line_leaves(series):
    scans = np.flatnonzero(np.arange(90) % 7 != 3)

    found = temporal_snr(series, valid=np.ones(700, bool), sample_mask=scans)

    np.testing.assert_allclose(found, by_polyfit(series.astype(float), scans), rtol=1e-5)
    assert found.dtype == np.float32


def test_no_bit_depends_on_how_voxels_are_portioned(series):
    scans, valid = np.arange(90), np.ones(700, bool)
    whole = temporal_snr(series, valid=valid, sample_mask=scans)

    for block in (1, 256, 699):
        np.testing.assert_array_equal(
            whole, temporal_snr(series, valid=valid, sample_mask=scans, voxel_block=block)
        )


def test_voxels_that_cannot_be_judged_are_zero(series):
    valid = np.ones(700, bool)
    series[:, 0], series[5, 1], valid[2] = np.linspace(500, 600, 90), np.nan, False

    found = temporal_snr(series, valid=valid, sample_mask=np.arange(90))

    assert found[:3].tolist() == [0, 0, 0]
    assert (found[3:] > 0).all()
