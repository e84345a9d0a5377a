"""What tokens attend to: from attention maps to patches, and from patches to voxels.

Shape suffixes: B batch, H heads, M patches, K tokens, T = K + M, V voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipmused_bids.decoder.cnn import STRIDE, CnnPatches
from clipmused_bids.decoder.network import Patches
from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches, RegionMaps, SharedRegionPatches
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray


def last_block(maps: Sequence[Tensor], *, n_tokens: int) -> Tensor:
    """Attention of the tokens over patches in the last block, mean over heads.

    Parameters
    ----------
    maps : sequence of Tensor, each of shape (B, H, T, T)
        Of each block, first block first; rows sum to 1.
    n_tokens : int
        K.

    Returns
    -------
    Tensor of shape (B, K, M)
        Rows sum to less than 1: tokens attend to tokens as well.
    """
    return maps[-1].mean(dim=1)[:, :n_tokens, n_tokens:]


def rollout(maps: Sequence[Tensor], *, n_tokens: int) -> Tensor:
    """Attention of the tokens over patches through all blocks, with their residual connections.

    ``R = A_L ... A_1`` with ``A_l = (mean over heads + I) / 2``.

    Parameters
    ----------
    maps, n_tokens
        As for :func:`last_block`.

    Returns
    -------
    Tensor of shape (B, K, M)

    References
    ----------
    Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385
    """
    n_all = maps[0].shape[-1]
    identity = torch.eye(n_all, device=maps[0].device, dtype=maps[0].dtype)
    rolled_BTT = identity.expand(len(maps[0]), n_all, n_all)
    for map_BHTT in maps:
        rolled_BTT = (map_BHTT.mean(dim=1) + identity) / 2 @ rolled_BTT
    return rolled_BTT[:, :n_tokens, n_tokens:]


@dataclass(frozen=True)
class PatchPlaces:
    """Which voxels a patch stands for.

    Parameters
    ----------
    local : bool
        Whether a patch is made of its voxels alone, and of nothing else.
    how : str
        How values of patches become values of voxels, in words.
    patch : ndarray of int, shape (V,), optional
        Patch of each voxel, -1 for none.
    weight : ndarray of shape (M, V), optional
        Instead: share of each voxel in a patch; rows sum to 1.
    """

    local: bool
    how: str
    patch: IntArray | None = None
    weight: FloatArray | None = None

    def to_voxels(self, values: FloatArray) -> FloatArray:
        """Bring values of patches (n, M) to voxels (n, V); 0 where there is no patch."""
        if self.weight is not None:
            return np.asarray(values @ self.weight)
        assert self.patch is not None
        return np.where(self.patch >= 0, values[:, np.maximum(self.patch, 0)], 0.0)


def patch_places(patches: Patches, *, participant: int, n_voxels: int) -> PatchPlaces:
    """Tell where the patches of one participant lie.

    Parameters
    ----------
    patches : Patches
    participant : int
        Index of the participant among those of the network.
    n_voxels : int
        V.

    Raises
    ------
    DataError
        For patches of another kind.
    """
    if isinstance(patches, SharedRegionPatches):
        return _of_regions(patches.maps, n_voxels=n_voxels)
    if isinstance(patches, OwnRegionPatches):
        own = patches.own[participant]
        assert isinstance(own, RegionMaps)
        return _of_regions(own, n_voxels=n_voxels)
    if isinstance(patches, AlignedPatches):
        return _of_aligned(patches, participant=participant)
    if isinstance(patches, CnnPatches):
        return _of_cnn(patches)
    raise DataError(f"attention: patches of kind {type(patches).__name__} have no place in the brain.")


def _of_regions(maps: RegionMaps, *, n_voxels: int) -> PatchPlaces:
    patch = np.full(n_voxels, -1)
    patch[maps.voxel.cpu().numpy()] = np.repeat(np.arange(len(maps.sizes)), maps.sizes)
    return PatchPlaces(local=True, how="each voxel has the value of its region's patch", patch=patch)


def _of_aligned(patches: AlignedPatches, *, participant: int) -> PatchPlaces:
    """Norm over width of each voxel's row in ``A^(n) W_m``, (M, V)."""
    with torch.no_grad():
        own_VK: Tensor = patches.own[participant].double()
        weight_MKD = patches.weight.double()
        gram_MKK = weight_MKD @ weight_MKD.transpose(1, 2)
        square_MV = torch.stack([((own_VK @ gram_KK) * own_VK).sum(dim=1) for gram_KK in gram_MKK])
        norm_MV = square_MV.clamp_min(0).sqrt().cpu().numpy()
    total = norm_MV.sum(axis=1, keepdims=True)
    return PatchPlaces(
        local=False,
        how="each patch reads all voxels; its value is spread over them by the norms of their weights in the patch's "
        "linear map, which sum to 1",
        weight=norm_MV / np.where(total > 0, total, 1.0),
    )


def _of_cnn(patches: CnnPatches) -> PatchPlaces:
    position = np.stack(np.unravel_index(patches.index.cpu().numpy(), patches.box_shape)) // STRIDE
    x, y, z = (size // STRIDE for size in patches.box_shape)
    return PatchPlaces(
        local=False,
        how=f"each patch is seen at the {STRIDE} x {STRIDE} x {STRIDE} voxels above which it stands (nearest "
        "neighbour); the network that makes it reads voxels far beyond them",
        patch=np.ravel_multi_index(tuple(position), (x, y, z)),
    )
