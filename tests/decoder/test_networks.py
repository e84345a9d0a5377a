"""Networks other than the pair of tokens: one token, a shared one, a perceptron."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import nn

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.cost import count_parameters, training_cost
from clipmused_bids.decoder.losses import Guidance, loss_terms, similarity_loss
from clipmused_bids.decoder.mlp import Mlp, VoxelVector
from clipmused_bids.decoder.model import TokenTransformer
from clipmused_bids.decoder.network import DecoderOutput, Network
from clipmused_bids.decoder.roi import AlignedFeatures, SharedRegionPatches
from clipmused_bids.decoder.tokens import TokenScheme
from clipmused_bids.training.monitor import token_norms
from clipmused_bids.training.optimizer import make_optimizer

WIDTH = 16


def transformer(tokens: TokenScheme, *, n_participants: int = 3, seed: int = 0) -> TokenTransformer:
    torch.manual_seed(seed)
    return TokenTransformer(
        SharedRegionPatches(np.arange(20) // 5, n_regions=4, width=WIDTH),
        n_participants=n_participants,
        n_labels=5,
        width=WIDTH,
        depth=2,
        heads=4,
        mlp_ratio=2.0,
        head="mlp",
        dropout=0.0,
        input_dropout=0.0,
        readout=None,
        tokens=tokens,
    ).eval()


def perceptron(*, n_layers: int = 2, native: bool = False, **options: float) -> Mlp:
    torch.manual_seed(0)
    return Mlp(
        AlignedFeatures([20, 15, 20], n_shared=6) if native else VoxelVector(20),
        n_participants=3,
        n_labels=5,
        hidden_width=7,
        hidden_layers=n_layers,
        dropout=options.get("dropout", 0.0),
        input_dropout=options.get("input_dropout", 0.0),
    ).eval()


@pytest.mark.parametrize(("tokens", "cost"), [("pair", 2 * WIDTH), ("one", WIDTH), ("shared", 0)])
def test_one_more_participant_costs_the_tokens_alone(tokens: TokenScheme, cost: int) -> None:
    def size(n: int) -> int:
        return sum(p.numel() for p in transformer(tokens, n_participants=n).parameters())

    assert size(4) - size(3) == cost
    shared, own = count_parameters(transformer(tokens))
    assert own == (cost,) * 3
    assert shared + sum(own) == size(3)


@pytest.mark.parametrize(("tokens", "equal"), [("pair", False), ("one", False), ("shared", True)])
def test_only_a_shared_token_cannot_tell_people_apart(tokens: TokenScheme, equal: bool) -> None:
    x = torch.randn(4, 20)
    logits = transformer(tokens)([x, x], [0, 2]).logits
    assert torch.allclose(logits[:4], logits[4:], atol=1e-6) is equal


@pytest.mark.parametrize("tokens", ["one", "shared"])
def test_a_single_token_comes_first_and_carries_everything(tokens: TokenScheme) -> None:
    model = transformer(tokens)
    patches = torch.randn(2, 4, WIDTH)
    z = model.tokens(patches, torch.tensor([2, 1]))
    own = model.tokens.subject[[2, 1], 0] if tokens == "one" else model.tokens.shared
    torch.testing.assert_close(z[:, 0], (own + model.tokens.position[0]).expand(2, -1))
    torch.testing.assert_close(z[:, 1:], patches + model.tokens.position[1:])
    output = model([torch.randn(3, 20)], [1], with_attention=True)
    assert output.low is None
    assert output.high is None
    torch.testing.assert_close(output.logits, model.head(output.token))
    assert [tuple(one.shape) for one in output.attention] == [(3, 4, 5, 5)] * 2


def test_a_single_token_is_guided_by_both_levels_without_l_perp() -> None:
    output = transformer("one")([torch.randn(6, 20)], [0])
    known = torch.ones(6, dtype=torch.bool)
    low, high = (Guidance(torch.full((6, 6), value), known) for value in (0.2, 0.9))
    terms = loss_terms(output, torch.zeros(6, 5), low=low, high=high, perp_scale="batch")
    assert set(terms) == {"labels", "low", "high"}
    torch.testing.assert_close(terms["low"], similarity_loss(output.token, low))
    torch.testing.assert_close(terms["high"], similarity_loss(output.token, high))
    norms = token_norms(output)
    assert norms["norm_low"] == norms["norm_high"] == pytest.approx(WIDTH**0.5, rel=0.01)


def test_a_network_without_tokens_has_the_labels_term_alone() -> None:
    output = perceptron()([torch.randn(6, 20)], [0])
    guidance = Guidance(torch.eye(6), torch.ones(6, dtype=torch.bool))
    terms = loss_terms(output, torch.zeros(6, 5), low=guidance, high=guidance, perp_scale="batch")
    assert set(terms) == {"labels"}
    assert all(np.isnan(norm) for norm in token_norms(output).values())


def test_levels_have_their_own_tokens_where_there_is_a_pair() -> None:
    low, high = torch.zeros(1, 2), torch.ones(1, 2)
    output = DecoderOutput(torch.zeros(1, 1), low, high)
    assert output.guided("low") is low
    assert output.guided("high") is high


def test_a_perceptron_by_hand() -> None:
    model = perceptron()
    x = torch.randn(4, 20)
    h = x.numpy().astype(float)
    for layer in model.hidden:
        linear, norm = (
            {k: v.numpy().astype(float) for k, v in layer[i].state_dict().items()} for i in (0, 1)
        )
        h = h @ linear["weight"].T + linear["bias"]
        h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
        h = h * norm["weight"] + norm["bias"]
        h = h * 0.5 * (1 + erf(h / np.sqrt(2)))
    last = {k: v.numpy().astype(float) for k, v in model.head[-1].state_dict().items()}
    expected = h @ last["weight"].T + last["bias"]
    np.testing.assert_allclose(model([x], [1]).logits.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("n_layers", "native"), [(1, False), (3, False), (2, True)])
def test_size_of_a_perceptron(n_layers: int, native: bool) -> None:
    shared, own = count_parameters(perceptron(n_layers=n_layers, native=native))
    first = 6 if native else 20
    assert shared == (first * 7 + 7 + 14) + (n_layers - 1) * (49 + 7 + 14) + 7 * 5 + 5
    assert own == ((120, 90, 120) if native else (0, 0, 0))


def test_a_perceptron_knows_people_by_their_maps_alone() -> None:
    x = torch.randn(4, 20)
    common = perceptron()([x, x], [0, 2]).logits
    torch.testing.assert_close(common[:4], common[4:])
    model = perceptron(native=True)
    native = model([x, x], [0, 2]).logits
    assert not torch.allclose(native[:4], native[4:])
    with torch.no_grad():
        model.patches.own[2].copy_(model.patches.own[0])
    native = model([x, x], [0, 2]).logits
    torch.testing.assert_close(native[:4], native[4:])


@pytest.mark.parametrize("option", ["dropout", "input_dropout"])
def test_dropout_of_a_perceptron_is_on_in_training_alone(option: str) -> None:
    model = perceptron(**{option: 0.5})
    x = torch.randn(4, 20)
    torch.testing.assert_close(model([x], [0]).logits, model([x], [0]).logits)
    model.train()
    assert not torch.allclose(model([x], [0]).logits, model([x], [0]).logits)


@pytest.mark.parametrize("model", [perceptron(), transformer("one"), transformer("shared")])
def test_first_predictions_are_the_labels_frequencies(model: Network) -> None:
    frequency = torch.tensor([0.02, 0.2, 0.5, 0.7, 0.9])
    model.start_at(torch.logit(frequency))
    probability = torch.sigmoid(model([torch.randn(50, 20)], [0]).logits)
    torch.testing.assert_close(probability.mean(dim=0), frequency, rtol=0.25, atol=0.02)


@pytest.mark.parametrize("model", [transformer("one"), transformer("shared"), perceptron()])
def test_tokens_and_positions_do_not_decay_whoever_they_are_of(model: Network) -> None:
    options = TrainingOptions(weight_decay=0.1)
    decayed = {id(p) for p in make_optimizer(model, options).param_groups[0]["params"]}
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim > 1 and not name.startswith("tokens.")
        assert (id(parameter) in decayed) is matrix, name


def test_cost_of_a_perceptrons_step() -> None:
    """A multiply-add counts two; the first layer needs no gradient of its input."""
    cost = training_cost(perceptron(n_layers=1), n_voxels=[20] * 3, batch_size=8)
    assert cost.forward_flops == 2 * 8 * (20 * 7 + 7 * 5)
    assert cost.step_flops == cost.forward_flops + 2 * 8 * (20 * 7 + 2 * 7 * 5)
    size = sum(p.numel() for p in nn.ModuleList([perceptron(n_layers=1)]).parameters())
    assert cost.state_bytes == 16 * size
