"""From one voxel grid to another of the same space: nearest neighbour for labels and masks, linear for signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.nifti_stream import masked_blocks
from clipmused_bids.records import BoolArray, FloatArray, Grid


def nearest_on_grid(values: NDArray[Any], source: Grid, target: Grid) -> NDArray[Any]:
    """Bring a volume of labels to another grid: each voxel takes the label of the source voxel that its centre is in.

    nilearn's nearest neighbours are the same up to the centres of the outermost voxels; beyond these, and where
    rounding puts a centre beyond them, it leaves 0.

    Parameters
    ----------
    values : ndarray of int or bool, of the source grid's shape
    source, target : Grid
        In one space.

    Returns
    -------
    ndarray of the target grid's shape, of the same type
        0 outside the source's field of view.
    """
    places = voxel_coordinates(source, target, np.ones(target.shape, dtype=bool))
    seen = _in_view(places, source)
    moved = np.zeros(int(np.prod(target.shape)), dtype=values.dtype)
    moved[seen] = values[tuple(np.floor(places[:, seen] + 0.5).astype(int))]
    return moved.reshape(target.shape)


def linear_on_grid(values: FloatArray, source: Grid, target: Grid) -> NDArray[np.float32]:
    """Bring one volume of signals to another grid by trilinear interpolation; 0 outside the field of view."""
    everywhere = np.ones(target.shape, dtype=bool)
    sampled = _sampled(values.astype(np.float32), voxel_coordinates(source, target, everywhere))
    return sampled.reshape(target.shape)


def blocks_on_grid(
    image: Any, path: Path, *, source: Grid, target: Grid, mask: BoolArray
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read a 4-D image block by block at the voxels of a mask, by trilinear interpolation where the grids differ.

    No more than a block of volumes and the samples made of it are held at a time.

    Parameters
    ----------
    image : nibabel.Nifti1Image
    path : Path
        For messages.
    source : Grid
        Grid of the image.
    target : Grid
        Grid of the mask, in the same space.
    mask : ndarray of bool, of the target grid's shape

    Yields
    ------
    int
        Index of the block's first volume.
    ndarray of shape (n_volumes, n_voxels), float32
        Voxels in C order of the mask; 0 outside the image's field of view, not finite where a neighbour is not.

    Raises
    ------
    DataError
        As ``masked_blocks``.
    """
    if source.agrees_with(target):
        yield from masked_blocks(image, path, mask)
        return
    coordinates = voxel_coordinates(source, target, mask)
    for start, block in masked_blocks(image, path, np.ones(source.shape, dtype=bool)):
        volumes = block.reshape(len(block), *source.shape)
        yield start, np.stack([_sampled(volume, coordinates) for volume in volumes])


def voxel_coordinates(source: Grid, target: Grid, mask: BoolArray) -> NDArray[np.float64]:
    """Where the voxels of a mask on the target grid lie in the source grid, in its voxels, (3, n_voxels)."""
    places = np.vstack([np.nonzero(mask), np.ones(int(mask.sum()))])
    moved = np.linalg.solve(source.affine, target.affine @ places)[:3]
    # Voxel centres that coincide must not fall outside an edge by rounding.
    whole = np.rint(moved)
    return np.where(np.abs(moved - whole) < 1e-6, whole, moved)


def share_in_view(source: Grid, target: Grid, mask: BoolArray) -> float:
    """Share of the voxels of a mask on the target grid that lie in the field of view of the source grid."""
    return float(_in_view(voxel_coordinates(source, target, mask), source).mean())


def _in_view(places: NDArray[np.float64], source: Grid) -> BoolArray:
    ends = np.array(source.shape)[:, None] - 0.5
    return np.asarray(((places >= -0.5) & (places < ends)).all(axis=0))


def _sampled(volume: NDArray[np.float32], coordinates: NDArray[np.float64]) -> NDArray[np.float32]:
    from scipy.ndimage import map_coordinates

    sampled = map_coordinates(volume, coordinates, output=np.float32, order=1, mode="constant", cval=0.0)
    return np.asarray(sampled, dtype=np.float32)
