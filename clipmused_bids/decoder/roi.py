"""Patches of regions and of aligned features: linear maps, shared or a participant's own.

Shape suffixes: B batch, V voxels, R regions, S slots (voxels of the largest region), K shared features, M patches,
D width. Every patch module has two steps: ``features`` is all that may differ between participants, ``embed`` is
shared by all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray

# One product for each region costs a processor about 10 us more than its share of a single one; a number of padding
# about 2 ns or more (benchmarks/network.py).
PADDING_WORTH_A_PRODUCT = 5000


class RegionMaps(nn.Module):
    """A linear map of its own for each region's voxels: ``f_r = x_r W_r``.

    The weights of all regions are one (V, E) tensor, in order of region, so that parameters are counted as they are.
    The forward pass gathers them into regions padded to the size of the largest and multiplies all of them in one
    product, or, where that would multiply many zeros, one region after the other.

    Parameters
    ----------
    region : ndarray of int, shape (n_voxels,)
        Region of each voxel; voxels with -1 belong to none and are not read.
    n_regions : int
        R. A region without a voxel gives zeros.
    width : int
        E, size of the result for each region.

    Raises
    ------
    DataError
        If no voxel belongs to a region.
    """

    voxel: Tensor
    slot: Tensor

    def __init__(self, region: IntArray, *, n_regions: int, width: int) -> None:
        super().__init__()
        voxel = np.flatnonzero(region >= 0)
        voxel = voxel[np.argsort(region[voxel], kind="stable")]
        if len(voxel) == 0:
            raise DataError(
                "No voxel of the mask belongs to a region of the atlas.", hint="check --atlas and --mask"
            )
        sizes = np.bincount(region[voxel], minlength=n_regions)
        starts = np.cumsum(sizes) - sizes
        step = np.arange(sizes.max())
        slot = np.where(step < sizes[:, None], starts[:, None] + step, len(voxel))
        self.register_buffer("voxel", torch.as_tensor(voxel), persistent=False)
        self.register_buffer("slot", torch.as_tensor(slot), persistent=False)
        self.sizes: list[int] = sizes.tolist()
        self.unequal = bool(slot.size - len(voxel) > PADDING_WORTH_A_PRODUCT / width * n_regions)
        size_of_voxel = torch.as_tensor(sizes[region[voxel]], dtype=torch.float32)
        self.weight = nn.Parameter(torch.randn(len(voxel), width) / size_of_voxel[:, None].sqrt())

    def forward(self, x_BV: Tensor) -> Tensor:
        """Return (B, R, E)."""
        # A graphics processor waits for its orders: there hundreds of small products have not been shown to pay.
        if self.unequal and x_BV.device.type == "cpu":
            return self._each(x_BV)
        return self._padded(x_BV)

    def _each(self, x_BV: Tensor) -> Tensor:
        """One product for each region; nothing is copied but the voxels."""
        regions = x_BV.index_select(1, self.voxel).split_with_sizes(self.sizes, dim=1)
        maps = self.weight.split_with_sizes(self.sizes)
        return torch.stack([x_BS @ map_SE for x_BS, map_SE in zip(regions, maps, strict=True)], dim=1)

    def _padded(self, x_BV: Tensor) -> Tensor:
        """One product for all regions, padded to the size of the largest."""
        n_regions, n_slots = self.slot.shape
        # One zero voxel with zero weights stands in for every slot that a region does not fill.
        x_BRS = nn.functional.pad(x_BV[:, self.voxel], (0, 1))[:, self.slot]
        weight = nn.functional.pad(self.weight, (0, 0, 0, 1))
        weight_RSE = weight.index_select(0, self.slot.flatten()).view(n_regions, n_slots, -1)
        return torch.einsum("brs,rse->bre", x_BRS, weight_RSE)

    @torch.no_grad()
    def start_from(self, maps: FloatArray) -> None:
        """Set the weights from an (n_voxels, E) array; rows of voxels outside all regions are not used."""
        self.weight.copy_(torch.as_tensor(maps)[self.voxel])


class SharedRegionPatches(nn.Module):
    """One patch for each region, by maps that all participants share: the paper's NSD model in a common space.

    One more participant costs nothing here.

    Parameters
    ----------
    region : ndarray of int, shape (n_voxels,)
        Region of each voxel, -1 for none.
    n_regions, width : int
        M and D.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994.
    """

    def __init__(self, region: IntArray, *, n_regions: int, width: int) -> None:
        super().__init__()
        self.n_features = len(region)
        self.n_patches = n_regions
        self.maps = RegionMaps(region, n_regions=n_regions, width=width)

    def features(self, x_BV: Tensor, participant: int) -> Tensor:  # noqa: ARG002 - nothing is a participant's own
        """Return the voxels (B, V) as they are."""
        return x_BV

    def embed(self, x_BV: Tensor) -> Tensor:
        """Return the patches (B, M, D)."""
        return self.maps(x_BV)  # type: ignore[no-any-return]


class OwnRegionPatches(nn.Module):
    """One patch for each region in native space: each participant's own maps, then maps that all share.

    Region r of participant n: ``p_r = (x_r A_r^(n)) W_r`` with A (V_r, K) the participant's own and W (K, D)
    shared. One more participant costs V_n K numbers here.

    Parameters
    ----------
    regions : sequence of ndarray of int, each of shape (n_voxels_n,)
        Region of each voxel, one array for each participant.
    n_regions, n_shared, width : int
        M, K and D.
    """

    def __init__(self, regions: Sequence[IntArray], *, n_regions: int, n_shared: int, width: int) -> None:
        super().__init__()
        self.n_patches = n_regions
        self.n_features = n_regions * n_shared
        self.own = nn.ModuleList(
            RegionMaps(region, n_regions=n_regions, width=n_shared) for region in regions
        )
        self.weight = nn.Parameter(torch.randn(n_regions, n_shared, width) * n_shared**-0.5)

    def features(self, x_BV: Tensor, participant: int) -> Tensor:
        """Return the shared features (B, R K)."""
        return self.own[participant](x_BV).flatten(1)  # type: ignore[no-any-return]

    def embed(self, f_BF: Tensor) -> Tensor:
        """Return the patches (B, M, D)."""
        n_regions, n_shared, _ = self.weight.shape
        return torch.einsum("brk,rkd->brd", f_BF.view(-1, n_regions, n_shared), self.weight)

    def start_from(self, maps: Sequence[FloatArray]) -> None:
        """Set each participant's maps from an (n_voxels_n, K) array."""
        for module, values in zip(self.own, maps, strict=True):
            assert isinstance(module, RegionMaps)
            module.start_from(values)


