from __future__ import annotations

import numpy as np
import pytest
import torch

from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches, RegionMaps, SharedRegionPatches
from clipmused_bids.errors import DataError

REGION = np.array([2, -1, 0, 2, 2, 4, 0, 4, -1, 2])


def test_every_region_is_read_by_its_own_map() -> None:
    patches = SharedRegionPatches(REGION, n_regions=5, width=6)
    x = torch.randn(3, len(REGION))
    maps = torch.randn(len(REGION), 6)
    patches.maps.start_from(maps.numpy())
    result = patches.embed(patches.features(x, 1))
    for r in range(5):
        inside = r == REGION
        torch.testing.assert_close(result[:, r], x[:, inside] @ maps[inside])
    assert not result[:, 1].any()
    assert not result[:, 3].any()


def test_only_voxels_of_regions_cost_parameters() -> None:
    patches = SharedRegionPatches(REGION, n_regions=5, width=6)
    assert sum(p.numel() for p in patches.parameters()) == 8 * 6


def test_voxels_outside_all_regions_are_not_read() -> None:
    patches = SharedRegionPatches(REGION, n_regions=5, width=6)
    x = torch.randn(2, len(REGION))
    other = x.clone()
    other[:, REGION == -1] = 1e6
    torch.testing.assert_close(patches.embed(x), patches.embed(other))


def test_the_gradient_reaches_each_voxels_weights_once() -> None:
    maps = RegionMaps(REGION, n_regions=5, width=1)
    x = torch.randn(1, len(REGION))
    maps(x).sum().backward()
    torch.testing.assert_close(maps.weight.grad[:, 0], x[0, maps.voxel])


def test_a_mask_without_regions_is_refused() -> None:
    with pytest.raises(DataError, match="No voxel of the mask belongs to a region"):
        RegionMaps(np.full(4, -1), n_regions=2, width=3)


def test_patches_start_with_unit_variance_whatever_the_regions_size() -> None:
    torch.manual_seed(0)
    region = np.repeat([0, 1], [20, 2000])
    patches = SharedRegionPatches(region, n_regions=2, width=256)
    spread = patches.embed(torch.randn(200, len(region))).std(dim=(0, 2))
    torch.testing.assert_close(spread, torch.ones(2), rtol=0.15, atol=0)


def test_in_native_space_each_participant_has_own_maps_into_shared_ones() -> None:
    regions = [REGION, np.array([0, 0, 4, 2, 1])]
    patches = OwnRegionPatches(regions, n_regions=5, n_shared=3, width=6)
    maps = [
        np.random.default_rng(n).standard_normal((len(r), 3)).astype(np.float32)
        for n, r in enumerate(regions)
    ]
    patches.start_from(maps)
    for n, region in enumerate(regions):
        x = torch.randn(2, len(region))
        result = patches.embed(patches.features(x, n))
        for r in range(5):
            inside = region == r
            expected = x[:, inside] @ torch.as_tensor(maps[n][inside]) @ patches.weight[r]
            torch.testing.assert_close(result[:, r], expected)
    assert sum(p.numel() for p in patches.own[0].parameters()) == 8 * 3


def test_aligned_features_are_read_as_patches() -> None:
    patches = AlignedPatches([7, 4], n_shared=3, n_patches=2, width=5)
    maps = [np.ones((7, 3), np.float32), np.arange(12, dtype=np.float32).reshape(4, 3)]
    patches.start_from(maps)
    x = torch.randn(2, 4)
    features = patches.features(x, 1)
    torch.testing.assert_close(features, x @ torch.as_tensor(maps[1]))
    result = patches.embed(features)
    for m in range(2):
        torch.testing.assert_close(result[:, m], features @ patches.weight[m])


@pytest.mark.parametrize("sizes", [[400, 0, 1, 30, 0], [0, 0, 7]])
def test_one_region_after_the_other_gives_what_padded_regions_give(sizes: list[int]) -> None:
    torch.manual_seed(0)
    region = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    maps = RegionMaps(region, n_regions=len(sizes), width=6)
    x = torch.randn(3, len(region), requires_grad=True)
    found = []
    for form in (maps._each, maps._padded):
        maps.weight.grad = x.grad = None
        result = form(x)
        (result * torch.arange(6.0)).sum().backward()
        found.append((result.detach(), maps.weight.grad, x.grad))
    for each, padded in zip(*found, strict=True):
        torch.testing.assert_close(each, padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sizes", "width", "unequal"), [([300, 300], 512, False), ([300, 1], 512, True)])
def test_regions_of_unequal_sizes_are_not_padded(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], width: int, unequal: bool
) -> None:
    maps = RegionMaps(np.repeat([0, 1], sizes), n_regions=2, width=width)
    taken: list[str] = []
    for name in ("_each", "_padded"):
        monkeypatch.setattr(maps, name, lambda _x, name=name: taken.append(name))
    maps(torch.zeros(1, sum(sizes)))
    maps(torch.zeros(1, sum(sizes), device="meta"))
    assert taken == ["_each" if unequal else "_padded", "_padded"]
