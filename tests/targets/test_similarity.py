from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.targets.similarity import (
    best_constant_loss,
    similarity_matrix,
    upper_triangle_correlation,
)


def test_similarity_is_the_cosine() -> None:
    features = np.random.default_rng(0).normal(size=(7, 5))
    np.testing.assert_allclose(similarity_matrix(features), cosine_similarity(features), atol=1e-12)


def test_unknown_rows_are_like_nothing() -> None:
    similarity = similarity_matrix(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(similarity, [[1, 0], [0, 0]])


def test_best_constant_is_the_minimum_over_constants() -> None:
    similarity = similarity_matrix(np.random.default_rng(1).normal(size=(6, 4)) + 1)
    found = optimize.minimize_scalar(lambda c: np.sum((similarity - c) ** 2) / 36)
    assert best_constant_loss(similarity) == pytest.approx(found.fun, rel=1e-8)


def test_correlation_leaves_out_the_diagonal_and_same_stimuli() -> None:
    rng = np.random.default_rng(2)
    first, second = (similarity_matrix(rng.normal(size=(5, 3))) for _ in range(2))
    stimulus = np.array([4, 7, 4, 9, 7])
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5) if stimulus[i] != stimulus[j]]
    assert len(pairs) == 8
    expected = stats.pearsonr([first[p] for p in pairs], [second[p] for p in pairs]).statistic
    assert upper_triangle_correlation(first, second, stimulus=stimulus) == pytest.approx(expected)
    assert np.isnan(upper_triangle_correlation(first, second, stimulus=np.zeros(5, dtype=int)))
    assert np.isnan(upper_triangle_correlation(first, np.ones((5, 5)), stimulus=np.arange(5)))
