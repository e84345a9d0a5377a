from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.decoder.losses import (
    Guidance,
    label_loss,
    loss_terms,
    perpendicular_loss,
    similarity_loss,
    total_loss,
)
from clipmused_bids.decoder.model import DecoderOutput


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape), dtype=torch.float32)


def guidance(features: torch.Tensor, known: list[bool] | None = None) -> Guidance:
    return Guidance(
        similarity=torch.as_tensor(cosine_similarity(features), dtype=torch.float32),
        known=torch.ones(len(features), dtype=torch.bool) if known is None else torch.tensor(known),
    )


def test_label_loss_is_the_mean_log_loss_over_trials_and_labels() -> None:
    logits = random(7, 3) * 3
    labels = (random(7, 3, seed=1) > 0).float()
    expected = np.mean(
        [
            log_loss(y, expit(z), labels=[0, 1])
            for y, z in zip(labels.T, logits.double().T.numpy(), strict=True)
        ]
    )
    assert float(label_loss(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_unknown_labels_are_left_out_of_the_mean_and_get_no_gradient() -> None:
    logits = random(4, 2).requires_grad_()
    labels = torch.tensor([[1.0, np.nan], [0.0, 1.0], [np.nan, np.nan], [1.0, 0.0]])
    loss = label_loss(logits, labels)
    p = expit(logits.detach().double().numpy())
    expected = -np.mean(
        [np.log(p[0, 0]), np.log(1 - p[1, 0]), np.log(p[1, 1]), np.log(p[3, 0]), np.log(1 - p[3, 1])]
    )
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert (logits.grad[labels.isnan()] == 0).all()
    assert (logits.grad[~labels.isnan()] != 0).all()


def test_without_any_known_label_the_loss_is_zero() -> None:
    assert float(label_loss(random(2, 2), torch.full((2, 2), np.nan))) == 0


def test_similarity_loss_by_hand() -> None:
    # cos = 1 on the diagonal, 0 between the tokens; the targets' cosine is 0.6: 2 * 0.36 / 4.
    tokens = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    target = Guidance(torch.tensor([[1.0, 0.6], [0.6, 1.0]]), torch.tensor([True, True]))
    assert float(similarity_loss(tokens, target)) == pytest.approx(0.18)


def test_similarity_loss_is_the_printed_formula() -> None:
    tokens, features = random(6, 4), random(6, 9, seed=1)
    expected = np.linalg.norm(cosine_similarity(features) - cosine_similarity(tokens), "fro") ** 2 / 6**2
    assert float(similarity_loss(tokens, guidance(features))) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 100.0))
def test_similarity_loss_does_not_see_the_tokens_length(scale: float) -> None:
    tokens, target = random(5, 4), guidance(random(5, 9, seed=1))
    assert float(similarity_loss(tokens * scale, target)) == pytest.approx(
        float(similarity_loss(tokens, target)), rel=1e-4
    )


def test_trials_without_features_do_not_count() -> None:
    tokens, features = random(6, 4), random(6, 9, seed=1)
    some = [True, False, True, True, False, True]
    expected = similarity_loss(tokens[some], guidance(features[some]))
    torch.testing.assert_close(similarity_loss(tokens, guidance(features, some)), expected)
    assert float(similarity_loss(tokens, guidance(features, [False] * 6))) == 0


def test_perpendicular_loss_by_hand_and_by_width() -> None:
    low, high = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    # Inner products 3, 3; 0, 1.
    assert float(perpendicular_loss(low, high)) == pytest.approx((9 + 9 + 0 + 1) / 4)
    assert float(perpendicular_loss(low, high, scale="batch+width")) == pytest.approx(19 / 4 / 4)


def test_terms_without_targets_are_off_and_weights_multiply() -> None:
    output = DecoderOutput(logits=random(5, 3), low=random(5, 4, seed=1), high=random(5, 4, seed=2))
    labels = torch.ones(5, 3)
    target = guidance(random(5, 6, seed=3))
    terms = loss_terms(output, labels, low=None, high=target, perp_scale="batch")
    assert set(terms) == {"labels", "perp", "high"}
    torch.testing.assert_close(terms["high"], similarity_loss(output.high, target))
    weights = {"labels": 1.0, "perp": 0.5, "low": 100.0, "high": 0.25}
    expected = terms["labels"] + 0.5 * terms["perp"] + 0.25 * terms["high"]
    torch.testing.assert_close(total_loss(terms, weights), expected)


def test_each_level_guides_its_own_token() -> None:
    output = DecoderOutput(logits=random(5, 3), low=random(5, 4, seed=1), high=random(5, 4, seed=2))
    target = guidance(random(5, 6, seed=3))
    terms = loss_terms(output, torch.ones(5, 3), low=target, high=target, perp_scale="batch")
    torch.testing.assert_close(terms["low"], similarity_loss(output.low, target))
    torch.testing.assert_close(terms["high"], similarity_loss(output.high, target))


def test_softmax_loss_and_its_gradient_by_hand() -> None:
    """One trial of three labels; p = e^l / sum; the gradient by the logits is (p - y) / B."""
    logits = torch.tensor(
        [[0.0, np.log(2.0), np.log(5.0)], [1.0, 1.0, 1.0]], dtype=torch.float64, requires_grad=True
    )
    labels = torch.tensor([[0.0, 1.0, 0.0], [0.7, 0.3, 0.0]], dtype=torch.float64)
    loss = label_loss(logits, labels, kind="softmax")
    assert loss.item() == pytest.approx((np.log(4.0) + np.log(3.0)) / 2, rel=1e-6)
    loss.backward()
    p = np.array([[1 / 8, 2 / 8, 5 / 8], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(logits.grad, (p - labels.numpy()) / 2, atol=1e-7)


def test_softmax_loss_leaves_out_trials_with_an_unknown_label() -> None:
    logits = torch.tensor([[0.0, 2.0], [3.0, 1.0]], requires_grad=True)
    labels = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    loss = label_loss(logits, labels, kind="softmax")
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-2.0)), rel=1e-5)
    loss.backward()
    assert not logits.grad[1].any()
    assert label_loss(logits, torch.full((2, 2), float("nan")), kind="softmax").item() == 0
