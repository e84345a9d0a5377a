from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix, run_glm
from nilearn.glm.first_level.hemodynamic_models import spm_hrf
from pandas import DataFrame

from clipmused_bids.simulation.anatomy import Anatomy, common_anatomy
from clipmused_bids.simulation.brains import SceneBank, draw_amplitudes, make_brain
from clipmused_bids.simulation.oracle import (
    best_estimates,
    mean_average_precision,
    posterior_labels,
    scene_evidence,
    trial_covariance,
    true_ncsnr,
)
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.schedule import RunSchedule, draw_schedule, draw_stimuli
from clipmused_bids.simulation.series import (
    AUTOCORRELATION,
    Nuisance,
    confounds_table,
    draw_nuisance,
    draw_series,
    frame_times,
    noise_covariance,
    trial_regressors,
)

PARAMETERS = SimulationParameters()


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return common_anatomy(participant=0, seed=0)


@pytest.fixture(scope="module")
def run() -> RunSchedule:
    return draw_schedule(draw_stimuli(PARAMETERS), PARAMETERS, participant=0)[0]


def nothing(n_scans: int) -> Nuisance:
    return Nuisance(*(np.zeros((n_scans, 0)) for _ in range(3)))


def test_regressors_are_the_canonical_response(run: RunSchedule) -> None:
    regressors = trial_regressors(run, PARAMETERS)
    fine = np.arange(0, 40, 0.01)
    kernel = np.interp(
        fine, np.arange(0, 32, 0.01), spm_hrf(0.01, oversampling=1, time_length=32)[:3200], right=0
    )
    boxcar = (fine < PARAMETERS.duration).astype(float)
    response = np.convolve(boxcar, kernel)[: len(fine)]
    response /= response.max()
    times = PARAMETERS.start_time + PARAMETERS.repetition_time * np.arange(run.n_scans)
    np.testing.assert_array_equal(frame_times(run.n_scans, PARAMETERS), times)
    for k in (0, 17, 39):
        expected = np.interp(times - run.onset[k], fine, response, left=0, right=0)
        np.testing.assert_allclose(regressors[:, k], expected, atol=0.02)


def test_noise_has_the_stated_covariance_and_autocorrelation(anatomy: Anatomy) -> None:
    n_scans, n_voxels = 20_000, 12
    part = replace_places(anatomy, n_voxels)
    series = draw_series(
        np.zeros((1, n_voxels)), np.zeros((n_scans, 1)), nothing(n_scans), anatomy=part,
        parameters=PARAMETERS, rng=np.random.default_rng(0),
    )  # fmt: skip
    expected = noise_covariance(part, PARAMETERS)
    np.testing.assert_allclose(np.cov(series.T), expected, atol=0.06 * expected.max())
    lagged = [np.corrcoef(series[1:, v], series[:-1, v])[0, 1] for v in range(n_voxels)]
    np.testing.assert_allclose(lagged, AUTOCORRELATION, atol=0.03)


def replace_places(anatomy: Anatomy, n_voxels: int) -> Anatomy:
    return replace(
        anatomy, place=anatomy.place[500 : 500 + n_voxels], region=anatomy.region[500 : 500 + n_voxels]
    )


def test_amplitudes_come_back_through_nilearn(run: RunSchedule, anatomy: Anatomy) -> None:
    """Noise-free series, analysed by nilearn's own GLM, give the planted amplitudes in percent signal change."""
    rng = np.random.default_rng(1)
    amplitude = rng.normal(size=(40, 6))
    nuisance = draw_nuisance(run, PARAMETERS, rng=rng)
    series = draw_series(
        amplitude, trial_regressors(run, PARAMETERS), nuisance, anatomy=replace_places(anatomy, 6),
        parameters=replace(PARAMETERS, snr=1e9), rng=rng,
    )  # fmt: skip
    events = DataFrame({
        "onset": run.onset, "duration": PARAMETERS.duration, "trial_type": [f"t{k:02d}" for k in range(40)]
    })  # fmt: skip
    design = make_first_level_design_matrix(
        frame_times(run.n_scans, PARAMETERS),
        events,
        hrf_model="spm",
        drift_model=None,
        add_regs=nuisance.columns,
    )
    _, results = run_glm(series, design.values, noise_model="ols")
    found = next(iter(results.values())).theta[:40]
    scale = np.linalg.lstsq(found.reshape(-1, 1), amplitude.ravel(), rcond=None)[0]
    np.testing.assert_allclose(found * scale, amplitude, atol=0.01)  # both sample the response finely


def test_best_estimates_have_the_stated_variance(run: RunSchedule, anatomy: Anatomy) -> None:
    part = replace_places(anatomy, 8)
    regressors = trial_regressors(run, PARAMETERS)
    rng = np.random.default_rng(2)
    nuisance = draw_nuisance(run, PARAMETERS, rng=rng)
    amplitude = rng.normal(size=(40, 8))
    errors = []
    for _ in range(60):
        series = draw_series(amplitude, regressors, nuisance, anatomy=part, parameters=PARAMETERS, rng=rng)
        estimates = best_estimates(series, regressors, nuisance.columns)
        errors.append(estimates.amplitude - amplitude)
    noise = np.diag(noise_covariance(part, PARAMETERS))
    observed = np.mean(np.square(errors), axis=0) / noise
    np.testing.assert_allclose(observed.mean(axis=1), estimates.variance, rtol=0.25)
    assert np.abs(np.mean(errors)) < 0.05


