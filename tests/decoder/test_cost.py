from __future__ import annotations

import numpy as np
import pytest
import torch

from clipmused_bids.config import ModelOptions, build_hyperparameters, read_preset
from clipmused_bids.decoder.cnn import CnnPatches
from clipmused_bids.decoder.cost import count_parameters, training_cost
from clipmused_bids.decoder.model import ClipMused, Patches
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches, SharedRegionPatches

HCP_GRID = (112, 128, 112)


def decoder(patches: Patches, options: ModelOptions, *, n_participants: int, n_labels: int) -> ClipMused:
    return ClipMused(
        patches,
        n_participants=n_participants,
        n_labels=n_labels,
        width=options.width,
        depth=options.depth,
        heads=options.heads,
        mlp_ratio=options.mlp_ratio,
        head="mlp",
        dropout=0.0,
        input_dropout=0.0,
        readout=None,
    )


def full_size(name: str) -> tuple[ClipMused, list[int]]:
    """The paper's models on the meta device: 9 participants of HCP, 8 of NSD with 400 regions of 15,000 voxels."""
    options = build_hyperparameters(read_preset(name)).model
    if name == "hcp":
        n_voxels = int(np.prod(HCP_GRID))
        with torch.device("meta"):
            patches = CnnPatches(np.arange(n_voxels), grid_shape=HCP_GRID, width=512).to("meta")
            return decoder(patches, options, n_participants=9, n_labels=859), [n_voxels] * 9
    region = np.random.default_rng(0).integers(0, 400, 15_000)
    return decoder(
        SharedRegionPatches(region, n_regions=400, width=512), options, n_participants=8, n_labels=80
    ), [15_000] * 8


def transformer_size(options: ModelOptions, *, n_tokens: int, n_labels: int) -> int:
    """Parameters after the patches, without subject tokens, counted by hand."""
    d, hidden = options.width, round(options.width * options.mlp_ratio)
    block = 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + (d * hidden + hidden) + (hidden * d + d)
    head = (2 * d * d + d) + (d * n_labels + n_labels)
    return options.depth * block + 2 * 2 * d + head + n_tokens * d


def cnn_size() -> int:
    def stage(n_in: int, n_out: int) -> int:
        convolutions = 27 * n_in * n_out + 3 * 27 * n_out * n_out + (n_in * n_out if n_in != n_out else 0)
        return convolutions + 2 * n_out * (4 + (n_in != n_out))

    stems = 343 * 32 + 64 + 343 * 32 * 64 + 128
    # The last stage keeps size and channels, so that its shortcut is the identity.
    return stems + stage(64, 64) + stage(64, 128) + stage(128, 512) + stage(512, 512)


@pytest.mark.parametrize("name", ["hcp", "nsd"])
def test_parameters_of_the_papers_presets_at_full_size(name: str) -> None:
    model, n_voxels = full_size(name)
    options = build_hyperparameters(read_preset(name)).model
    shared, own = count_parameters(model)
    if name == "hcp":
        expected = cnn_size() + transformer_size(options, n_tokens=394, n_labels=859)
    else:
        expected = 15_000 * 512 + transformer_size(options, n_tokens=402, n_labels=80)
    assert shared == expected
    assert own == (2 * 512,) * len(n_voxels)


@pytest.mark.parametrize("name", ["hcp", "nsd"])
def test_cost_of_a_step_at_full_size(name: str) -> None:
    """Operations of the largest layers by hand; backward costs twice the forward pass but for the first layer."""
    model, n_voxels = full_size(name)
    cost = training_cost(model, n_voxels=n_voxels, batch_size=2)
    if name == "hcp":
        first = 56 * 64 * 56 * 343 * 32
        second = 28 * 32 * 28 * 343 * 32 * 64
        assert cost.forward_flops > 2 * 2 * (first + second)
        assert cost.forward_flops == pytest.approx(2.2e11, rel=0.2)
    else:
        tokens = 2 * 402
        matrices = 24 * tokens * 12 * 512 * 512 * 2
        attention = 24 * 2 * 2 * 2 * 402 * 402 * 512
        assert cost.forward_flops == pytest.approx(matrices + attention, rel=0.05)
    assert cost.step_flops == pytest.approx(3 * cost.forward_flops, rel=0.1)
    assert cost.state_bytes == 16 * sum(parameter.numel() for parameter in model.parameters())
    assert 5e7 < cost.activation_bytes < 5e9


def test_what_a_participant_costs_in_native_space() -> None:
    options = ModelOptions(width=16, depth=1, heads=2)
    region = np.arange(30) % 3
    own = OwnRegionPatches([region, region[:21]], n_regions=3, n_shared=4, width=16)
    assert count_parameters(decoder(own, options, n_participants=2, n_labels=2))[1] == (32 + 120, 32 + 84)
    aligned = AlignedPatches([30, 10], n_shared=5, n_patches=3, width=16)
    model = decoder(aligned, options, n_participants=2, n_labels=2)
    assert count_parameters(model)[1] == (32 + 150, 32 + 50)
    model.readout = FixedReadout(n_voxels=[30, 10], n_labels=2)
    assert count_parameters(model)[1] == (32 + 150 + 60, 32 + 50 + 20)


def test_a_fixed_readout_of_all_is_shared() -> None:
    options = ModelOptions(width=16, depth=1, heads=2)
    model = decoder(
        SharedRegionPatches(np.arange(9) % 3, n_regions=3, width=16), options, n_participants=4, n_labels=2
    )
    before = count_parameters(model)[0]
    model.readout = FixedReadout(n_voxels=[9], n_labels=2)
    shared, own = count_parameters(model)
    assert own == (32,) * 4
    assert shared - before == 9 * 2 + 2 + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hcp", "nsd"])
def test_the_papers_presets_run_forward_and_backward_at_full_size(name: str) -> None:
    meta, n_voxels = full_size(name)
    torch.manual_seed(0)
    if name == "hcp":
        options = build_hyperparameters(read_preset(name)).model
        patches = CnnPatches(np.arange(n_voxels[0]), grid_shape=HCP_GRID, width=512)
        model = decoder(patches, options, n_participants=9, n_labels=859)
    else:
        model = meta
    output = model([torch.randn(1, n_voxels[0])] * 2, [0, 1])
    output.logits.square().sum().backward()
    assert torch.isfinite(output.logits).all()
    for name_, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name_
