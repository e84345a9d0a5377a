from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.training.monitor import (
    ValidationScore,
    gradient_norms,
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
    norms = gradient_norms(terms, {"labels": 1.0, "perp": 0.1}, [a, b])
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
