"""Regions that the maps of a decoder are about: its own, or parcels where it has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipmused_bids.methods.base import Method
from clipmused_bids.methods.token_attention import regions_of
from clipmused_bids.records import FloatArray, IntArray, SetName, TrialData, VoxelSpace
from clipmused_bids.responses.regions import cluster_regions, grid_regions

VOXELS_IN_PARCEL = 10
CLUSTERING_TRIALS = 300


@dataclass(frozen=True)
class MapRegions:
    """Regions of one participant's voxels.

    Parameters
    ----------
    region : ndarray of int, shape (n_voxels,)
        From 0; every voxel is in one.
    names : tuple of str
    has_outside : bool
        Whether the last one is what lies outside the decoder's regions.
    how : str
        Where they come from, in words.
    """

    region: IntArray
    names: tuple[str, ...]
    has_outside: bool
    how: str

    @property
    def inside(self) -> IntArray:
        """Regions without what lies outside of the decoder's: -1 there."""
        if not self.has_outside:
            return self.region
        return np.where(self.region == len(self.names) - 1, -1, self.region)

    @property
    def n_inside(self) -> int:
        """Number of the regions proper."""
        return len(self.names) - int(self.has_outside)

    def sizes(self) -> IntArray:
        """Voxels of each region."""
        return np.bincount(self.region, minlength=len(self.names))

    def centres(self, space: VoxelSpace) -> FloatArray:
        """Mean position of each region's voxels in mm, (R, 3); NaN for a region without any."""
        position = np.stack(np.unravel_index(space.voxels, space.grid.shape), axis=1)
        millimetres = position @ space.grid.affine[:3, :3].T + space.grid.affine[:3, 3]
        sizes = self.sizes()
        sums = np.stack(
            [np.bincount(self.region, weights=axis, minlength=len(self.names)) for axis in millimetres.T],
            axis=1,
        )
        return np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], np.nan)


def map_regions(method: Method, data: TrialData, *, sets: tuple[SetName, ...], n_regions: int) -> MapRegions:
    """Take the decoder's regions; without any, cut the voxels into parcels of neighbours.

    In a common space parcels are boxes, the same for everyone; in native space clusters of voxels with similar
    responses to training trials.

    Parameters
    ----------
    method : Method
    data : TrialData
        All stored trials of one participant.
    sets : tuple of str
        Set of each trial.
    n_regions : int
        Of parcels; fewer where each would have fewer than ten voxels on average.
    """
    space = data.spaces[0]
    if len(space.region_names) > 1:
        return _with_outside(
            np.asarray(space.region), space.region_names, how="regions of the atlas of the decoder"
        )
    own = regions_of(method, data.participants[0])
    if own is not None:
        names = tuple(f"cluster{k + 1}" for k in range(int(own.max()) + 1))
        return _with_outside(own, names, how="clusters of the decoder, from responses of training trials")
    mask = np.zeros(space.grid.shape, dtype=bool)
    mask.flat[space.voxels] = True
    n_parcels = min(n_regions, max(2, len(space.voxels) // VOXELS_IN_PARCEL))
    training = np.flatnonzero(np.array(sets) == "train")
    if data.common_space or len(training) == 0:
        sizes = np.linalg.norm(space.grid.affine[:3, :3], axis=0)
        region = grid_regions(mask, n_regions=n_parcels, voxel_size=(sizes[0], sizes[1], sizes[2]))
        how = "boxes of neighbouring voxels; the decoder has no regions"
    else:
        some = training[np.unique(np.linspace(0, len(training) - 1, CLUSTERING_TRIALS).astype(int))]
        region = cluster_regions(data.responses[0].read(data.row[some]), mask, n_regions=n_parcels)
        how = "clusters of neighbouring voxels with similar responses to training trials; the decoder has no regions"
    names = tuple(f"parcel{k + 1}" for k in range(int(region.max()) + 1))
    return MapRegions(region, names, has_outside=False, how=how)


def _with_outside(region: IntArray, names: tuple[str, ...], *, how: str) -> MapRegions:
    outside = region < 0
    if not outside.any():
        return MapRegions(region, names, has_outside=False, how=how)
    return MapRegions(np.where(outside, len(names), region), (*names, "outside"), has_outside=True, how=how)
