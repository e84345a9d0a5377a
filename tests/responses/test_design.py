from __future__ import annotations

import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix
from pandas import DataFrame

from clipmused_bids.errors import DesignError, UsageError
from clipmused_bids.responses.design import (
    frame_times,
    kept_scans,
    nuisance_regressors,
    trial_design,
    trials_within_run,
)
from clipmused_bids.responses.projection import orthonormal_basis, remove_subspace

TR, N_SCANS = 2.0, 100


def design_of(trials, **changes):
    values = {"n_scans": N_SCANS, "repetition_time": TR, "start_time": 1.0, "hrf": "spm", "high_pass": 0.01}
    return trial_design(trials, **(values | changes))


def spans_equal(first, second):
    a, b = orthonormal_basis(first), orthonormal_basis(second)
    return a.shape == b.shape and np.allclose(remove_subspace(a, b), 0, atol=1e-9)


def test_frames_start_at_start_time():
    np.testing.assert_allclose(frame_times(3, repetition_time=0.8, start_time=0.4), [0.4, 1.2, 2.0])


@pytest.mark.parametrize("start_time", [0.0, 1.0])
def test_regressors_are_nilearns_at_the_acquisition_times(trials_of, start_time):
    trials = trials_of([10, 31.3, 60], [1.0, 4.0, 0.0])
    design = design_of(trials, start_time=start_time)
    times = np.arange(N_SCANS) * TR + start_time
    events = DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": ["a", "b", "c"]})
    with pytest.warns(UserWarning, match="null duration"):
        table = make_first_level_design_matrix(
            times, events, hrf_model="spm", drift_model="cosine", high_pass=0.01
        )
    np.testing.assert_allclose(design.trials, table[["a", "b", "c"]], atol=1e-12)
    assert spans_equal(design.nuisance, table.drop(columns=["a", "b", "c"]).to_numpy())


def test_start_time_shifts_the_response_by_as_much(trials_of):
    early = design_of(trials_of([20.0]), start_time=0.0).trials
    late = design_of(trials_of([21.0]), start_time=1.0).trials
    np.testing.assert_allclose(early, late, atol=2e-2 * early.max())
    assert np.abs(early - design_of(trials_of([21.0]), start_time=0.0).trials).max() > 0.1 * early.max()


def test_rows_leave_all_matrices_after_the_regressors_were_made(trials_of):
    confounds = np.random.default_rng(0).normal(size=(N_SCANS, 3))
    scans = np.delete(np.arange(N_SCANS), [0, 1, 40, 41, 42])
    trials = trials_of([10, 50, 120], nuisance=[(80, 1, "catch")])
    full = design_of(trials, confounds=confounds)
    cut = design_of(trials, confounds=confounds, sample_mask=scans)
    np.testing.assert_array_equal(cut.trials, full.trials[scans])
    np.testing.assert_array_equal(cut.nuisance, full.nuisance[scans])
    np.testing.assert_array_equal(cut.sample_mask, scans)


def test_cosines_of_the_confounds_replace_our_drift(trials_of):
    confounds = np.random.default_rng(0).normal(size=(N_SCANS, 2))
    ours = design_of(trials_of([10, 50]), confounds=confounds, has_cosines=False)
    theirs = design_of(trials_of([10, 50]), confounds=confounds, has_cosines=True)
    n_cosines = int(2 * N_SCANS * TR * 0.01)
    assert np.linalg.matrix_rank(ours.nuisance) == 1 + n_cosines + 2
    assert spans_equal(theirs.nuisance, np.column_stack([np.ones(N_SCANS), confounds]))


def test_events_that_are_not_trials_have_one_regressor_for_each_kind(trials_of):
    nuisance = [(15, 1, "catch"), (75, 2, "button"), (95, 1, "catch"), (135, 2, "button")]
    design = design_of(trials_of([30, 55, 110], nuisance=nuisance), high_pass=0.0)
    events = DataFrame(nuisance, columns=["onset", "duration", "trial_type"])
    table = make_first_level_design_matrix(
        frame_times(N_SCANS, repetition_time=TR, start_time=1.0), events, hrf_model="spm", drift_model=None
    )
    assert spans_equal(design.nuisance, table.to_numpy())


