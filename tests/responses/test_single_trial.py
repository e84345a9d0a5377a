from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm import ARModel
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from pandas import DataFrame
from scipy.signal import lfilter

from clipmused_bids.config import HRF_MODELS
from clipmused_bids.errors import DesignError
from clipmused_bids.responses.design import TrialDesign, frame_times, trial_design
from clipmused_bids.responses.single_trial import single_trial_responses, single_trial_weights

TR, N_SCANS, START = 1.5, 160, 0.75
TIMES = frame_times(N_SCANS, repetition_time=TR, start_time=START)
KINDS = [("lss", "ols"), ("lss", "ar1"), ("lsa", "ols"), ("lsa", "ar1")]


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def derivative_sums(trials, hrf):
    """Derivatives of the HRF, each summed over all trials; none for a plain HRF."""
    together = DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": "all"})
    table = make_first_level_design_matrix(TIMES, together, hrf_model=hrf, drift_model=None)
    return table.drop(columns=["all", "constant"]).to_numpy()


def nilearn_design(trials, names, *, hrf, confounds, scans):
    """nilearn's design at the kept scans: a regressor for each name, drift, confounds, sums of derivatives."""
    events = DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": names})
    table = make_first_level_design_matrix(
        TIMES, events, hrf_model=hrf.split(" + ")[0], drift_model="cosine", high_pass=0.01,
        add_regs=np.column_stack([confounds, derivative_sums(trials, hrf)]),
    )  # fmt: skip
    return table.iloc[scans]


def fitted(bold, table, *, noise="ols", coefficient=None):
    """nilearn's amplitudes, of shape (n_regressors, n_voxels); with given coefficients where there are any."""
    theta = np.empty((table.shape[1], bold.shape[1]))
    if coefficient is not None:
        for value in np.unique(coefficient):
            here = coefficient == value
            theta[:, here] = ARModel(table.to_numpy(), value).fit(bold[:, here]).theta
        return DataFrame(theta, index=table.columns)
    labels, results = run_glm(bold, table.to_numpy(), noise_model=noise)
    for label, fit in results.items():
        theta[:, labels == label] = fit.theta
    return DataFrame(theta, index=table.columns)


def names_of_model(trials, i, others):
    """Names of the regressors in the model of trial i."""
    condition = trials.condition if others == "by-condition" else ["other"] * trials.n_trials
    return ["this" if k == i else condition[k] for k in range(trials.n_trials)]


def one_model_per_trial(
    bold, trials, *, hrf="spm", confounds, scans, others="together", noise="ols", coefficient=None
):
    """nilearn's own design and fit for every trial: this trial, the others, nuisance."""
    found = []
    for i in range(trials.n_trials):
        names = names_of_model(trials, i, others)
        table = nilearn_design(trials, names, hrf=hrf, confounds=confounds, scans=scans)
        found.append(fitted(bold[scans], table, noise=noise, coefficient=coefficient).loc["this"])
    return np.stack(found)


def one_model_for_all(bold, trials, *, hrf="spm", confounds, scans, noise="ols"):
    """nilearn's own design and fit of one model with a regressor for each trial."""
    names = [f"trial{k:02d}" for k in range(trials.n_trials)]
    table = nilearn_design(trials, names, hrf=hrf, confounds=confounds, scans=scans)
    return fitted(bold[scans], table, noise=noise).loc[names].to_numpy()


@pytest.fixture
def example(trials_of):
    generator = np.random.default_rng(3)
    onset = np.cumsum(generator.uniform(3, 9, size=30))
    trials = trials_of(onset, generator.uniform(0.5, 3, size=30), condition=list("abc" * 10))
    confounds = np.column_stack([generator.normal(size=(N_SCANS, 4)), np.linspace(0, 50, N_SCANS)])
    steps = generator.normal(size=(N_SCANS, 40))
    noise = [lfilter([1], [1, -c], step) for c, step in zip(np.linspace(-0.2, 0.7, 40), steps.T, strict=True)]
    bold = 900 + 20 * np.column_stack(noise) + np.linspace(-30, 30, N_SCANS)[:, None]
    scans = np.delete(np.arange(N_SCANS), [0, 1, 2, 60, 61, 99])
    return bold, trials, confounds, scans


