from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.training.monitor import (
    ValidationScore,
    backpropagated,
    gradient_norms,
    log_odds,
    macro_average_precision,
    similarity_fit,
)


def test_map_is_scikit_learns_macro_average_over_labels_that_can_be_scored() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((30, 5)) < 0.3).astype(float)
    labels[:, 1], labels[:, 3] = 0, 1
    scores = generator.random((30, 5))
    some = [0, 2, 4]
    expected = average_precision_score(labels[:, some], scores[:, some], average="macro")
    assert macro_average_precision(labels, scores) == pytest.approx(expected)


def test_unknown_trials_do_not_enter_a_labels_precision() -> None:
    labels = np.array([[1.0], [np.nan], [0.0], [1.0]])
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    assert macro_average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)


def test_nothing_to_score_is_nan() -> None:
    assert np.isnan(macro_average_precision(np.ones((3, 2)), np.ones((3, 2))))


def test_weights_are_ranked_by_map_then_by_loss() -> None:
    best = max(
        [ValidationScore(0.4, 0.1), ValidationScore(0.5, 0.9), ValidationScore(0.5, 0.8)],
        key=ValidationScore.rank,
    )
    assert best == ValidationScore(0.5, 0.8)
    nothing = max(
        [ValidationScore(float("nan"), 0.3), ValidationScore(float("nan"), 0.2)], key=ValidationScore.rank
    )
    assert nothing.loss == 0.2


def test_gradient_norms_are_of_weighted_terms_over_all_parameters() -> None:
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    terms = {"labels": (a**2).sum() + b, "perp": 5 * b}
    norms = gradient_norms(terms, {"labels": 1.0, "perp": 0.1}, backpropagated([a, b]))
    assert norms["labels"] == pytest.approx(np.sqrt(2**2 + 4**2 + 1))
    assert norms["perp"] == pytest.approx(0.5)


def test_similarity_fit_leaves_out_pairs_of_one_stimulus() -> None:
    generator = np.random.default_rng(0)
    tokens, features = generator.standard_normal((6, 3)), generator.standard_normal((6, 4))
    stimulus = np.array([0, 1, 0, 2, -1, 3])
    pairs = [
        (i, j)
        for i in range(6)
        for j in range(i + 1, 6)
        if stimulus[i] != stimulus[j] and min(stimulus[i], stimulus[j]) >= 0
    ]
    target, found = (np.array([cosine_similarity(x)[i, j] for i, j in pairs]) for x in (features, tokens))
    fit = similarity_fit(
        torch.as_tensor(tokens),
        torch.as_tensor(cosine_similarity(features)),
        stimulus_B=torch.as_tensor(stimulus),
    )
    assert fit["constant"] == pytest.approx(np.mean((target - target.mean()) ** 2), rel=1e-5)
    assert fit["correlation"] == pytest.approx(np.corrcoef(target, found)[0, 1], rel=1e-4)


def test_log_odds_of_a_softmax_are_those_of_its_probabilities() -> None:
    logits = np.random.default_rng(0).standard_normal((5, 4)) * 3
    probability = scipy.special.softmax(logits, axis=1)
    np.testing.assert_allclose(scipy.special.expit(log_odds(logits, kind="softmax")), probability, rtol=1e-10)
    np.testing.assert_array_equal(log_odds(logits, kind="binary"), logits)
    extreme = log_odds(np.array([[2000.0, 0.0]]), kind="softmax")
    assert np.isfinite(extreme).all()


def test_by_loss_the_map_does_not_count() -> None:
    better, worse = ValidationScore(0.1, 0.2), ValidationScore(0.9, 0.3)
    assert better.rank(by="loss") > worse.rank(by="loss")
    assert better.rank(by="map") < worse.rank(by="map")


def test_a_score_beats_another_by_a_standard_error_of_the_paired_difference() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3) = 0.58. Differences -1, 1, 1: 0.33 and 0.67."""
    base = np.array([5.0, 6.0, 7.0])
    start = ValidationScore(0.5, 6.0, base)
    assert ValidationScore(0.5, 4.0, base - np.array([1.0, 2.0, 3.0])).beats(start)
    assert not ValidationScore(0.5, 5.7, base - np.array([-1.0, 1.0, 1.0])).beats(start)
    assert not ValidationScore(0.5, 8.0, base + np.array([1.0, 2.0, 3.0])).beats(start)
    assert not ValidationScore(0.5, 1.0, base[:1] - 3).beats(ValidationScore(0.5, 5.0, base[:1]))
