from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import detrend
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score

from clipmused_bids.config import ResponseOptions
from clipmused_bids.errors import DataError, DesignError, UsageError
from clipmused_bids.responses.design import trial_design
from clipmused_bids.responses.estimate import betas_responses, check_options, choose_kind, estimate_responses
from clipmused_bids.responses.single_trial import single_trial_responses
from clipmused_bids.responses.standardize import standardize, unit_statistics

N_SCANS, TR = 120, 2.0


def estimate(bold, trials, kind, **changes):
    values = {"valid": np.ones(bold.shape[1], bool), "options": ResponseOptions(), "repetition_time": TR}
    return estimate_responses(bold, trials=trials, kind=kind, **(values | changes))


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(1000, 15, size=(N_SCANS, 6))


@pytest.mark.parametrize(
    ("duration", "kind"), [(22.5, "window"), (10.0, "window"), (3.0, "lss"), (0.0, "lss")]
)
def test_blocks_are_averaged_and_events_modelled(trials_of, duration, kind):
    chosen, why = choose_kind([trials_of([10, 50], duration), trials_of([10, 90], duration)], "bold")
    assert chosen == kind
    assert f"median duration {duration:g} s" in why


def test_samples_of_movies_are_windows_however_short(trials_of):
    movie = replace(trials_of([10, 11, 12], 1.0), movie=("m",) * 3, movie_seconds=np.array([0.0, 1.0, 2.0]))
    assert choose_kind([trials_of([10, 50], 1.0), movie], "bold") == (
        "window",
        "trials are samples of movies",
    )


def test_betas_are_taken_as_they_are_and_no_trial_is_an_error(trials_of):
    assert choose_kind([trials_of([10], 22.5)], "betas") == ("betas", "the images are responses already")
    with pytest.raises(DesignError, match="no run has a trial"):
        choose_kind([trials_of([])], "bold")


def test_models_that_a_kind_has_not_are_refused():
    ar1, by_condition = ResponseOptions(noise="ar1"), ResponseOptions(others="by-condition")
    for kind in ("window", "betas"):
        with pytest.raises(UsageError, match=f'noise = "ar1" is for lss and lsa; the responses are {kind}'):
            check_options(kind, ar1)
    for kind in ("lsa", "window", "betas"):
        with pytest.raises(UsageError, match=f'others = "by-condition" is for lss; the responses are {kind}'):
            check_options(kind, by_condition)
        check_options(kind, ResponseOptions())
    check_options("lss", ResponseOptions(noise="ar1", others="by-condition"))
    check_options("lsa", ar1)


def test_a_planted_response_is_in_percent_of_the_mean(trials_of):
    trials = trials_of([20, 80, 150], 4.0)
    shape = trial_design(trials, n_scans=N_SCANS, repetition_time=TR, hrf="glover").trials
    amplitudes = np.diag([2.0, -1.0, 0.5])
    wobble = np.cos(np.pi * (np.arange(N_SCANS) + 0.5) / N_SCANS)[:, None]
    for mean in (400.0, 3000.0):
        # A voxel's mean includes its response, so the response is planted without its own mean.
        signal = (shape - shape.mean(axis=0)) @ amplitudes
        bold = mean * (1 + signal / 100 + 0.03 * wobble)
        found = estimate(bold, trials, "lss")
        np.testing.assert_allclose(np.diag(found.values), [2.0, -1.0, 0.5], rtol=1e-5)
    assert (found.unit, found.kind, found.values.dtype) == ("percent signal change", "lss", np.float32)
    all_at_once = estimate(bold, trials, "lsa")
    np.testing.assert_allclose(all_at_once.values, amplitudes, atol=1e-5)
    assert all_at_once.kind == "lsa"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lss", {"noise": "ar1"}),
        ("lss", {"others": "by-condition"}),
        ("lss", {"noise": "ar1", "others": "by-condition", "hrf": "spm + derivative"}),
        ("lsa", {}),
        ("lsa", {"noise": "ar1"}),
    ],
)
def test_options_reach_the_model(trials_of, noise, kind, options):
    trials = trials_of(np.arange(10, 200, 15), 2.0, condition=list("abcabcabcabca"))
    found = estimate(noise, trials, kind, options=ResponseOptions(**options))
    chosen = {name: value for name, value in options.items() if name != "hrf"}
    design = trial_design(
        trials, n_scans=N_SCANS, repetition_time=TR, hrf=options.get("hrf", "glover"), high_pass=1 / 128
    )
    expected = single_trial_responses(noise, design, kind=kind, **chosen) * 100 / noise.mean(axis=0)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert np.abs(found.values - estimate(noise, trials, "lss").values).max() > 1e-3