def designed(example, *, hrf="spm"):
    _, trials, confounds, scans = example
    return trial_design(
        trials, n_scans=N_SCANS, repetition_time=TR, start_time=START, hrf=hrf, high_pass=0.01, confounds=confounds,
        sample_mask=scans,
    )  # fmt: skip


@pytest.mark.parametrize("hrf", HRF_MODELS)
def test_closed_form_equals_a_model_for_every_trial(example, hrf):
    bold, trials, confounds, scans = example
    design = designed(example, hrf=hrf)
    expected = one_model_per_trial(bold, trials, hrf=hrf, confounds=confounds, scans=scans)
    assert relative_error(single_trial_responses(bold, design), expected) < 1e-8
    assert relative_error(single_trial_responses(bold.astype(np.float32), design), expected) < 1e-6


@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.parametrize("hrf", HRF_MODELS)
def test_one_model_of_all_trials_equals_nilearns(example, hrf, noise):
    bold, trials, confounds, scans = example
    design = designed(example, hrf=hrf)
    expected = one_model_for_all(bold, trials, hrf=hrf, confounds=confounds, scans=scans, noise=noise)
    found = single_trial_responses(bold, design, kind="lsa", noise=noise)
    assert relative_error(found, expected) < 1e-8
    single = single_trial_responses(bold.astype(np.float32), design, kind="lsa", noise=noise)
    assert relative_error(single, expected) < 1e-6


def test_others_by_condition_equal_a_model_for_every_trial(example):
    bold, trials, confounds, scans = example
    expected = one_model_per_trial(bold, trials, confounds=confounds, scans=scans, others="by-condition")
    design = designed(example)
    found = single_trial_responses(bold, design, others="by-condition")
    assert relative_error(found, expected) < 1e-8
    assert relative_error(found, single_trial_responses(bold, design)) > 1e-3


def test_one_condition_is_plain_lss(example):
    bold, trials, *rest = example
    same = replace(trials, condition=("x",) * trials.n_trials)
    design = designed((bold, same, *rest))
    np.testing.assert_array_equal(
        single_trial_responses(bold, design, others="by-condition"), single_trial_responses(bold, design)
    )


@pytest.mark.parametrize("others", ["together", "by-condition"])
@pytest.mark.parametrize("voxel_block", [7, 4096])
def test_autocorrelated_noise_is_whitened_by_the_voxels_coefficient(example, others, voxel_block):
    """With our coefficients nilearn's models give our responses; with its own, which differ a little, nearly."""
    bold, trials, confounds, scans = example
    design = designed(example)
    found = single_trial_responses(bold, design, others=others, noise="ar1", voxel_block=voxel_block)
    options = {"confounds": confounds, "scans": scans, "others": others}
    names = trials.condition if others == "by-condition" else ["all"] * trials.n_trials
    shared = nilearn_design(trials, names, hrf="spm", confounds=confounds, scans=scans)
    labels, _ = run_glm(bold[scans], shared.to_numpy(), noise_model="ar1")
    same = one_model_per_trial(bold, trials, coefficient=labels.astype(float), **options)
    assert relative_error(found, same) < 1e-8
    own = one_model_per_trial(bold, trials, noise="ar1", **options)
    assert np.corrcoef(found.ravel(), own.ravel())[0, 1] > 0.999
    assert relative_error(found, single_trial_responses(bold, design, others=others)) > 1e-2


def test_whitening_makes_estimates_of_autocorrelated_noise_more_precise(trials_of):
    """Best linear estimates: in noise with a coefficient of 0.6 their variance is smaller than that of OLS."""
    generator = np.random.default_rng(11)
    trials = trials_of(np.cumsum(generator.uniform(4, 9, size=30)))
    design = trial_design(trials, n_scans=N_SCANS, repetition_time=TR)
    noise = lfilter([1], [1, -0.6], generator.normal(size=(N_SCANS + 50, 2000)), axis=0)[50:]
    for kind in ("lss", "lsa"):
        white, whitened = (
            single_trial_responses(noise, design, kind=kind, noise=model).var() for model in ("ols", "ar1")
        )
        assert whitened < 0.96 * white


