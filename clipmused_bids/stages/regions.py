"""Regions of the voxels from an atlas or a grid; clusters are made by the decoder from its training responses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.atlases.regions import read_atlas
from clipmused_bids.dataset.atlases.template_flow import nearest_resolution
from clipmused_bids.errors import DataError
from clipmused_bids.records import IntArray, TrialData, VoxelSpace
from clipmused_bids.responses.regions import grid_regions
from clipmused_bids.stages.atlas import Atlas

logger = logging.getLogger(__name__)


def voxel_spaces(train: TrialData, atlas: Atlas) -> tuple[VoxelSpace, ...]:
    """Give each participant's voxels the regions of an atlas; where none is used they have none.

    Raises
    ------
    DataError
        If the atlas has fewer than two regions that everyone has voxels in.
    """
    logger.info("Regions: %s.", atlas.why)
    if atlas.kind == "grid":
        n_regions = int((atlas.label or "").partition(":")[2])
        return _grid(train.spaces, n_regions=n_regions)
    return _from_images(train, atlas) if atlas.kind == "images" else train.spaces


def label_images(atlas: Atlas, train: TrialData) -> tuple[Path, ...]:
    """Label image of each participant, of several resolutions the one nearest to the voxels; empty without images."""
    if atlas.kind != "images":
        return ()
    pairs = [(atlas.images[p], space) for p, space in zip(train.participants, train.spaces, strict=True)]
    return tuple(
        images[0] if len(images) == 1 else nearest_resolution(images, space.grid) for images, space in pairs
    )


def _grid(spaces: Sequence[VoxelSpace], *, n_regions: int) -> tuple[VoxelSpace, ...]:
    space = spaces[0]
    mask = np.zeros(space.grid.shape, dtype=bool)
    mask.flat[space.voxels] = True
    sizes = np.linalg.norm(space.grid.affine[:3, :3], axis=0)
    region = grid_regions(mask, n_regions=n_regions, voxel_size=(sizes[0], sizes[1], sizes[2]))
    names = tuple(f"box{k + 1}" for k in range(int(region.max()) + 1))
    return tuple(replace(one, region=region, region_names=names) for one in spaces)


def _from_images(train: TrialData, atlas: Atlas) -> tuple[VoxelSpace, ...]:
    found: list[tuple[IntArray, tuple[str, ...]]] = []
    paths = label_images(atlas, train)
    for path, space in zip(paths, train.spaces, strict=True):
        # In a common space all voxels are the same.
        if train.common_space and path in paths[: len(found)]:
            found.append(found[paths.index(path)])
        else:
            found.append(read_atlas(path, grid=space.grid, voxels=space.voxels, table=atlas.table))
    return _in_common(train.spaces, found)


def _in_common(
    spaces: Sequence[VoxelSpace], found: Sequence[tuple[IntArray, tuple[str, ...]]]
) -> tuple[VoxelSpace, ...]:
    """Keep the regions that have voxels in everyone, so that region k is the same one in all."""
    present = [{names[value - 1] for value in np.unique(labels) if value > 0} for labels, names in found]
    shared = set.intersection(*present)
    kept = tuple(name for name in found[0][1] if name in shared)
    lost = len(set.union(*present)) - len(kept)
    if lost:
        logger.warning(
            "%d region(s) of the atlas are missing in some participant's mask and are left out.", lost
        )
    if len(kept) < 2:
        raise DataError(
            f"the atlas has {len(kept)} region(s) inside the masks of all participants; expected two or more.",
            hint="check that atlas and images are in one space, or use --atlas clusters:32",
        )
    result = []
    for space, (labels, names) in zip(spaces, found, strict=True):
        number = np.array([-1, *(kept.index(name) if name in shared else -1 for name in names)])
        result.append(replace(space, region=number[labels], region_names=kept))
    inside = int((result[0].region >= 0).sum())
    logger.info(
        "Regions: %d of the atlas; %d of %d voxels lie in one.", len(kept), inside, len(result[0].voxels)
    )
    return tuple(result)