class AlignedFeatures(nn.Module):
    """Aligned features as they are: each participant's own linear map of all voxels, ``f = x A^(n)``.

    One more participant costs V_n F numbers. In native space, where voxel k of two people is not the same place,
    nothing less lets one network read several people; it is subject information that cannot be avoided there.

    Parameters
    ----------
    n_voxels : sequence of int
        V_n of each participant.
    n_shared : int
        F.
    """

    n_patches: int = 1

    def __init__(self, n_voxels: Sequence[int], *, n_shared: int) -> None:
        super().__init__()
        self.n_features = n_shared
        self.own = nn.ParameterList(
            nn.Parameter(torch.randn(size, n_shared) * size**-0.5) for size in n_voxels
        )

    def features(self, x_BV: Tensor, participant: int) -> Tensor:
        """Return the shared features (B, F)."""
        own: Tensor = self.own[participant]
        return x_BV @ own

    @torch.no_grad()
    def start_from(self, maps: Sequence[FloatArray]) -> None:
        """Set each participant's map from an (n_voxels_n, F) array."""
        for parameter, values in zip(self.own, maps, strict=True):
            parameter.copy_(torch.as_tensor(values))


class AlignedPatches(AlignedFeatures):
    """Patches of aligned features, for native space without corresponding regions.

    Each participant's own linear map brings all of the participant's voxels into K shared features; M shared
    linear maps read them as patches: ``p_m = (x A^(n)) W_m``. One more participant costs V_n K numbers here.

    Parameters
    ----------
    n_voxels : sequence of int
        V_n of each participant.
    n_shared, n_patches, width : int
        K, M and D.
    """

    def __init__(self, n_voxels: Sequence[int], *, n_shared: int, n_patches: int, width: int) -> None:
        super().__init__(n_voxels, n_shared=n_shared)
        self.n_patches = n_patches
        self.weight = nn.Parameter(torch.randn(n_patches, n_shared, width) * n_shared**-0.5)

    def embed(self, f_BK: Tensor) -> Tensor:
        """Return the patches (B, M, D)."""
        return torch.einsum("bk,mkd->bmd", f_BK, self.weight)
