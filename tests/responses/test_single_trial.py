from __future__ import annotations

import numpy as np
import pytest
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from pandas import DataFrame

from clipmused_bids.errors import DesignError
from clipmused_bids.responses.design import TrialDesign, frame_times, trial_design
from clipmused_bids.responses.single_trial import single_trial_responses, single_trial_weights

TR, N_SCANS, START = 1.5, 160, 0.75


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def one_model_per_trial(bold, trials, *, hrf, confounds, scans):
    """nilearn's own design and OLS fit for every trial: this trial, all others, nuisance."""
    times = frame_times(N_SCANS, repetition_time=TR, start_time=START)
    base, all_responses = hrf.split(" + ")[0], []
    derivative_sums = DataFrame()
    if hrf != base:
        together = DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": "all"})
        table = make_first_level_design_matrix(times, together, hrf_model=hrf, drift_model=None)
        derivative_sums = table.drop(columns=["all", "constant"])
    for i in range(trials.n_trials):
        kind = ["this" if k == i else "other" for k in range(trials.n_trials)]
        events = DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": kind})
        table = make_first_level_design_matrix(
            times, events, hrf_model=base, drift_model="cosine", high_pass=0.01,
            add_regs=np.column_stack([confounds, derivative_sums.to_numpy().reshape(N_SCANS, -1)]),
        )  # fmt: skip
        _, results = run_glm(bold[scans], table.to_numpy()[scans], noise_model="ols")
        (fit,) = results.values()
        all_responses.append(fit.theta[table.columns.get_loc("this")])
    return np.stack(all_responses)


@pytest.fixture
def example(trials_of):
    generator = np.random.default_rng(3)
    onset = np.cumsum(generator.uniform(3, 9, size=30))
    trials = trials_of(onset, generator.uniform(0.5, 3, size=30))
    confounds = np.column_stack([generator.normal(size=(N_SCANS, 4)), np.linspace(0, 50, N_SCANS)])
    bold = 900 + 20 * generator.normal(size=(N_SCANS, 11)) + np.linspace(-30, 30, N_SCANS)[:, None]
    scans = np.delete(np.arange(N_SCANS), [0, 1, 2, 60, 61, 99])
    return bold, trials, confounds, scans


@pytest.mark.parametrize("hrf", ["spm", "glover", "spm + derivative", "glover + derivative + dispersion"])
def test_closed_form_equals_a_model_for_every_trial(example, hrf):
    bold, trials, confounds, scans = example
    design = trial_design(
        trials, n_scans=N_SCANS, repetition_time=TR, start_time=START, hrf=hrf, high_pass=0.01, confounds=confounds,
        sample_mask=scans,
    )  # fmt: skip
    expected = one_model_per_trial(bold, trials, hrf=hrf, confounds=confounds, scans=scans)
    assert relative_error(single_trial_responses(bold, design), expected) < 1e-8
    assert relative_error(single_trial_responses(bold.astype(np.float32), design), expected) < 1e-6


@pytest.mark.real_data
@pytest.mark.parametrize(("run", "slice_time_ref", "with_confounds"), [(1, 0.0, False), (7, 0.5, True)])
@pytest.mark.filterwarnings("ignore:.*Generation of a mask has been requested:RuntimeWarning")
def test_closed_form_equals_nilearn_on_a_real_run(haxby, run, slice_time_ref, with_confounds):
    import nibabel

    trials, bold = haxby.trials(run), haxby.bold(run)
    mask = np.asarray(nibabel.load(haxby.mask_path).dataobj) > 0
    confounds = np.random.default_rng(0).normal(size=(len(bold), 3)) if with_confounds else None
    scans = np.delete(np.arange(len(bold)), [0, 50, 51]) if with_confounds else np.arange(len(bold))
    design = trial_design(
        trials, n_scans=len(bold), repetition_time=2.5, start_time=slice_time_ref * 2.5, hrf="spm", high_pass=0.01,
        confounds=confounds, sample_mask=scans,
    )  # fmt: skip
    expected = []
    for i in range(trials.n_trials):
        kind = ["this" if k == i else "other" for k in range(trials.n_trials)]
        model = FirstLevelModel(
            t_r=2.5, slice_time_ref=slice_time_ref, hrf_model="spm", drift_model="cosine", high_pass=0.01,
            noise_model="ols", signal_scaling=False, mask_img=nibabel.load(haxby.mask_path), minimize_memory=False,
        )  # fmt: skip
        model.fit(
            nibabel.load(haxby.image_path(run)),
            events=DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": kind}),
            confounds=None if confounds is None else DataFrame(confounds, columns=list("abc")),
            sample_masks=scans if with_confounds else None,
        )
        effect = model.compute_contrast("this", output_type="effect_size")
        expected.append(np.asarray(effect.dataobj)[mask])
    assert relative_error(single_trial_responses(bold, design), np.stack(expected)) < 1e-6