def test_confounds_bear_fmriprep_names_and_explain_the_drift(run: RunSchedule, anatomy: Anatomy) -> None:
    rng = np.random.default_rng(3)
    nuisance = draw_nuisance(run, PARAMETERS, rng=rng)
    table = confounds_table(rng.normal(size=(run.n_scans, 5)), nuisance, rng=rng)
    np.testing.assert_allclose(table["trans_x_derivative1"][1:], np.diff(table["trans_x"]))
    assert np.isnan(table["trans_x_derivative1"][0])
    assert np.isnan(table["framewise_displacement"][0])
    assert not np.isnan(table["csf"]).any()
    seconds = run.n_scans * PARAMETERS.repetition_time
    assert sum(name.startswith("cosine") for name in table) == int(np.floor(2 * seconds / 128))
    wanted = {"csf", "white_matter", "global_signal", "dvars", "rot_z_power2", "trans_y_derivative1_power2"}
    assert wanted <= set(table)
    fit = np.column_stack([np.ones(run.n_scans), table["white_matter"]])
    residual = (
        nuisance.physiology[:, 0] - fit @ np.linalg.lstsq(fit, nuisance.physiology[:, 0], rcond=None)[0]
    )
    assert residual.var() < 0.3 * nuisance.physiology[:, 0].var()


def test_oracle_equals_a_gaussian_posterior(bank: SceneBank) -> None:
    """Two voxels, few scenes: probabilities by scipy's multivariate normal density."""
    from scipy.stats import multivariate_normal

    whole = common_anatomy(participant=0, seed=0)
    keep = np.flatnonzero(whole.late)[:2]
    anatomy = replace(whole, place=whole.place[keep], region=whole.region[keep])
    few = replace(
        bank, scenes=bank.scenes[:9], images=bank.images[:9], labels=bank.labels[:9],
        energy=bank.energy[:9], meaning=bank.meaning[:9], hidden=bank.hidden[:9],
    )  # fmt: skip
    brain = make_brain(few, anatomy, PARAMETERS, participant=0)
    rng = np.random.default_rng(4)
    estimates = best_estimates(rng.normal(size=(60, 2)), rng.normal(size=(60, 4)), np.zeros((60, 0)))
    covariance = trial_covariance(brain, estimates.variance, PARAMETERS)
    density = np.array(
        [
            [multivariate_normal(mean, covariance).pdf(trial) for mean in brain.amplitude]
            for trial in estimates.amplitude
        ]
    )
    evidence = scene_evidence([estimates], brain, PARAMETERS)
    single = posterior_labels(evidence[:4], few.labels, groups=np.arange(4))
    np.testing.assert_allclose(single, density @ few.labels / density.sum(axis=1, keepdims=True), rtol=1e-6)
    joint = posterior_labels(evidence, few.labels, groups=np.array([5, -1, 5, 5]))
    product = density[[0, 2, 3]].prod(axis=0)
    np.testing.assert_allclose(joint, [product @ few.labels / product.sum()], rtol=1e-6)


def test_true_ncsnr_equals_that_of_many_repeats(bank: SceneBank, run: RunSchedule) -> None:
    whole = common_anatomy(participant=0, seed=0)
    keep = np.flatnonzero(whole.region >= 0)[::120]
    anatomy = replace(whole, place=whole.place[keep], region=whole.region[keep])
    brain = make_brain(bank, anatomy, PARAMETERS, participant=0)
    regressors = trial_regressors(run, PARAMETERS)
    rng = np.random.default_rng(5)
    nuisance = draw_nuisance(run, PARAMETERS, rng=rng)
    scene = rng.integers(len(bank.scenes), size=40)
    found = []
    for _ in range(80):
        amplitude = draw_amplitudes(brain, scene, PARAMETERS, rng=rng)
        series = draw_series(amplitude, regressors, nuisance, anatomy=anatomy, parameters=PARAMETERS, rng=rng)
        found.append(best_estimates(series, regressors, nuisance.columns))
    noise = np.array([run.amplitude for run in found]).var(axis=0, ddof=1).mean(axis=0)
    expected = brain.amplitude.std(axis=0) / np.sqrt(noise)
    np.testing.assert_allclose(true_ncsnr(brain, found[0].variance, PARAMETERS), expected, rtol=0.12)


def test_mean_average_precision_skips_labels_without_positives() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    probability = np.array([[0.9, 0.1, 0.5], [0.1, 0.2, 0.5], [0.8, 0.3, 0.5]])
    assert mean_average_precision(labels, probability) == 1.0
