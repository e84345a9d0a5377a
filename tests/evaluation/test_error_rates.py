"""The rates of `benchmarks/error_rates.py` with few studies; bands are four binomial standard errors wide."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.error_rates import (
    answer_against_best,
    blocks_reject,
    movie_rejects,
    percentile_interval_covers,
    permutation_rejects,
    stimulus_interval_misses,
    t_interval_covers,
)


def band(rate, n):
    return 4 * np.sqrt(rate * (1 - rate) / n)


def share(simulate, *, n, seed, **settings):
    rng = np.random.default_rng(seed)
    return np.mean([simulate(rng, **settings) for _ in range(n)])


@pytest.mark.parametrize("n_people", [4, 8, 16])
def test_t_interval_over_people_covers(n_people):
    found = share(t_interval_covers, n=1000, seed=n_people, n_people=n_people, skewed=False)
    assert found == pytest.approx(0.95, abs=band(0.95, 1000))


def test_percentile_bootstrap_over_four_people_does_not_cover():
    found = share(percentile_interval_covers, n=500, seed=1, n_people=4)
    # Ideal resampling of n values has the t interval's width shrunk by sqrt((n - 1) / n), and normal quantiles.
    assert found < 0.95 - 2 * band(0.95, 500)
    assert found == pytest.approx(0.80, abs=0.02 + band(0.80, 500))


def test_interval_over_stimuli_seldom_finds_a_difference_between_equal_methods():
    found = share(
        stimulus_interval_misses, n=120, seed=2, n_stimuli=200, repeats=1, n_people=1, metric="mAP",
        n_resamples=200,
    )  # fmt: skip
    # Percentiles of 200 resamples of labels as rare as one in thirty miss a little more often than one in twenty.
    assert 0 < found < 0.065 + band(0.065, 120)


@pytest.mark.parametrize("n_people", [1, 3])
def test_permuting_stimuli_holds_its_level(n_people):
    found = share(permutation_rejects, n=200, seed=3, unit="stimulus", n_people=n_people, n_permutations=99)
    assert found == pytest.approx(0.05, abs=band(0.05, 200))


@pytest.mark.parametrize(("unit", "repeats"), [("trial", 6), ("stimulus of a person", 1)])
def test_other_units_do_not_hold_it(unit, repeats):
    n_people = 1 if unit == "trial" else 6
    found = share(
        permutation_rejects, n=150, seed=4, unit=unit, repeats=repeats, n_people=n_people, n_permutations=99
    )
    assert found > 0.05 + 2 * band(0.05, 150)


def test_shifts_of_movies_and_trials_of_blocks_hold_their_level():
    n = 200
    shifts = share(movie_rejects, n=n, seed=5, scheme="circular shifts", length=150, n_permutations=99)
    blocks = share(blocks_reject, n=n, seed=6, n_permutations=99)
    free = share(movie_rejects, n=n, seed=7, scheme="trials within runs", length=150, n_permutations=99)
    assert shifts == pytest.approx(0.05, abs=band(0.05, n))
    assert blocks == pytest.approx(0.05, abs=band(0.05, n))
    assert free > 0.05 + 2 * band(0.05, n)


def test_the_best_of_several_baselines_is_flattered():
    rng = np.random.default_rng(8)
    one, four = ([answer_against_best(rng, n_units=8, n_baselines=k) for _ in range(500)] for k in (1, 4))
    assert np.mean(np.array(one) == "yes") == pytest.approx(0.025, abs=band(0.025, 500))
    assert np.mean(np.array(four) == "yes") < np.mean(np.array(one) == "yes")
    assert np.mean(np.array(four) == "no") > 0.025 + band(0.025, 500)
