from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import compute_regressor

from clipmused_bids.responses.regressors import EARLIEST_ONSET, summed_regressors, trial_regressors


@settings(deadline=None, max_examples=40)
@given(
    hrf=st.sampled_from(["spm", "glover"]),
    n_scans=st.integers(2, 120),
    repetition_time=st.sampled_from([0.72, 0.8, 1.0, 1.49, 2.0, 2.5]),
    start_time=st.sampled_from([0.0, 0.36, 1.0, 5.0]),
    events=st.lists(
        st.tuples(st.floats(0, 1.1), st.sampled_from([0.0, 0.001, 0.5, 2.0, 22.5, 400.0])), max_size=4
    ),
)
def test_each_trial_is_nilearns_convolution(hrf, n_scans, repetition_time, start_time, events):
    times = start_time + repetition_time * np.arange(n_scans)
    first = times[0] + EARLIEST_ONSET
    onset = np.array([first + share * (times[-1] - first) for share, _ in events])
    duration = np.array([length for _, length in events])
    found = trial_regressors(onset, duration, hrf=hrf, times=times)
    assert found.shape == (n_scans, len(events))
    for i in range(len(events)):
        expected, _ = compute_regressor((onset[[i]], duration[[i]], np.ones(1)), hrf, times)
        np.testing.assert_allclose(found[:, i], expected[:, 0], atol=1e-12)


@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_trials_add_up_to_the_regressor_of_all(hrf):
    onset, duration = np.array([3.0, 3.1, 40.0, 77.7]), np.array([0.0, 12.0, 1.5, 3.0])
    times = 1.0 + 2.0 * np.arange(60)
    single = trial_regressors(onset, duration, hrf=hrf, times=times)
    together = summed_regressors(onset, duration, hrf=hrf, times=times)
    np.testing.assert_allclose(single.sum(axis=1), together[:, 0], atol=1e-12)
    assert summed_regressors(onset, duration, hrf=f"{hrf} + derivative", times=times).shape == (60, 2)


def test_events_long_before_the_run_do_not_count():
    times = np.arange(50.0)
    late, both = np.array([5.0]), np.array([-24.5, 5.0])
    np.testing.assert_array_equal(
        summed_regressors(both, np.ones(2), hrf="spm", times=times),
        summed_regressors(late, np.ones(1), hrf="spm", times=times),
    )
