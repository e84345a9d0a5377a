"""From one voxel grid to another of the same space: nearest neighbour for labels and masks, linear for signals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def sample_volumes(
    volumes: NDArray[np.float32], source: Grid, coordinates: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample volumes between their voxels by trilinear interpolation.

    Parameters
    ----------
    volumes : ndarray of shape (n_volumes, n_voxels of the source grid), float32
        As they are stored, the first axis of the grid fastest.
    source : Grid
    coordinates : ndarray of shape (3, n_places)
        From `voxel_coordinates`.

    Returns
    -------
    ndarray of shape (n_volumes, n_places), float32
        0 outside the field of view, not finite where a neighbour is not.
    """
    stored = volumes.reshape(-1, *source.shape[::-1])
    return np.stack([_sampled(volume, coordinates[::-1]) for volume in stored])


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
