from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clipmused_bids.config import Hyperparameters, build_hyperparameters, read_preset
from clipmused_bids.decoder.cnn import CnnPatches
from clipmused_bids.decoder.losses import Guidance, loss_terms, total_loss
from clipmused_bids.decoder.model import ClipMused
from clipmused_bids.decoder.readout import FixedReadout, LearnedReadout
from clipmused_bids.decoder.roi import AlignedPatches, SharedRegionPatches
from clipmused_bids.training.terms import term_weights

REGION = np.arange(20) // 5


def decoder(
    patches: nn.Module | None = None, *, n_participants: int = 3, seed: int = 0, **options: object
) -> ClipMused:
    torch.manual_seed(seed)
    values = {"width": 16, "depth": 2, "heads": 4, "mlp_ratio": 2.0, "head": "mlp", "dropout": 0.0}
    return ClipMused(
        patches or SharedRegionPatches(REGION, n_regions=4, width=16),
        n_participants=n_participants,
        n_labels=5,
        **{**values, "input_dropout": 0.0, "readout": None, **options},
    )


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["roi", "cnn"])
def test_in_a_common_space_one_more_participant_costs_two_tokens(kind: str) -> None:
    def build(n: int) -> ClipMused:
        if kind == "cnn":
            patches = CnnPatches(np.arange(16**3), grid_shape=(16, 16, 16), width=16)
            return decoder(patches, n_participants=n)
        return decoder(n_participants=n)

    assert n_parameters(build(4)) - n_parameters(build(3)) == 2 * 16


def test_tokens_are_the_participants_own_and_patches_are_shared() -> None:
    model = decoder().eval()
    x = torch.randn(2, 20)
    first = model([x, x], [0, 2])
    assert not torch.allclose(first.logits[:2], first.logits[2:])
    with torch.no_grad():
        model.tokens.subject[2] = model.tokens.subject[0]
    same = model([x, x], [0, 2])
    torch.testing.assert_close(same.logits[:2], same.logits[2:])


def test_the_two_tokens_are_the_first_two_and_are_not_exchangeable() -> None:
    model = decoder()
    patches = torch.randn(2, 4, 16)
    z = model.tokens(patches, torch.tensor([1, 0]))
    torch.testing.assert_close(z[0, 0], model.tokens.subject[1, 0] + model.tokens.position[0])
    torch.testing.assert_close(z[1, 1], model.tokens.subject[0, 1] + model.tokens.position[1])
    torch.testing.assert_close(z[1, 2:], patches[1] + model.tokens.position[2:])


def test_trials_do_not_see_each_other() -> None:
    model = decoder().eval()
    x = torch.randn(6, 20)
    together = model([x[:2], x[2:]], [1, 0]).logits
    alone = torch.cat([model([row[None]], [n]).logits for row, n in zip(x, [1, 1, 0, 0, 0, 0], strict=True)])
    torch.testing.assert_close(together, alone)


def test_attention_on_request_changes_nothing() -> None:
    model = decoder().eval()
    x = torch.randn(3, 20)
    plain, asked = model([x], [1]), model([x], [1], with_attention=True)
    torch.testing.assert_close(plain.logits, asked.logits)
    assert plain.attention == ()
    assert [tuple(one.shape) for one in asked.attention] == [(3, 4, 6, 6)] * 2


def test_tokens_leave_the_layer_norm_with_norm_sqrt_width() -> None:
    output = decoder()([torch.randn(3, 20)], [0])
    for token in (output.low, output.high):
        torch.testing.assert_close(token.norm(dim=1), torch.full((3,), 4.0), rtol=1e-2, atol=0)


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_first_predictions_are_the_labels_frequencies(head: str) -> None:
    model = decoder(head=head).eval()
    frequency = torch.tensor([0.02, 0.2, 0.5, 0.7, 0.9])
    model.start_at(torch.logit(frequency))
    probability = torch.sigmoid(model([torch.randn(50, 20)], [0]).logits)
    torch.testing.assert_close(probability.mean(dim=0), frequency, rtol=0.25, atol=0.02)


def test_a_linear_head_is_linear_in_the_tokens() -> None:
    model = decoder(head="linear")
    assert [type(layer) for layer in model.head] == [nn.Linear]
    output = model([torch.randn(3, 20)], [0])
    expected = torch.cat([output.low, output.high], dim=1) @ model.head[0].weight.T + model.head[0].bias
    torch.testing.assert_close(output.logits, expected)


def test_a_learned_readout_adds_a_linear_map_of_the_features() -> None:
    patches = AlignedPatches([20], n_shared=6, n_patches=4, width=16)
    model = decoder(patches, n_participants=1, readout=LearnedReadout(n_features=6, n_labels=5)).eval()
    x = torch.randn(3, 20)
    whole = model([x], [0]).logits
    features = patches.features(x, 0)
    added = model.readout.weight * (features @ model.readout.map)
    model.readout = None
    torch.testing.assert_close(whole, model([x], [0]).logits + added)