def real_models(haxby, run, trials, names, *, noise, slice_time_ref, confounds, scans):
    """nilearn's FirstLevelModel on the image: effect of each trial that is named."""
    import nibabel

    mask = np.asarray(nibabel.load(haxby.mask_path).dataobj) > 0
    model = FirstLevelModel(
        t_r=2.5, slice_time_ref=slice_time_ref, hrf_model="spm", drift_model="cosine", high_pass=0.01,
        noise_model=noise, signal_scaling=False, mask_img=nibabel.load(haxby.mask_path), minimize_memory=False,
    )  # fmt: skip
    model.fit(
        nibabel.load(haxby.image_path(run)),
        events=DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": names}),
        confounds=None if confounds is None else DataFrame(confounds, columns=list("abc")),
        sample_masks=None if confounds is None else scans,
    )
    effects = [name for name in dict.fromkeys(names) if name.startswith("this")]
    maps = [model.compute_contrast(name, output_type="effect_size") for name in effects]
    return np.stack([np.asarray(effect.dataobj)[mask] for effect in maps])


@pytest.mark.real_data
@pytest.mark.parametrize(("run", "slice_time_ref", "with_confounds"), [(1, 0.0, False), (7, 0.5, True)])
@pytest.mark.parametrize("noise", ["ols", "ar1"])
@pytest.mark.filterwarnings("ignore:.*Generation of a mask has been requested:RuntimeWarning")
def test_closed_form_equals_nilearn_on_a_real_run(haxby, run, slice_time_ref, with_confounds, noise):
    trials, bold = haxby.trials(run), haxby.bold(run)
    confounds = np.random.default_rng(0).normal(size=(len(bold), 3)) if with_confounds else None
    scans = np.delete(np.arange(len(bold)), [0, 50, 51]) if with_confounds else np.arange(len(bold))
    design = trial_design(
        trials, n_scans=len(bold), repetition_time=2.5, start_time=slice_time_ref * 2.5, hrf="spm", high_pass=0.01,
        confounds=confounds, sample_mask=scans,
    )  # fmt: skip
    options = {
        "noise": noise,
        "slice_time_ref": slice_time_ref,
        "confounds": confounds,
        "scans": scans,
    }
    separate = [
        real_models(haxby, run, trials, names_of_model(trials, i, "together"), **options)[0]
        for i in range(trials.n_trials)
    ]
    found = single_trial_responses(bold, design, noise=noise)
    if noise == "ols":
        assert relative_error(found, np.stack(separate)) < 1e-6
    else:
        assert np.corrcoef(found.ravel(), np.ravel(separate))[0, 1] > 0.999
    names = [f"this{i}" for i in range(trials.n_trials)]
    together = real_models(haxby, run, trials, names, **options)
    found = single_trial_responses(bold.astype(np.float64), design, kind="lsa", noise=noise)
    assert relative_error(found, together) < 1e-6


@pytest.mark.parametrize("kind", ["lss", "lsa"])
def test_one_trial_is_ordinary_least_squares(trials_of, kind, caplog):
    generator = np.random.default_rng(5)
    bold = 500 + generator.normal(size=(N_SCANS, 6))
    design = trial_design(trials_of([60.0], 2.0), n_scans=N_SCANS, repetition_time=TR, high_pass=0.01)
    full = np.column_stack([design.trials, design.nuisance])
    expected = np.linalg.lstsq(full, bold, rcond=None)[0][:1]
    np.testing.assert_allclose(single_trial_responses(bold, design, kind=kind), expected, rtol=1e-9)
    by_condition = single_trial_responses(bold, design, kind=kind, others="by-condition", noise="ar1")
    assert by_condition.shape == (1, 6)
    assert caplog.text == ""


def test_a_planted_response_comes_back_exactly(trials_of):
    generator = np.random.default_rng(6)
    trials = trials_of([10, 40, 71, 120])
    design = trial_design(
        trials, n_scans=N_SCANS, repetition_time=TR, confounds=generator.normal(size=(N_SCANS, 3))
    )
    # Each voxel answers one trial only, so that the others' common amplitude is theirs: zero.
    bold = design.trials * 3.5 + design.nuisance @ generator.normal(size=(design.nuisance.shape[1], 4)) * 100
    np.testing.assert_allclose(np.diag(single_trial_responses(bold, design)), 3.5, rtol=1e-8)


def test_one_model_of_all_trials_tells_them_apart(trials_of):
    trials = trials_of([10, 14, 19, 40, 43, 71, 120])
    design = trial_design(trials, n_scans=N_SCANS, repetition_time=TR)
    amplitudes = np.random.default_rng(7).normal(size=(7, 5))
    bold = 900 + design.trials @ amplitudes
    for noise in ("ols", "ar1"):
        found = single_trial_responses(bold, design, kind="lsa", noise=noise)
        np.testing.assert_allclose(found, amplitudes, atol=1e-8)
    assert np.abs(single_trial_responses(bold, design) - amplitudes).max() > 0.05


