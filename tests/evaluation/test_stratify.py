from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.evaluation.stratify import stratify

SHARES = (0.8, 0.1, 0.1)


def part_of(labels, *, shares=SHARES, seed=0):
    return stratify(np.asarray(labels, dtype=bool), shares=shares, rng=np.random.default_rng(seed))


def test_one_label_each_gives_every_part_its_exact_share_of_every_label():
    labels = np.repeat(np.eye(6), 50, axis=0)
    part = part_of(labels)
    counts = np.array([labels[part == k].sum(axis=0) for k in range(3)])
    np.testing.assert_array_equal(counts, [[40] * 6, [5] * 6, [5] * 6])


def test_rare_labels_among_frequent_ones_are_spread_evenly():
    rng = np.random.default_rng(5)
    labels = rng.random((2000, 20)) < np.geomspace(0.01, 0.5, 20)
    part = part_of(labels)
    by_chance = rng.choice(3, p=SHARES, size=2000)
    wanted = np.outer(SHARES, labels.sum(axis=0))
    off, off_by_chance = (
        np.abs([labels[parts == k].sum(axis=0) - wanted[k] for k in range(3)]) for parts in (part, by_chance)
    )
    assert off.mean() < off_by_chance.mean() / 5
    assert off[:, :10].max() <= 1


@pytest.mark.parametrize("n_carriers", [1, 2, 3, 4])
def test_the_last_examples_of_a_rare_label_train(n_carriers):
    rng = np.random.default_rng(1)
    labels = np.column_stack([np.arange(200) < n_carriers, rng.random((200, 5)) < 0.4])
    for seed in range(10):
        assert (part_of(labels, seed=seed)[:n_carriers] == 0).any()


def test_same_seed_same_parts_other_seed_other_parts():
    labels = np.random.default_rng(2).random((300, 4)) < 0.3
    np.testing.assert_array_equal(part_of(labels, seed=7), part_of(labels, seed=7))
    assert (part_of(labels, seed=7) != part_of(labels, seed=8)).any()


@settings(max_examples=40)
@given(
    n=st.integers(1, 60),
    n_labels=st.integers(0, 5),
    density=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_every_example_gets_one_part_and_examples_without_labels_fill_up(n, n_labels, density, seed):
    labels = np.random.default_rng(seed).random((n, n_labels)) < density
    part = part_of(labels, shares=(0.5, 0.5), seed=seed)
    assert part.shape == (n,)
    assert set(part.tolist()) <= {0, 1}
    if not labels.any():
        assert abs(int((part == 0).sum()) - int((part == 1).sum())) <= 1
