from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.errors import DesignError
from clipmused_bids.responses.least_squares import all_weights, separate_weights

N_SCANS = 40


def groups_of(names):
    return np.column_stack([[name == each for name in names] for each in sorted(set(names))]).astype(float)


def separate_models(trials, names, data):
    """One least-squares fit for each trial: itself, the others of its group, each other group."""
    found = []
    for i in range(len(names)):
        columns = [trials[:, i]]
        for each in sorted(set(names)):
            rest = [k for k, other in enumerate(names) if other == each and k != i]
            if rest:
                columns.append(trials[:, rest].sum(axis=1))
        found.append(np.linalg.lstsq(np.column_stack(columns), data, rcond=None)[0][0])
    return np.stack(found)


@settings(deadline=None, max_examples=40)
@given(names=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_separate_equals_a_fit_for_each_trial(names, seed):
    generator = np.random.default_rng(seed)
    trials, data = generator.normal(size=(N_SCANS, len(names))), generator.normal(size=(N_SCANS, 3))
    weights, alone = separate_weights(trials, groups_of(names))
    np.testing.assert_allclose(weights @ data, separate_models(trials, names, data), atol=1e-10)
    assert not alone.any()


def test_one_group_is_the_published_formula():
    generator = np.random.default_rng(0)
    trials = generator.normal(size=(N_SCANS, 6))
    total = trials.sum(axis=1)
    expected = []
    for x in trials.T:
        gram = np.array([[x @ x, x @ (total - x)], [x @ (total - x), (total - x) @ (total - x)]])
        expected.append((np.linalg.inv(gram) @ np.stack([x, total - x]))[0])
    weights, _ = separate_weights(trials, np.ones((6, 1)))
    np.testing.assert_allclose(weights, expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(8)), scale=st.floats(1e-3, 1e3))
def test_order_and_scale_of_trials_do_not_matter(order, scale):
    trials = np.random.default_rng(1).normal(size=(N_SCANS, 8))
    member = groups_of("aabbbccc")
    plain, _ = separate_weights(trials, member)
    moved, _ = separate_weights(scale * trials[:, order], member[order])
    np.testing.assert_allclose(moved * scale, plain[order], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(
        all_weights(scale * trials[:, order])[0] * scale, all_weights(trials)[0][order], rtol=1e-7, atol=1e-10
    )


def test_equal_trials_of_a_group_are_estimated_without_the_others():
    generator = np.random.default_rng(2)
    trials = generator.normal(size=(N_SCANS, 5))
    trials[:, 1] = 3 * trials[:, 0]
    data = generator.normal(size=(N_SCANS, 2))
    weights, alone = separate_weights(trials, groups_of("aabbb"))
    np.testing.assert_array_equal(alone, [True, True, False, False, False])
    beside = trials[:, 2:].sum(axis=1)
    for i in (0, 1):
        expected = np.linalg.lstsq(np.column_stack([trials[:, i], beside]), data, rcond=None)[0][0]
        np.testing.assert_allclose(weights[i] @ data, expected, atol=1e-10)


def test_a_group_whose_sum_is_nothing_is_estimated_without_the_others():
    generator = np.random.default_rng(3)
    trials = generator.normal(size=(N_SCANS, 5))
    trials[:, 2] = -trials[:, 0] - trials[:, 1]
    weights, alone = separate_weights(trials, groups_of("aaabb"))
    np.testing.assert_array_equal(alone, [True, True, True, False, False])
    data, beside = generator.normal(size=(N_SCANS, 2)), trials[:, 3:].sum(axis=1)
    for i in range(3):
        expected = np.linalg.lstsq(np.column_stack([trials[:, i], beside]), data, rcond=None)[0][0]
        np.testing.assert_allclose(weights[i] @ data, expected, atol=1e-10)


def test_a_trial_that_is_another_condition_is_refused():
    trials = np.random.default_rng(4).normal(size=(N_SCANS, 4))
    trials[:, 1] = trials[:, 3]
    with pytest.raises(DesignError, match="1 of 4 trials cannot be told from trials of other conditions"):
        separate_weights(trials, groups_of("aaab"))
    trials[:, 0] = trials[:, 2] = 0.5 * trials[:, 3]
    trials[:, 1] = -3 * trials[:, 3]
    with pytest.raises(DesignError, match="the 2 conditions of the run cannot be told from each other"):
        separate_weights(trials, groups_of("aaab"))


def test_all_is_the_pseudo_inverse():
    trials = np.random.default_rng(5).normal(size=(N_SCANS, 9)) * np.geomspace(1e-3, 1e3, 9)
    weights, mixed = all_weights(trials)
    np.testing.assert_allclose(weights @ trials, np.eye(9), atol=1e-9)
    np.testing.assert_allclose(weights, np.linalg.inv(trials.T @ trials) @ trials.T, rtol=1e-6, atol=1e-12)
    assert not mixed.any()


def test_equal_trials_share_their_response():
    generator = np.random.default_rng(6)
    trials = generator.normal(size=(N_SCANS, 4))
    trials[:, 3] = trials[:, 1]
    data = trials @ np.array([[1.0], [2.0], [3.0], [4.0]])
    weights, mixed = all_weights(trials)
    np.testing.assert_array_equal(mixed, [False, True, False, True])
    np.testing.assert_allclose(weights @ data, [[1.0], [3.0], [3.0], [3.0]], atol=1e-10)
    expected = np.linalg.pinv(trials) @ data
    np.testing.assert_allclose(weights @ data, expected, atol=1e-10)