@settings(max_examples=20)
@given(kind=st.sampled_from(KINDS), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_responses_follow_the_signal_and_ignore_the_nuisance(trials_of, kind, scale, seed):
    generator = np.random.default_rng(seed)
    trials = trials_of(np.sort(generator.uniform(0, 220, size=12)), condition=list("ab" * 6))
    confounds = generator.normal(size=(N_SCANS, 3))
    scans = np.sort(generator.permutation(N_SCANS)[:140])
    design = trial_design(trials, n_scans=N_SCANS, repetition_time=TR, confounds=confounds, sample_mask=scans)
    bold = 500 + generator.normal(size=(N_SCANS, 4))
    options = {"kind": kind[0], "noise": kind[1]}
    plain = single_trial_responses(bold, design, **options)
    dirty = scale * bold + confounds @ generator.normal(size=(3, 4)) * 10 + 77
    dirty[np.setdiff1d(np.arange(N_SCANS), scans)] = 1e6
    again = single_trial_responses(dirty, design, **options)
    np.testing.assert_allclose(again, scale * plain, rtol=1e-6, atol=1e-6 * scale)


@settings(max_examples=15)
@given(
    kind=st.sampled_from(KINDS),
    order=st.permutations(range(6)),
    others=st.sampled_from(["together", "by-condition"]),
)
def test_trials_may_come_in_any_order(trials_of, kind, order, others):
    trials = trials_of([10, 31, 52, 90, 120, 170], condition=list("aabbab"))
    moved = trials.take(np.array(order))
    bold = 500 + np.random.default_rng(8).normal(size=(N_SCANS, 3))
    options = {"kind": kind[0], "noise": kind[1], "others": others}
    first, second = (
        single_trial_responses(bold, trial_design(each, n_scans=N_SCANS, repetition_time=TR), **options)
        for each in (trials, moved)
    )
    np.testing.assert_allclose(second, first[list(order)], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("kind", "noise"), KINDS)
def test_responses_do_not_depend_on_the_unit_of_the_nuisance(example, kind, noise):
    bold, trials, confounds, scans = example
    options = {"n_scans": N_SCANS, "repetition_time": TR, "sample_mask": scans}
    model = {"kind": kind, "noise": noise}
    plain = single_trial_responses(bold, trial_design(trials, confounds=confounds, **options), **model)
    awkward = np.column_stack([confounds * 1e5 + 1e4, confounds[:, 1], np.zeros(N_SCANS), np.ones(N_SCANS)])
    again = single_trial_responses(bold, trial_design(trials, confounds=awkward, **options), **model)
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
    caplog.clear()
    for noise in ("ols", "ar1"):
        shared = single_trial_responses(bold, design, kind="lsa", noise=noise)
        whole = single_trial_responses(bold, alone, kind="lsa", noise=noise)
        np.testing.assert_allclose(shared, np.vstack([whole, whole]) / 2, rtol=1e-9)
    assert caplog.text.count("Trials 1, 2 cannot be told apart: each got its share") == 2


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
        trials,
        np.column_stack([np.ones(20), trials[:, 2] * 3]),
        scans,
        np.array([0, 1, 5, 6]),
        tuple("abcd"),
        {},
    )
    with pytest.raises(DesignError, match="nothing is left of trials 6 beside"):
        single_trial_weights(design)


def test_one_model_needs_more_scans_than_regressors(trials_of):
    trials = trials_of(np.arange(31) * 1.5)
    bold = np.random.default_rng(10).normal(size=(N_SCANS, 2))
    options = {"n_scans": N_SCANS, "repetition_time": TR, "high_pass": 0.01}
    short = trial_design(trials, sample_mask=np.arange(36), **options)
    assert np.isfinite(single_trial_responses(bold, short)).all()
    with pytest.raises(
        DesignError, match="31 trials and 5 nuisance regressors leave nothing of 36 kept scans"
    ) as caught:
        single_trial_responses(bold, short, kind="lsa")
    assert "--response lss" in str(caught.value)
    enough = trial_design(trials, sample_mask=np.arange(37), **options)
    assert np.isfinite(single_trial_responses(bold, enough, kind="lsa")).all()
