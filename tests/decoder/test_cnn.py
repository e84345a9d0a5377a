from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clipmused_bids.decoder.cnn import CnnPatches, group_norm, padded_box
from clipmused_bids.errors import DataError


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_box_keeps_distances_between_voxels_and_is_the_smallest_multiple_of_16(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 40)] * 3))
    seed = data.draw(st.integers(0, 1000))
    generator = np.random.default_rng(seed)
    voxels = np.flatnonzero(generator.random(np.prod(shape)) < 0.1)
    if len(voxels) == 0:
        voxels = np.array([0])
    box = padded_box(voxels, grid_shape=shape)
    before = np.stack(np.unravel_index(voxels, shape))
    after = np.stack(np.unravel_index(box.index, box.shape))
    np.testing.assert_array_equal(after - after[:, :1], before - before[:, :1])
    extent = np.ptp(before, axis=1) + 1
    for size, padded in zip(extent, box.shape, strict=True):
        assert padded % 16 == 0
        assert 0 <= padded - size < 16


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(DataError, match="holds no voxel"):
        padded_box(np.array([], dtype=int), grid_shape=(3, 3, 3))


def test_the_papers_grid_gives_392_patches_of_width_512() -> None:
    shape = (112, 128, 112)
    with torch.device("meta"):
        patches = CnnPatches(np.arange(np.prod(shape)), grid_shape=shape, width=512).to("meta")
        result = patches.embed(torch.empty(1, int(np.prod(shape))))
    assert patches.n_patches == 392
    assert result.shape == (1, 392, 512)
    stages = [patches.net[k][0].path[0].weight.shape[0] for k in range(2, 6)]
    assert stages == [64, 128, 512, 512]
    assert [patches.net[k][0].path[0].stride[0] for k in range(2, 6)] == [1, 2, 2, 1]


def test_voxels_reach_their_places_in_the_volume() -> None:
    generator = np.random.default_rng(0)
    shape = (18, 5, 7)
    mask = generator.random(shape) < 0.5
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    patches = CnnPatches(np.flatnonzero(mask), grid_shape=shape, width=8)
    patches.net = nn.Sequential(nn.Identity())
    x = torch.randn(2, int(mask.sum()))
    volume = patches.embed(x)[..., 0].reshape(2, 32, 16, 16)
    for row, values in zip(volume, x, strict=True):
        expected = np.zeros(shape)
        expected[mask] = values
        np.testing.assert_allclose(row[7:25, 5:10, 4:11], expected)
        np.testing.assert_allclose(row.abs().sum(), np.abs(expected).sum(), rtol=1e-5)


def test_a_shifted_mask_in_a_larger_grid_gives_the_same_patches() -> None:
    torch.manual_seed(0)
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[1:9, 2:8, 0:10] = True
    shifted = np.zeros((20, 20, 20), dtype=bool)
    shifted[8:16, 5:11, 10:20] = True
    first = CnnPatches(np.flatnonzero(mask), grid_shape=mask.shape, width=8)
    second = CnnPatches(np.flatnonzero(shifted), grid_shape=shifted.shape, width=8)
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, int(mask.sum()))
    torch.testing.assert_close(first.embed(x), second.embed(x))


def test_a_trials_patches_do_not_depend_on_the_rest_of_the_batch() -> None:
    patches = CnnPatches(np.arange(16**3), grid_shape=(16, 16, 16), width=8).train()
    x = torch.randn(3, 16**3)
    torch.testing.assert_close(patches.embed(x)[:1], patches.embed(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (512, 8), (8, 2), (18, 2), (3, 1)])
def test_groups_divide_the_channels_and_hold_several(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


class Sum(nn.Module):
    """``relu(path(x) + shortcut(x))``, without anything in place."""

    def __init__(self, path: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.path, self.shortcut = path, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def plain_block(n_in: int, n_out: int, stride: int) -> nn.Module:
    path = nn.Sequential(
        nn.Conv3d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, n_out),
        nn.ReLU(),
        nn.Conv3d(n_out, n_out, 3, padding=1, bias=False),
        nn.GroupNorm(8, n_out),
    )
    if stride == 1 and n_in == n_out:
        return Sum(path, nn.Identity())
    shortcut = nn.Sequential(nn.Conv3d(n_in, n_out, 1, stride=stride, bias=False), nn.GroupNorm(8, n_out))
    return Sum(path, shortcut)


def plain_cnn(width: int) -> nn.Sequential:
    """The network as its description reads, of torch's layers alone."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((1, 32), (32, 64)):
        conv = nn.Conv3d(n_in, n_out, 7, stride=2, padding=3, bias=False)
        layers.append(nn.Sequential(conv, nn.GroupNorm(8, n_out), nn.ReLU()))
    for n_in, n_out, stride in ((64, 64, 1), (64, 128, 2), (128, width, 2), (width, width, 1)):
        layers.append(nn.Sequential(plain_block(n_in, n_out, stride), plain_block(n_out, n_out, 1)))
    return nn.Sequential(*layers)


def test_patches_and_gradients_are_those_of_the_plain_network() -> None:
    torch.manual_seed(0)
    shape = (32, 16, 48)
    patches = CnnPatches(np.arange(np.prod(shape)), grid_shape=shape, width=32)
    reference = plain_cnn(32)
    reference.load_state_dict(patches.net.state_dict())
    x = torch.randn(2, int(np.prod(shape)))
    result = patches.embed(x)
    expected = reference(x.view(2, 1, *shape)).permute(0, 2, 3, 4, 1).reshape(2, -1, 32)
    weights = torch.randn_like(expected)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    assert (result - expected).norm() < 1e-4 * expected.norm()
    for (name, own), other in zip(patches.net.named_parameters(), reference.parameters(), strict=True):
        assert (own.grad - other.grad).norm() < 1e-4 * other.grad.norm(), name


def test_gradients_in_mixed_precision_are_those_of_float32() -> None:
    """Where maps end 2 voxels wide; memory that was given back is not clean, as in a long training."""
    voxels = np.arange(32**3)
    torch.manual_seed(0)
    patches = CnnPatches(voxels, grid_shape=(32, 32, 32), width=128)
    x_BV = torch.randn(2, len(voxels))

    def gradients(*, mixed: bool) -> list[torch.Tensor]:
        dirty = [torch.full((1 << 18,), float("nan")) for _ in range(8)]
        del dirty
        patches.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            patches.embed(x_BV).float().square().mean().backward()
        return [parameter.grad.clone() for parameter in patches.parameters() if parameter.grad is not None]

    expected = gradients(mixed=False)
    for _ in range(5):
        for found, wanted in zip(gradients(mixed=True), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05 * float(wanted.abs().max()))