def test_a_window_is_the_detrended_signal_in_percent_of_the_mean(trials_of, noise):
    bold = noise + np.linspace(-200, 300, N_SCANS)[:, None]
    found = estimate(bold, trials_of([25.0, 125.0], 20.0), "window")
    percent = detrend(100 * bold / bold.mean(axis=0), axis=0)
    expected = [percent[15:25].mean(axis=0), percent[65:75].mean(axis=0)]  # 30 s to 50 s, 130 s to 150 s
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
    assert (found.unit, found.kind) == ("percent signal change", "window")


@pytest.mark.parametrize("kind", ["lss", "window"])
def test_the_unit_of_the_image_and_the_block_size_do_not_matter(trials_of, noise, kind):
    trials = trials_of([20, 60, 100, 160], 12.0)
    first = estimate(noise, trials, kind)
    second = estimate((noise * 37).astype(np.float32), trials, kind, voxel_block=2)
    np.testing.assert_allclose(second.values, first.values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["lss", "window"])
def test_voxels_without_signal_are_zero_and_not_valid(trials_of, noise, kind):
    noise[:, 1], noise[3, 2], noise[:, 4] = 77.0, np.nan, -noise[:, 4]
    valid = np.array([1, 1, 0, 1, 1, 1], bool)
    found = estimate(noise, trials_of([20, 60, 100], 12.0), kind, valid=valid)
    np.testing.assert_array_equal(found.valid, [True, False, False, True, False, True])
    np.testing.assert_array_equal(found.values[:, ~found.valid], 0)
    assert (found.values[:, found.valid] != 0).all()


def test_dropped_trials_are_counted_for_both_kinds(trials_of, noise):
    trials = trials_of([-50, 20, 60, 100, 140, 170, 237], 4.0)
    scans = np.delete(np.arange(N_SCANS), np.arange(32, 36))  # 64 s to 72 s
    window = estimate(noise, trials, "window", sample_mask=scans)
    np.testing.assert_array_equal(window.kept, [1, 3, 4, 5])
    assert window.dropped == {"beyond the run": 1, "before the run": 1, "no kept scan in the window": 1}
    lss = estimate(noise, trials, "lss", sample_mask=scans)
    np.testing.assert_array_equal(lss.kept, [1, 2, 3, 4, 5])
    assert lss.dropped == {"beyond the run": 1, "before the run": 1}
    assert lss.values.shape == (5, 6)


def test_scrubbed_scans_do_not_reach_any_response(trials_of, noise):
    trials, scans = trials_of([20, 60, 100], 12.0), np.delete(np.arange(N_SCANS), [0, 33, 34])
    for kind in ("lss", "lsa", "window"):
        before = estimate(noise, trials, kind, sample_mask=scans).values
        spiked = noise.copy()
        spiked[[0, 33, 34]] = 1e5
        np.testing.assert_array_equal(estimate(spiked, trials, kind, sample_mask=scans).values, before)


def test_windows_use_confounds_but_not_their_cosines(trials_of, noise):
    generator = np.random.default_rng(1)
    confounds = generator.normal(size=(N_SCANS, 3))
    trials, names = trials_of([20, 60, 100], 12.0), ("cosine00", "trans_x", "csf")
    options = {"confounds": confounds, "confound_names": names, "has_cosines": True}
    clean = estimate(noise, trials, "window", **options).values
    moved = estimate(noise + 5 * confounds[:, [1]], trials, "window", **options).values
    np.testing.assert_allclose(
        moved, clean, rtol=0.02, atol=5e-3
    )  # the mean, hence the percent, moves a little
    drifting = estimate(noise + 5 * confounds[:, [0]], trials, "window", **options).values
    assert np.abs(drifting - clean).max() > 0.05
    with pytest.raises(DesignError, match="2 names for 3 confounds"):
        estimate(noise, trials, "window", **(options | {"confound_names": names[:2]}))


