"""Agreement of similarity matrices against SciPy, hand-worked orders and planted structure."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from clipmused_bids.evaluation.agreement import (
    agreement_of,
    draw_permutations,
    rank_correlations,
    rank_matrix,
    spread_over,
)


def cosines(features: np.ndarray) -> np.ndarray:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit.T


def triangle(matrix: np.ndarray) -> np.ndarray:
    return np.array([matrix[i, j] for i, j in itertools.combinations(range(len(matrix)), 2)])


def test_correlations_are_scipys_in_every_order() -> None:
    rng = np.random.default_rng(0)
    brain = np.stack([cosines(rng.normal(size=(9, 4))), np.round(cosines(rng.normal(size=(9, 4))), 1)])
    target = np.round(cosines(rng.normal(size=(9, 5))), 1)  # with ties
    orders = draw_permutations(9, n_permutations=20, seed=3)
    found = rank_correlations(brain, target, orders)
    assert found.shape == (2, 21)
    for k, order in enumerate([np.arange(9), *orders]):
        moved = triangle(target[np.ix_(order, order)])
        for one in range(2):
            expected = spearmanr(np.round(triangle(brain[one]), 6), moved).statistic
            assert found[one, k] == pytest.approx(expected, abs=1e-12)


def test_diagonals_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    matrix, target = cosines(rng.normal(size=(6, 3))), cosines(rng.normal(size=(6, 3)))
    orders = draw_permutations(6, n_permutations=5, seed=0)
    before = rank_correlations(matrix[None], target, orders)
    np.fill_diagonal(matrix, 99.0)
    np.fill_diagonal(target, np.nan)
    np.testing.assert_array_equal(rank_correlations(matrix[None], target, orders), before)


def test_copied_features_agree_and_shuffled_ones_do_not() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(40, 6))
    copied = cosines(features + 0.05 * rng.normal(size=features.shape))
    shuffled = cosines(features[rng.permutation(40)])
    orders = draw_permutations(40, n_permutations=999, seed=0)
    found = [
        agreement_of(one)
        for one in rank_correlations(np.stack([copied, shuffled]), cosines(features), orders)
    ]
    assert found[0].value > 0.97
    assert found[0].p_value == pytest.approx(1 / 1000)
    assert found[0].chance_high < 0.2
    assert abs(found[1].value) < 0.15
    assert found[1].p_value > 0.05
    assert found[1].chance_low < found[1].value < found[1].chance_high


def test_p_value_counts_the_true_order_and_its_equals() -> None:
    one = agreement_of(np.array([0.5, 0.7, 0.5, 0.1, -0.2]))
    assert (one.value, one.p_value) == (0.5, 3 / 5)


def test_p_values_of_unrelated_matrices_are_uniform() -> None:
    rng = np.random.default_rng(5)
    values = []
    for seed in range(200):
        brain, target = cosines(rng.normal(size=(8, 3))), cosines(rng.normal(size=(8, 3)))
        orders = draw_permutations(8, n_permutations=49, seed=seed)
        values.append(agreement_of(rank_correlations(brain[None], target, orders)[0]).p_value)
    # 200 draws: 5 % is exceeded by more than 0.04 in one of 200 tests.
    assert np.mean(np.array(values) <= 0.05) < 0.09
    assert np.mean(values) == pytest.approx(0.51, abs=0.07)


def test_what_cannot_be_told_is_nan() -> None:
    rng = np.random.default_rng(3)
    matrix = cosines(rng.normal(size=(5, 3)))
    orders = draw_permutations(5, n_permutations=4, seed=0)
    flat = np.full((5, 5), 0.9) + 1e-8 * matrix
    assert np.isnan(rank_correlations(np.stack([flat, matrix]), matrix, orders)[0]).all()
    assert np.isnan(rank_correlations(matrix[None], flat, orders)).all()
    few = draw_permutations(3, n_permutations=4, seed=0)
    assert np.isnan(rank_correlations(matrix[None, :3, :3], matrix[:3, :3], few)).all()
    assert np.isnan(agreement_of(np.full(5, np.nan)).p_value)


def test_ranks_by_hand() -> None:
    # Pairs: 0-1 0.9, 0-2 0.1, 1-2 unknown, 0-3 0.1, 1-3 -0.5, 2-3 0.3.
    matrix = np.array(
        [[1, 0.9, 0.1, 0.1], [0.9, 1, np.nan, -0.5], [0.1, np.nan, 1, 0.3], [0.1, -0.5, 0.3, 1]]
    )
    ranks = rank_matrix(matrix)
    assert np.isnan(np.diag(ranks)).all()
    assert np.isnan(ranks[1, 2])
    assert [ranks[0, 1], ranks[0, 2], ranks[0, 3], ranks[3, 1], ranks[2, 3]] == [1, 0.375, 0.375, 0, 0.75]


def test_groups_share_what_is_chosen() -> None:
    group = [0] * 50 + [1] * 3 + [2] * 20
    chosen = spread_over(group, most=23, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == 23
    assert np.bincount(np.array(group)[chosen]).tolist() == [10, 3, 10]
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, spread_over(group, most=23, seed=0))
    assert chosen.tolist() != spread_over(group, most=23, seed=1).tolist()
    assert spread_over(group, most=500, seed=0).tolist() == list(range(73))