def test_one_trial_is_ordinary_least_squares(trials_of):
    generator = np.random.default_rng(5)
    bold = 500 + generator.normal(size=(N_SCANS, 6))
    design = trial_design(trials_of([60.0], 2.0), n_scans=N_SCANS, repetition_time=TR, high_pass=0.01)
    full = np.column_stack([design.trials, design.nuisance])
    expected = np.linalg.lstsq(full, bold, rcond=None)[0][:1]
    np.testing.assert_allclose(single_trial_responses(bold, design), expected, rtol=1e-9)


def test_a_planted_response_comes_back_exactly(trials_of):
    generator = np.random.default_rng(6)
    trials = trials_of([10, 40, 71, 120])
    design = trial_design(
        trials, n_scans=N_SCANS, repetition_time=TR, confounds=generator.normal(size=(N_SCANS, 3))
    )
    # Each voxel answers one trial only, so that the others' common amplitude is theirs: zero.
    bold = design.trials * 3.5 + design.nuisance @ generator.normal(size=(design.nuisance.shape[1], 4)) * 100
    np.testing.assert_allclose(np.diag(single_trial_responses(bold, design)), 3.5, rtol=1e-8)


def test_responses_do_not_depend_on_the_unit_of_the_nuisance(example):
    bold, trials, confounds, scans = example
    options = {"n_scans": N_SCANS, "repetition_time": TR, "sample_mask": scans}
    plain = single_trial_responses(bold, trial_design(trials, confounds=confounds, **options))
    awkward = np.column_stack([confounds * 1e5 + 1e4, confounds[:, 1], np.zeros(N_SCANS), np.ones(N_SCANS)])
    again = single_trial_responses(bold, trial_design(trials, confounds=awkward, **options))
    np.testing.assert_allclose(again, plain, rtol=1e-6, atol=1e-7)


def test_two_trials_at_once_are_estimated_together_and_named(trials_of, caplog):
    trials = trials_of([30.0, 30.0])
    design = trial_design(trials, n_scans=N_SCANS, repetition_time=TR)
    bold = np.random.default_rng(7).normal(size=(N_SCANS, 3))
    alone = trial_design(trials_of([30.0]), n_scans=N_SCANS, repetition_time=TR)
    expected = single_trial_responses(bold, alone)
    np.testing.assert_allclose(
        single_trial_responses(bold, design), np.vstack([expected, expected]), rtol=1e-9
    )
    assert "Trials 1, 2 cannot be told from the sum" in caplog.text


def test_trials_whose_sum_is_a_confound_are_ordinary_least_squares(trials_of):
    trials = trials_of([30.0, 90.0, 150.0])
    total = trial_design(trials, n_scans=N_SCANS, repetition_time=TR).trials.sum(axis=1, keepdims=True)
    design = trial_design(trials, n_scans=N_SCANS, repetition_time=TR, confounds=total)
    bold = np.random.default_rng(8).normal(size=(N_SCANS, 3))
    expected = [
        np.linalg.lstsq(np.column_stack([x, design.nuisance]), bold, rcond=None)[0][0]
        for x in design.trials.T
    ]
    np.testing.assert_allclose(single_trial_responses(bold, design), expected, rtol=1e-6)


def test_a_trial_inside_the_nuisance_is_refused_by_number():
    generator = np.random.default_rng(9)
    trials, scans = generator.normal(size=(20, 4)), np.arange(20)
    design = TrialDesign(
        trials, np.column_stack([np.ones(20), trials[:, 2] * 3]), scans, np.array([0, 1, 5, 6]), {}
    )
    with pytest.raises(DesignError, match="nothing is left of trials 6 beside"):
        single_trial_weights(design)
