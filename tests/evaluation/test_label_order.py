from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.evaluation.label_order import INTERLEAVED, LAGS, label_order
from clipmused_bids.evaluation.leakage import audit
from clipmused_bids.evaluation.splits import assign, make_split


def order_of(labels, *, sets=None, runs=None, step=4.0, onset=None):
    n = len(labels)
    return label_order(
        np.asarray(labels, dtype=float),
        run_key=["r"] * n if runs is None else runs,
        onset=step * np.arange(n) if onset is None else onset,
        set_name=["train"] * n if sets is None else sets,
    )


def blocks(n_blocks, length, *, n_labels=4, seed=0):
    """Blocks of one category, no two neighbours alike."""
    rng = np.random.default_rng(seed)
    kinds = [0]
    while len(kinds) < n_blocks:
        kinds.append(int(rng.choice([k for k in range(n_labels) if k != kinds[-1]])))
    return np.eye(n_labels)[np.repeat(kinds, length)]


def by_hand(labels, lag):
    """Mean product of pairs at a lag less that of all pairs, over the variance: one run, two loops."""
    z = labels - labels.mean(axis=0)
    n = len(z)
    near = np.mean([z[i] @ z[i + lag] for i in range(n - lag)])
    every = np.mean([z[i] @ z[j] for i in range(n) for j in range(n) if i != j])
    return (near - every) / np.mean([row @ row for row in z])


@pytest.mark.parametrize("seed", range(3))
def test_excess_equals_the_definition_in_loops(seed):
    labels = (np.random.default_rng(seed).random((40, 5)) < 0.3).astype(float)
    found = order_of(labels).excess
    np.testing.assert_allclose(found, [by_hand(labels, lag) for lag in LAGS], atol=1e-5)


def test_trials_are_taken_in_order_of_time_whatever_their_order_in_the_table():
    labels = blocks(12, 8)
    shuffle = np.random.default_rng(1).permutation(len(labels))
    shuffled = order_of(labels[shuffle], onset=4.0 * shuffle)
    np.testing.assert_allclose(shuffled.excess, order_of(labels).excess, atol=1e-6)


def test_random_order_is_no_autocorrelation_and_blocks_are():
    rng = np.random.default_rng(0)
    found = [order_of((rng.random((120, 6)) < 0.2).astype(float)).above_shuffled for _ in range(40)]
    assert sum(found) <= 3  # one in 200 expected
    assert order_of(blocks(12, 8)).above_shuffled
    assert order_of(blocks(12, 8)).excess[0] > 0.8


def test_runs_of_different_labels_in_random_order_are_no_autocorrelation():
    """Order is a matter within runs: between them, shuffling tells nothing."""
    rng = np.random.default_rng(2)
    labels = np.concatenate([rng.random((40, 3)) < share for share in (0.1, 0.9)]).astype(float)
    found = order_of(labels, runs=["a"] * 40 + ["b"] * 40)
    assert not found.above_shuffled
    assert max(found.excess) < 0.1
    assert order_of(labels).above_shuffled, "as one run, the same trials are"


def test_blocks_leak_where_sets_divide_them_and_not_where_they_stay_whole():
    labels = blocks(12, 8)
    n = len(labels)
    rng = np.random.default_rng(3)
    divided = order_of(labels, sets=rng.choice(["train", "test"], n, p=[0.8, 0.2]))
    assert divided.leaks
    assert divided.across_sets > 0.6
    whole = order_of(labels, sets=np.where(np.arange(n) // 8 % 2, "train", "test"))
    assert whole.above_shuffled
    assert not whole.leaks
    assert whole.switches == 11
    assert whole.across_sets == 0
    tail = order_of(labels, sets=["train"] * 76 + ["test"] * 20)
    assert tail.switches == 1
    assert not tail.leaks, "one stretch of test trials does not interleave"


def test_trials_far_apart_in_time_share_no_noise():
    labels = blocks(12, 8)
    sets = np.random.default_rng(3).choice(["train", "test"], len(labels))
    assert order_of(labels, sets=sets, step=14.9).leaks
    slow = order_of(labels, sets=sets, step=15.0)
    assert slow.above_shuffled
    assert not slow.leaks


def test_trials_of_no_set_are_no_neighbours():
    labels = blocks(12, 8)
    sets = np.where(np.arange(len(labels)) % 8 == 0, "test", "none")
    assert order_of(labels, sets=sets).across_sets == 0


def test_unknown_labels_say_nothing():
    labels = blocks(12, 8)
    nobody = np.column_stack([labels, np.full(len(labels), np.nan)])
    np.testing.assert_allclose(order_of(nobody).excess, order_of(labels).excess, atol=1e-6)
    constant = order_of(np.ones((20, 2)))
    assert constant.excess == (0, 0, 0, 0)
    assert not constant.above_shuffled


@settings(max_examples=30)
@given(n=st.integers(1, 6), seed=st.integers(0, 1000))
def test_short_runs_are_no_trouble(n, seed):
    rng = np.random.default_rng(seed)
    found = order_of((rng.random((n, 2)) < 0.5).astype(float), sets=rng.choice(["train", "test"], n))
    assert all(np.isfinite(found.excess))
    assert not found.leaks


@pytest.mark.parametrize("dataset", ["nsd", "things", "god", "bold5000", "nod", "haxby"])
def test_public_designs_pass_without_a_word(designs, dataset):
    design = getattr(designs, dataset)()
    split = make_split(design, seed=0)
    sets = assign(split, design.run_key, design.stimulus_id).set_name
    order = label_order(design.labels, run_key=design.run_key, onset=design.onset, set_name=sets)
    assert not order.above_shuffled
    assert not order.leaks
    assert max(np.abs(order.excess)) < 0.02
    assert order.switches > INTERLEAVED or dataset == "haxby"


def test_the_auditor_makes_an_error_of_divided_blocks_and_a_warning_of_whole_ones():
    labels = blocks(12, 8)
    n = len(labels)
    asked = {
        "run_key": ["r"] * n,
        "participant": ["1"] * n,
        "stimulus_id": [f"s{k}" for k in range(n)],
        "content": [f"c{k}" for k in range(n)],
        "onset": 2.0 * np.arange(n),
        "regime": "unseen stimuli",
        "on_leak": "report",
    }
    divided = np.random.default_rng(3).choice(["train", "test"], n, p=[0.8, 0.2])
    found = audit(**asked, set_name=divided, labels=labels, design="events")
    assert len(found.leaks) == 1
    assert found.warnings == ()
    assert "the noise that neighbours share decodes them" in found.leaks[0]
    whole = np.where(np.arange(n) < 48, "train", "test")
    found = audit(**asked, set_name=whole, labels=labels, design="events")
    assert found.leaks == ()
    assert len(found.warnings) == 1
    assert "labels of neighbouring trials are alike" in found.warnings[0]
    assert audit(**asked, set_name=whole, design="events").warnings == (), "without labels nothing is said"
