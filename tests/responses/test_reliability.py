from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from clipmused_bids.errors import DataError
from clipmused_bids.records import ResponseTable
from clipmused_bids.responses.reliability import (
    noise_ceiling,
    noise_ceiling_snr,
    over_voxels,
    repeats,
    split_half_reliability,
)

TRUE_SNR = np.array([0.0, 0.3, 1.0, 2.0])


def simulate(n_stimuli, repeats, snr=TRUE_SNR, seed=0):
    """Responses with a known ratio of signal to noise; repeats may differ between stimuli."""
    generator = np.random.default_rng(seed)
    counts = np.resize(repeats, n_stimuli)
    stimulus = generator.permutation(np.repeat(np.arange(n_stimuli), counts))
    signal = generator.normal(size=(n_stimuli, len(snr))) * snr * 5
    values = 3.0 + signal[stimulus] + 5 * generator.normal(size=(len(stimulus), len(snr)))
    return values.astype(np.float32), [f"s{k}" for k in stimulus], signal


@pytest.mark.parametrize("repeats", [[2], [3], [1, 2, 5]])
def test_ncsnr_recovers_the_simulated_ratio(repeats):
    values, stimulus, _ = simulate(3000, repeats)
    np.testing.assert_allclose(noise_ceiling_snr(values, stimulus) ** 2, TRUE_SNR**2, atol=0.05, rtol=0.08)


def test_ncsnr_is_the_one_way_analysis_of_variance_by_hand():
    # Two stimuli, two repeats: within 0.5 each; means 1.5 and 6.5; between 25; signal (25 - 0.5) / 2.
    values = np.array([[1.0], [2.0], [6.0], [7.0]])
    np.testing.assert_allclose(noise_ceiling_snr(values, ["a", "a", "b", "b"]), np.sqrt(12.25 / 0.5))


@pytest.mark.parametrize("n_repeats", [2, 4])
def test_split_halves_give_the_reliability_of_the_mean(n_repeats):
    values, stimulus, _ = simulate(300, [n_repeats], snr=np.repeat(TRUE_SNR, 200))
    found = split_half_reliability(values, stimulus, n_splits=4, generator=np.random.default_rng(1))
    expected = TRUE_SNR**2 / (TRUE_SNR**2 + 1 / n_repeats)
    np.testing.assert_allclose(found.reshape(4, 200).mean(axis=1), expected, atol=0.025)


def test_two_repeats_are_one_correlation_stepped_up():
    values = np.random.default_rng(4).normal(size=(8, 1)).cumsum(axis=0)
    r = pearsonr(values[0::2, 0], values[1::2, 0]).statistic
    generator = np.random.default_rng(0)
    shuffles = [
        split_half_reliability(values, list("aabbccdd"), n_splits=1, generator=generator) for _ in range(200)
    ]
    assert np.min(np.abs(np.array(shuffles) - 2 * r / (1 + r))) < 1e-12


@pytest.mark.parametrize("n_repeats", [1, 3])
def test_the_ceiling_is_what_the_true_signal_explains(n_repeats):
    values, stimulus, signal = simulate(4000, [n_repeats])
    names = np.array([int(name[1:]) for name in stimulus])
    averaged = np.stack([values[names == k].mean(axis=0) for k in range(4000)])
    explained = [pearsonr(averaged[:, v], signal[:, v]).statistic ** 2 for v in range(1, 4)]
    np.testing.assert_allclose(noise_ceiling(TRUE_SNR, n_repeats=n_repeats)[1:], explained, atol=0.03)


def test_a_constant_and_a_perfect_voxel():
    values = np.column_stack([np.ones(8), np.repeat([1.0, 2.0, 5.0, 7.0], 2)])
    stimulus = list("aabbccdd")
    np.testing.assert_array_equal(noise_ceiling_snr(values, stimulus), [0, np.inf])
    np.testing.assert_array_equal(noise_ceiling(np.array([0, np.inf])), [0, 1])
    found = split_half_reliability(values, stimulus, generator=np.random.default_rng(0))
    np.testing.assert_allclose(found, [0, 1])


def test_without_repeats_there_is_no_ceiling():
    with pytest.raises(DataError, match="0 stimuli were shown more than once"):
        noise_ceiling_snr(np.ones((3, 2)), list("abc"))
    with pytest.raises(DataError, match="2 stimuli were shown more than once; split halves need at least 3"):
        split_half_reliability(np.ones((4, 2)), list("aabb"), generator=np.random.default_rng(0))


def test_stimuli_shown_once_are_not_repeats():
    assert [rows.tolist() for rows in repeats(list("abcbxba"))] == [[0, 6], [1, 3, 5]]


@pytest.mark.parametrize("n_values", [1, 70, 10_000])
def test_groups_of_voxels_are_measured_as_all_at_once(tmp_path, n_values):
    """Two blocks with the voxels at other columns, standardised apart; never more than asked for in memory."""
    values, stimulus, _ = simulate(40, [2], snr=np.linspace(0, 2, 11))
    np.save(tmp_path / "first.npy", np.pad(values[:30], ((0, 0), (3, 2))))
    blocks = (np.load(tmp_path / "first.npy", mmap_mode="r"), values[30:])
    means = (np.full(11, 2.0, np.float32), np.full(11, 3.0, np.float32))
    sds = (np.full(11, 4.0, np.float32), np.full(11, 5.0, np.float32))
    table = ResponseTable(blocks, (np.arange(3, 14), np.arange(11)), means, sds)
    rows = np.arange(1, 80)
    names = [stimulus[k] for k in rows]
    sizes = []

    def measure(group):
        sizes.append(group.size)
        halves = split_half_reliability(group, names, generator=np.random.default_rng(5))
        return np.stack([noise_ceiling_snr(group, names), halves])

    found = over_voxels(measure, table, rows, n_values=n_values)
    assert max(sizes) <= max(n_values, len(rows))
    scaled = np.concatenate([(values[:30] - 2) / 4, (values[30:] - 3) / 5])
    np.testing.assert_allclose(found, measure(scaled[rows]), rtol=1e-4, atol=1e-6)
    assert found.shape == (2, 11)