@pytest.mark.parametrize("kind", ["lss", "window"])
def test_confounds_of_another_run_are_refused(trials_of, noise, kind):
    with pytest.raises(DesignError, match="the confounds have 119 rows; the image has 120 volumes"):
        estimate(noise, trials_of([20, 60], 12.0), kind, confounds=np.ones((119, 2)))


def test_a_window_that_no_trial_has_is_an_error(trials_of, noise):
    with pytest.raises(DesignError, match="none of 2 trials has a kept scan 120 s after its onset"):
        estimate(noise, trials_of([150, 180], 2.0), "window", options=ResponseOptions(lag=120.0))


def test_nan_in_a_voxel_called_valid_does_not_pass(trials_of, noise):
    noise[4, 3] = np.nan
    assert not estimate(noise, trials_of([20, 60], 2.0), "lss").valid[3]
    with pytest.raises(DataError, match="responses of 1 of 6 voxels are NaN"):
        betas_responses(noise[:5], trials_of(range(5)), valid=np.ones(6, bool))


def test_betas_are_joined_by_order_or_by_index(trials_of):
    values = np.random.default_rng(0).normal(size=(4, 3)) * 300
    valid = np.array([True, False, True])
    by_order = betas_responses(
        values, trials_of([1, 2, 3, 4]), valid=valid, unit="percent signal change", scale=300
    )
    np.testing.assert_allclose(by_order.values[:, valid], values[:, valid] / 300, rtol=1e-6)
    np.testing.assert_array_equal(by_order.values[:, 1], 0)
    assert (by_order.kind, by_order.dropped) == ("betas", {})
    by_index = betas_responses(values, trials_of([1, 2, 3]), valid=valid, index=np.array([3, -1, 0]))
    np.testing.assert_allclose(by_index.values[:, 0], values[[3, 0], 0], rtol=1e-6)
    np.testing.assert_array_equal(by_index.kept, [0, 2])
    assert by_index.dropped == {"without a volume": 1}


def test_betas_that_do_not_fit_the_events_are_refused(trials_of):
    values, valid = np.ones((4, 3)), np.ones(3, bool)
    with pytest.raises(DataError, match="4 volumes of responses for 5 trials; expected one per trial"):
        betas_responses(values, trials_of(range(5)), valid=valid)
    with pytest.raises(DataError, match="2 volume numbers up to 4 for 2 trials and 4 volumes"):
        betas_responses(values, trials_of(range(2)), valid=valid, index=np.array([0, 4]))
    with pytest.raises(DataError, match="none of 2 trials has a volume"):
        betas_responses(values, trials_of(range(2)), valid=valid, index=np.array([-1, -1]))


def accuracy(haxby, kind, options):
    """Leave one run out, logistic regression, responses standardised by run."""
    responses, names, runs = [], [], []
    for run in range(1, 13):
        bold, trials = haxby.bold(run), haxby.trials(run)
        found = estimate(bold, trials, kind, options=options, repetition_time=haxby.repetition_time)
        assert len(found.kept) == 8
        unit = unit_statistics([found.values], ["run"], train=[np.zeros(8, bool)])["run"]
        responses.append(standardize(found.values, offset=unit.offset, scale=unit.scale))
        names += list(trials.condition)
        runs += [run] * 8
    model = LogisticRegression(max_iter=2000)
    return cross_val_score(model, np.vstack(responses), names, groups=runs, cv=LeaveOneGroupOut()).mean()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("kind", "options", "lowest"),
    [("window", ResponseOptions(), 0.69), ("lss", ResponseOptions(hrf="glover"), 0.59)],
)
def test_real_blocks_are_decoded_as_well_as_in_the_reference(haxby, kind, options, lowest):
    assert accuracy(haxby, kind, options) >= lowest
