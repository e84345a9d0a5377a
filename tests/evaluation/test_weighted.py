from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from clipmused_bids.evaluation.metrics import score
from clipmused_bids.evaluation.weighted import weighted_auc, weighted_average_precision, weighted_metric


@settings(max_examples=60)
@given(n=st.integers(4, 60), levels=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_is_scikit_learns_under_sample_weights_ties_included(n, levels, seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(float)
    labels[:2] = [0, 1]
    scores = rng.integers(levels, size=n) / levels
    weights = rng.exponential(size=(3, n))
    for mine, theirs in (
        (weighted_average_precision, sk.average_precision_score),
        (weighted_auc, sk.roc_auc_score),
    ):
        expected = [theirs(labels, scores, sample_weight=w) for w in weights]
        np.testing.assert_allclose(mine(labels, scores, weights), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["mAP", "AUC", "Hamming", "top1"])
def test_equal_weights_give_the_reported_score(metric):
    rng = np.random.default_rng(4)
    labels = np.eye(7)[rng.integers(6, size=80)]  # one label never occurs
    probabilities = rng.random((80, 7)) * 0.6 + 0.4 * labels
    if metric != "top1":
        labels[rng.random(labels.shape) < 0.1] = np.nan
    expected = {s.metric: s.value for s in score(labels, probabilities, single_label=True)}[metric]
    found = weighted_metric(labels, probabilities, np.full((2, 80), 3.0), metric=metric)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("metric", ["mAP", "AUC", "Hamming", "top1"])
def test_nothing_to_score_is_nan(metric):
    found = weighted_metric(np.ones((5, 2)), np.full((5, 2), 0.5), np.ones((3, 5)), metric=metric)
    assert np.isnan(found).all()


def test_a_trial_of_double_weight_counts_twice():
    labels = np.eye(3)[[0, 1, 2, 1]]
    guesses = np.eye(3)[[0, 2, 2, 1]] * 0.8 + 0.1
    for metric in ("Hamming", "top1"):
        twice = weighted_metric(labels, guesses, np.array([[1.0, 2.0, 1.0, 1.0]]), metric=metric)
        again = [0, 1, 1, 2, 3]
        plain = weighted_metric(labels[again], guesses[again], np.ones((1, 5)), metric=metric)
        np.testing.assert_allclose(twice, plain)