def test_late_trials_are_counted_and_stay_in_the_nuisance(trials_of):
    design = design_of(trials_of([10, 30, 50, 70, 90, 196]), high_pass=0.0)
    np.testing.assert_array_equal(design.kept, [0, 1, 2, 3, 4])
    assert design.dropped == {"beyond the run": 1}
    late = design_of(trials_of([10, 30, 50, 70, 90], nuisance=[(196, 1, "late")]), high_pass=0.0)
    assert spans_equal(design.nuisance, late.nuisance)


@pytest.mark.parametrize(("last", "n_kept"), [(195.0, 5), (195.1, 4)])
def test_a_trial_needs_five_seconds(last, n_kept):
    onset = np.array([10.0, 20.0, 30.0, 40.0, last])
    kept, dropped = trials_within_run(onset, n_scans=N_SCANS, repetition_time=TR)
    assert len(kept) == n_kept
    assert sum(dropped.values()) == 5 - n_kept


def test_more_than_a_fifth_beyond_the_run_is_refused(trials_of):
    with pytest.raises(
        DesignError, match=r"2 of 5 trials .*last onset 400 s, 100 volumes = 200 s.*at most 20%"
    ):
        design_of(trials_of([10, 20, 30, 300, 400]))


def test_an_onset_long_before_the_run_is_counted(trials_of):
    design = design_of(trials_of([-40, 20, 60]))
    assert design.dropped == {"before the run": 1}
    np.testing.assert_array_equal(design.kept, [1, 2])


def test_conditions_follow_the_trials_that_are_kept(trials_of):
    times = frame_times(N_SCANS, repetition_time=TR, start_time=1.0)
    trials = trials_of([-40, 10, 50.5, 100, 110, 120, 130, 196], condition=list("abcdefgh"))
    design = design_of(trials, sample_mask=np.flatnonzero((times < 50) | (times > 90)))
    assert design.condition == ("b", "d", "e", "f", "g")


def test_a_trial_whose_scans_were_all_censored_is_excluded(trials_of):
    times = frame_times(N_SCANS, repetition_time=TR, start_time=1.0)
    scans = np.flatnonzero((times < 50) | (times > 90))
    design = design_of(trials_of([10, 50.5, 100]), sample_mask=scans)
    np.testing.assert_array_equal(design.kept, [0, 2])
    assert design.dropped == {"censored or explained by confounds": 1}


def test_a_trial_that_is_itself_a_confound_is_excluded(trials_of):
    trials = trials_of([10, 60, 100])
    copy = design_of(trials).trials[:, [1]]
    design = design_of(trials, confounds=1e3 * copy + 5)
    np.testing.assert_array_equal(design.kept, [0, 2])


def test_nothing_left_is_an_error(trials_of):
    with pytest.raises(DesignError, match="none of 1 trials can be estimated: 1 before the run"):
        design_of(trials_of([-40]))


def test_confounds_that_explain_everything_are_refused(trials_of):
    confounds = np.random.default_rng(0).normal(size=(N_SCANS, N_SCANS))
    with pytest.raises(DesignError, match="100 independent nuisance regressors leave nothing of 100"):
        design_of(trials_of([10]), confounds=confounds)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"confounds": np.zeros((99, 1))}, DesignError, "confounds have 99 rows; the image has 100 volumes"),
        ({"confounds": np.full((100, 1), np.nan)}, DesignError, "NaN"),
        ({"hrf": "canonical"}, UsageError, "responses.hrf = 'canonical' is unknown"),
        ({"hrf": "fir"}, UsageError, "unknown"),
        ({"high_pass": 0.3}, UsageError, "removes every frequency"),
    ],
)
def test_what_cannot_be_used_is_refused(trials_of, changes, error, match):
    with pytest.raises(error, match=match):
        design_of(trials_of([10, 50]), **changes)


def test_one_volume_is_not_a_run():
    with pytest.raises(DesignError, match="a run of 1 volume has no time course"):
        nuisance_regressors(None, times=np.array([0.0]), high_pass=0.0)


@pytest.mark.parametrize("mask", [[3, 2], [1, 1], [-1, 2], [4, 100]])
def test_a_sample_mask_names_scans_once_and_in_order(mask):
    with pytest.raises(DesignError, match="scans 0 to 99 once each"):
        kept_scans(np.array(mask), n_scans=100)


def test_without_a_sample_mask_all_scans_stay():
    np.testing.assert_array_equal(kept_scans(None, n_scans=4), [0, 1, 2, 3])