def test_a_fixed_readout_reads_voxels_unless_scores_stand_in() -> None:
    maps = [np.random.default_rng(n).standard_normal((20, 5)) for n in range(3)]
    offsets = [np.full(5, float(n)) for n in range(3)]
    readout = FixedReadout(n_voxels=[20] * 3, n_labels=5)
    readout.start_from(maps, offsets, weight=1.5)
    model = decoder(readout=readout, input_dropout=0.5).eval()
    x = torch.randn(3, 20)
    whole = model([x], [2]).logits
    scores = torch.randn(3, 5)
    stood_in = model([x], [2], scores_BC=scores).logits
    model.readout = None
    without = model([x], [2]).logits
    expected = (x @ torch.as_tensor(maps[2], dtype=torch.float32) + 2.0) * 1.5
    torch.testing.assert_close(whole - without, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stood_in - without, scores * 1.5, rtol=1e-4, atol=1e-5)


def build_preset(hyperparameters: Hyperparameters, *, n_participants: int) -> tuple[ClipMused, int]:
    """Decoder of a preset at its own width and depth, on a tiny mask."""
    options = hyperparameters.model
    torch.manual_seed(0)
    if options.patches == "cnn":
        n_voxels = 32 * 16 * 16
        patches = CnnPatches(np.arange(n_voxels), grid_shape=(32, 16, 16), width=options.width)
    else:
        n_voxels = 60
        patches = SharedRegionPatches(np.arange(n_voxels) // 10, n_regions=6, width=options.width)
    readout = FixedReadout(n_voxels=[n_voxels], n_labels=6) if options.readout == "ridge" else None
    model = ClipMused(
        patches,
        n_participants=n_participants,
        n_labels=6,
        width=options.width,
        depth=options.depth,
        heads=options.heads,
        mlp_ratio=options.mlp_ratio,
        head=options.head,
        dropout=options.dropout,
        input_dropout=options.input_dropout,
        readout=readout,
    )
    return model, n_voxels


@pytest.fixture(params=["hcp", "nsd", "small"])
def first_step(
    request: pytest.FixtureRequest,
) -> tuple[str, ClipMused, dict[str, torch.Tensor], dict[str, float]]:
    hyperparameters = build_hyperparameters(read_preset(request.param))
    model, n_voxels = build_preset(hyperparameters, n_participants=2)
    generator = torch.Generator().manual_seed(0)
    responses = [torch.randn(4, n_voxels, generator=generator) for _ in range(2)]
    labels = (torch.rand(8, 6, generator=generator) < 0.3).float()
    model.start_at(torch.logit(labels.mean(dim=0).clamp(0.1, 0.9)))
    features = nn.functional.normalize(torch.randn(8, 9, generator=generator) + 0.5, dim=1)
    target = Guidance(features @ features.T, torch.ones(8, dtype=torch.bool))
    scores = torch.randn(8, 6, generator=generator)
    output = model(responses, [0, 1], scores_BC=scores)
    options = hyperparameters.training
    terms = loss_terms(output, labels, low=target, high=target, perp_scale=options.perp_scale)
    return request.param, model, terms, term_weights(options)


def test_every_tensor_receives_gradient_in_the_first_step(
    first_step: tuple[str, ClipMused, dict[str, torch.Tensor], dict[str, float]],
) -> None:
    """But for key biases, which cancel in the softmax; no other bias stands before a norm."""
    _, model, terms, weights = first_step
    total_loss(terms, weights).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        if name.endswith("qkv.bias"):
            query, key, value = parameter.grad.abs().chunk(3)
            assert query.max() > 0
            assert value.max() > 0
            assert key.max() < 1e-4 * value.max()
        else:
            assert parameter.grad.abs().max() > 0, name
    assert (model.tokens.subject.grad.abs().amax(dim=2) > 0).all()


def test_only_presets_that_are_not_the_papers_keep_terms_of_one_size(
    first_step: tuple[str, ClipMused, dict[str, torch.Tensor], dict[str, float]],
) -> None:
    name, _, terms, weights = first_step
    terms = {term: value.detach() for term, value in terms.items()}
    largest = max(weights[term] * float(value) for term, value in terms.items() if term != "labels")
    if name == "small":
        assert largest < 10 * float(terms["labels"])
    else:
        assert weights["perp"] == 0.001
        assert weights["high"] == 0.001


@pytest.mark.parametrize("name", ["hcp", "nsd"])
def test_the_papers_presets_add_nothing_to_the_paper(name: str) -> None:
    hyperparameters = build_hyperparameters(read_preset(name))
    model, training = hyperparameters.model, hyperparameters.training
    assert (model.readout, model.head, model.alignment) == ("none", "mlp", "random")
    assert (model.dropout, model.input_dropout) == (0.0, 0.0)
    assert (training.weight_decay, training.mixup, training.n_seeds) == (0.0, 0.0, 1)
    assert training.perp_scale == "batch"
    assert hyperparameters.fit_on == "train"
