from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.responses.window import linear_trend, window_responses, window_weights


def test_a_block_is_the_mean_of_nine_volumes_from_five_seconds_on():
    bold = np.random.default_rng(0).normal(size=(121, 4))
    values, kept = window_responses(
        bold, np.array([15.0, 52.5]), np.array([22.5, 22.5]), repetition_time=2.5, lag=5.0
    )
    np.testing.assert_allclose(values, [bold[8:17].mean(axis=0), bold[23:32].mean(axis=0)])
    np.testing.assert_array_equal(kept, [0, 1])


@pytest.mark.parametrize(
    ("start_time", "lag", "window", "expected"),
    [
        (0.0, 4.0, 6.0, [7, 8, 9]),  # [14, 20): 14 16 18
        (1.0, 4.0, 6.0, [7, 8, 9]),  # 15 17 19
        (1.0, 5.0, 4.0, [7, 8]),  # [15, 19): 15 17
        (0.0, 5.0, 2.0, [8]),  # [15, 17): 16
        (0.0, 4.5, 0.5, [7]),  # no volume in [14.5, 15): the nearest to 14.5 is 14
        (0.0, 5.5, 0.5, [8]),  # the nearest to 15.5 is 16
    ],
)
def test_which_volumes_are_averaged(start_time, lag, window, expected):
    weights, kept = window_weights(
        np.array([10.0]), np.array([0.0]), n_scans=20, repetition_time=2.0, start_time=start_time, lag=lag,
        window=window,
    )  # fmt: skip
    np.testing.assert_array_equal(kept, [0])
    np.testing.assert_array_equal(np.flatnonzero(weights[0]), expected)
    np.testing.assert_allclose(weights[0, expected], 1 / len(expected))


def test_decimal_repetition_times_do_not_lose_a_volume():
    onsets = 0.8 * np.arange(200)
    weights, _ = window_weights(onsets, np.zeros(200), n_scans=400, repetition_time=0.8, lag=4.0, window=1.6)
    np.testing.assert_array_equal((weights > 0).sum(axis=1), 2)
    np.testing.assert_array_equal(weights.argmax(axis=1), np.arange(200) + 5)


def test_scrubbed_volumes_do_not_enter_and_empty_windows_go():
    bold = np.random.default_rng(1).normal(size=(30, 3))
    scans = np.delete(np.arange(30), [6, 12, 13])
    values, kept = window_responses(
        bold, np.array([0.0, 7.0, 20.0]), np.full(3, 2.0), repetition_time=1.0, lag=5.0, sample_mask=scans
    )
    np.testing.assert_array_equal(kept, [0, 2])
    np.testing.assert_allclose(values, [bold[5], bold[25:27].mean(axis=0)])


def test_a_window_after_the_last_volume_is_left_out():
    _, kept = window_weights(np.array([2.0, 9.0]), np.full(2, 2.0), n_scans=10, repetition_time=1.0, lag=5.0)
    np.testing.assert_array_equal(kept, [0])


@settings(deadline=None, max_examples=25)
@given(slope=st.floats(-50, 50), level=st.floats(-1e4, 1e4), loading=st.floats(-100, 100))
def test_nuisance_leaves_no_trace(slope, level, loading):
    generator = np.random.default_rng(2)
    signal, confound = generator.normal(size=(60, 2)), generator.normal(size=(60, 1))
    nuisance = np.hstack([linear_trend(60), confound])
    dirty = signal + level + slope * np.arange(60)[:, None] + loading * confound
    options = {"repetition_time": 1.0, "lag": 3.0, "nuisance": nuisance, "sample_mask": np.arange(2, 58)}
    clean, _ = window_responses(signal, np.array([5.0, 30.0]), np.full(2, 8.0), **options)
    again, _ = window_responses(dirty, np.array([5.0, 30.0]), np.full(2, 8.0), **options)
    np.testing.assert_allclose(again, clean, atol=1e-9)


def test_nuisance_is_fitted_to_the_kept_scans_only():
    generator = np.random.default_rng(3)
    bold, scans = generator.normal(size=(40, 3)), np.delete(np.arange(40), [0, 20, 21])
    nuisance = np.hstack([linear_trend(40), generator.normal(size=(40, 2))])
    fit = nuisance[scans] @ np.linalg.lstsq(nuisance[scans], bold[scans], rcond=None)[0]
    rest = np.full((40, 3), np.nan)
    rest[scans] = bold[scans] - fit
    values, _ = window_responses(
        bold,
        np.array([14.0]),
        np.array([6.0]),
        repetition_time=1.0,
        lag=4.0,
        nuisance=nuisance,
        sample_mask=scans,
    )
    np.testing.assert_allclose(values[0], np.nanmean(rest[18:24], axis=0), rtol=1e-9)
