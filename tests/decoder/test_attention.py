from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clipmused_bids.decoder.attention import last_block, patch_places, rollout
from clipmused_bids.decoder.cnn import CnnPatches
from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches, SharedRegionPatches
from clipmused_bids.errors import DataError

# One token, two patches, one head; rows sum to 1.
FIRST = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])[None, None]
SECOND = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])[None, None]


def test_rollout_of_two_blocks_by_hand() -> None:
    """(A + I) / 2 is [.5 .5 0; .25 .75 0; 0 0 1], then [.75 0 .25; ...]: .75 * [.5 .5 0] + .25 * [0 0 1]."""
    found = rollout([FIRST, SECOND], n_tokens=1)
    assert found.shape == (1, 1, 2)
    assert found[0, 0].tolist() == pytest.approx([0.375, 0.25])


def test_rollout_of_one_block_is_half_of_its_attention() -> None:
    assert torch.allclose(rollout([FIRST], n_tokens=1), last_block([FIRST], n_tokens=1) / 2)


def test_last_block_is_the_mean_over_heads_of_the_last() -> None:
    both = torch.cat([FIRST, SECOND], dim=1)
    found = last_block([SECOND, both], n_tokens=1)
    assert found[0, 0].tolist() == pytest.approx([0.5, 0.25])


def test_regions_are_local_and_their_voxels_have_the_patch_value() -> None:
    region = np.array([1, -1, 0, 1])
    places = patch_places(SharedRegionPatches(region, n_regions=2, width=3), participant=0, n_voxels=4)
    assert places.local
    assert places.to_voxels(np.array([[0.1, 0.9]])).tolist() == [[0.9, 0.0, 0.1, 0.9]]
    own = OwnRegionPatches([region, region[::-1].copy()], n_regions=2, n_shared=2, width=3)
    assert patch_places(own, participant=1, n_voxels=4).to_voxels(np.array([[0.1, 0.9]])).tolist() == [
        [0.9, 0.1, 0.0, 0.9]
    ]


def test_aligned_patches_are_spread_by_the_norms_of_their_weights() -> None:
    torch.manual_seed(0)
    patches = AlignedPatches([4, 6], n_shared=3, n_patches=2, width=5)
    places = patch_places(patches, participant=1, n_voxels=6)
    own = patches.own[1].detach().numpy()
    rows = [np.linalg.norm(own @ patches.weight[m].detach().numpy(), axis=1) for m in range(2)]
    expected = 0.3 * rows[0] / rows[0].sum() + 0.7 * rows[1] / rows[1].sum()
    assert not places.local
    assert places.to_voxels(np.array([[0.3, 0.7]]))[0] == pytest.approx(expected, rel=1e-5)


def test_cnn_patches_stand_above_blocks_of_sixteen_voxels() -> None:
    grid = (32, 16, 16)
    voxels = np.ravel_multi_index(([0, 15, 16, 31], [0, 0, 0, 15], [0, 0, 0, 15]), grid)
    places = patch_places(CnnPatches(voxels, grid_shape=grid, width=8), participant=0, n_voxels=4)
    assert not places.local
    assert places.to_voxels(np.array([[2.0, 3.0]])).tolist() == [[2.0, 2.0, 3.0, 3.0]]


def test_other_patches_are_refused() -> None:
    with pytest.raises(DataError, match="Identity have no place"):
        patch_places(nn.Identity(), participant=0, n_voxels=1)  # type: ignore[arg-type]
