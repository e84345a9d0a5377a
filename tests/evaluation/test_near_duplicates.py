from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.evaluation import near_duplicates as module
from clipmused_bids.evaluation.near_duplicates import near_duplicates


def planted(seed=0):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(300, 24)), rng.normal(size=(40, 24))
    for row, column, noise in ((7, 3, 0.01), (299, 3, 0.05), (120, 39, 0.02)):
        first[row] = 2.5 * second[column] + noise * rng.normal(size=24)
    return first, second


@pytest.mark.parametrize("block_rows", [1, 7, 300, 4096])
def test_pairs_are_those_of_scikit_learn_in_blocks_of_any_size(block_rows):
    first, second = planted()
    cosines = cosine_similarity(first, second)
    found = near_duplicates(first, second, cosine=0.6, block_rows=block_rows)
    assert found.n_pairs == (cosines > 0.6).sum() > 3
    assert {(i, j) for i, j, _ in found.pairs} == set(zip(*np.nonzero(cosines > 0.6), strict=True))
    for i, j, cosine in found.pairs:
        assert cosine == pytest.approx(cosines[i, j], abs=1e-5)
    assert [c for _, _, c in found.pairs] == sorted((c for _, _, c in found.pairs), reverse=True)


def test_planted_pairs_are_found_and_no_others():
    found = near_duplicates(*planted())
    assert {(i, j) for i, j, _ in found.pairs} == {(7, 3), (299, 3), (120, 39)}


def test_all_are_counted_and_the_nearest_kept(monkeypatch):
    monkeypatch.setattr(module, "MOST_LISTED", 4)
    rng = np.random.default_rng(1)
    angles = np.sort(rng.uniform(0, 0.15, 50))
    first = np.column_stack([np.cos(angles), np.sin(angles)])
    found = near_duplicates(first, np.array([[1.0, 0.0]]), block_rows=11)
    assert found.n_pairs == 50
    assert [i for i, _, _ in found.pairs] == [0, 1, 2, 3]


def test_no_embedding_is_near_nothing():
    assert near_duplicates(np.zeros((3, 4)), np.ones((2, 4))).n_pairs == 0
    assert near_duplicates(np.empty((0, 4)), np.ones((2, 4))).n_pairs == 0
    assert near_duplicates(np.ones((3, 4)), np.empty((0, 4))).n_pairs == 0
