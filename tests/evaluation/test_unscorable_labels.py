"""Labels without a positive or without a negative trial never add a value to any metric: no 0, no 1, no 0.5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from clipmused_bids.evaluation.calibration import calibration_scores
from clipmused_bids.evaluation.folds import score_folds
from clipmused_bids.evaluation.metrics import per_label, score
from clipmused_bids.evaluation.permuted import permuted_metric
from clipmused_bids.evaluation.weighted import weighted_metric

NAN = float("nan")
UNSCORABLE = st.lists(st.sampled_from(["absent", "present", "unknown"]), max_size=4)


def unscorable(kinds, n, rng):
    """Columns of one known value at most, with holes."""
    columns = np.full((n, len(kinds)), NAN)
    for c, kind in enumerate(kinds):
        if kind != "unknown":
            columns[:, c] = 1.0 if kind == "present" else 0.0
            columns[rng.random(n) < 0.3, c] = NAN
    return columns


def study(n, n_scorable, kinds, seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, n_scorable)) < rng.uniform(0.1, 0.9, n_scorable)).astype(float)
    labels[0], labels[1] = 0, 1
    order = rng.permutation(n_scorable + len(kinds))
    both = np.hstack([labels, unscorable(kinds, n, rng)])
    probabilities = rng.random(both.shape)
    return labels, probabilities[:, :n_scorable], both[:, order], probabilities[:, order]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(4, 40), n_scorable=st.integers(0, 4), kinds=UNSCORABLE, seed=st.integers(0, 10_000))
def test_all_metrics_are_those_of_the_scorable_labels_alone(n, n_scorable, kinds, seed):
    labels, probabilities, both, guesses = study(n, n_scorable, kinds, seed)
    if both.shape[1] == 0:
        return
    cuts = np.random.default_rng(seed).random(both.shape[1])
    found = {s.metric: s for s in score(both, guesses, single_label=False, thresholds=cuts)}
    found |= {s.metric: s for s in calibration_scores(both, guesses)}
    assert {s.n_labels for s in found.values()} == {n_scorable}
    if n_scorable == 0:
        assert all(np.isnan([s.value, s.floor]).all() for s in found.values())
        return
    assert found["mAP"].value == pytest.approx(sk.average_precision_score(labels, probabilities))
    assert found["AUC"].value == pytest.approx(sk.roc_auc_score(labels, probabilities))
    assert found["Hamming"].value == pytest.approx(((probabilities >= 0.5) != labels).mean())
    assert found["Hamming"].floor == pytest.approx(labels.mean())
    assert found["microAP"].value == pytest.approx(
        sk.average_precision_score(labels.ravel(), probabilities.ravel())
    )
    assert found["Brier"].value == pytest.approx(((probabilities - labels) ** 2).mean())
    rows = per_label(both, guesses, label_names=[f"{c}" for c in range(both.shape[1])])
    assert np.isfinite([[one.average_precision, one.auc, one.floor] for one in rows]).sum() == 3 * n_scorable
    folded = score_folds(both, guesses, ["all"] * n, single_label=False)
    assert (folded[0].score, folded[0].n_left_out) == (found["mAP"], len(kinds))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(4, 30), n_scorable=st.integers(0, 3), kinds=UNSCORABLE, seed=st.integers(0, 10_000),
    metric=st.sampled_from(["mAP", "AUC", "Hamming"]),
)  # fmt: skip
def test_neither_do_they_enter_resampling_or_permutation(n, n_scorable, kinds, seed, metric):
    labels, probabilities, both, guesses = study(n, n_scorable, kinds, seed)
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(3, n))
    source = np.vstack([np.arange(n), *(rng.permutation(n) for _ in range(3))])
    for compute, argument in ((weighted_metric, weights), (_permuted, source)):
        found = compute(both, guesses, argument, metric=metric)
        if n_scorable == 0:
            assert np.isnan(found).all()
        else:
            np.testing.assert_allclose(found, compute(labels, probabilities, argument, metric=metric))


def _permuted(labels, probabilities, source, *, metric):
    return permuted_metric(labels, source, probabilities, metric=metric)
