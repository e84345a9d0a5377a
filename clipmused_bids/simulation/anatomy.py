"""Grids, brain masks and regions; every voxel has a place in a template space, in mm (RAS+)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import BoolArray, FloatArray, Grid, IntArray

REGION_NAMES = tuple(f"{side}{area}" for side in ("L", "R") for area in ("V1", "V2", "V4", "LO", "VO", "PH"))
# Whether a region follows what the picture looks like, rather than what it shows.
EARLY = np.array([name[1:] in {"V1", "V2", "V4"} for name in REGION_NAMES])
_CENTRES = {
    "V1": (10, -56, -2),
    "V2": (16, -48, 24),
    "V4": (26, -46, -20),
    "LO": (40, -40, 4),
    "VO": (34, -16, -16),
    "PH": (20, -16, 22),
}
_SEMI_AXES = np.array([58.0, 76.0, 46.0])
_VOXEL_MM = 8.0
_COMMON_SHAPE = (17, 21, 14)
# Regions lie behind this plane and no farther than this from their centres (mm).
_FRONT, _REACH = -4.0, 27.0


@dataclass(frozen=True)
class Anatomy:
    """One participant's grid and the voxels of his brain.

    Parameters
    ----------
    grid : Grid
    mask : ndarray of bool, shape grid.shape
    place : ndarray of shape (n_voxels, 3)
        Where each voxel of the mask (C order) lies in the template, in mm.
    region : ndarray of int, shape (n_voxels,)
        Index into ``REGION_NAMES``; -1 outside all regions.
    """

    grid: Grid
    mask: BoolArray
    place: NDArray[np.float64]
    region: IntArray

    @property
    def early(self) -> BoolArray:
        """Voxels of early areas, shape (n_voxels,)."""
        early: BoolArray = (self.region >= 0) & EARLY[self.region]
        return early

    @property
    def late(self) -> BoolArray:
        """Voxels of late areas, shape (n_voxels,)."""
        late: BoolArray = (self.region >= 0) & ~EARLY[self.region]
        return late

    def dseg(self) -> NDArray[np.int16]:
        """Regions on the grid: 0 outside, else index into ``REGION_NAMES`` plus one."""
        image = np.zeros(self.grid.shape, dtype=np.int16)
        image[self.mask] = self.region + 1
        return image


def common_anatomy(*, participant: int, seed: int) -> Anatomy:
    """Template space: one grid and one layout for all; masks differ at the edge, as real ones do."""
    rng = np.random.default_rng([seed, 20, participant])
    affine = _affine(_COMMON_SHAPE, voxel=_VOXEL_MM)
    grid = Grid(shape=_COMMON_SHAPE, affine=affine)
    return _anatomy(grid, to_template=np.eye(4), scale=float(rng.uniform(0.97, 1.03)))


def native_anatomy(*, participant: int, seed: int) -> Anatomy:
    """A participant's own space: his own grid, head size and position; voxel k is nobody else's voxel k."""
    rng = np.random.default_rng([seed, 21, participant])
    shape = tuple(int(n + rng.integers(2, 5)) for n in _COMMON_SHAPE)
    grid = Grid(shape=(shape[0], shape[1], shape[2]), affine=_affine(shape, voxel=rng.uniform(7.6, 8.2)))
    to_template = np.eye(4)
    to_template[:3, :3] = _rotation(rng.uniform(-0.12, 0.12, size=3)) @ np.diag(
        rng.uniform(0.94, 1.06, size=3)
    )
    to_template[:3, 3] = rng.uniform(-4, 4, size=3)
    return _anatomy(grid, to_template=to_template, scale=1.0)


def smooth_fields(
    place: NDArray[np.float64], *, n_fields: int, length: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw random functions of place and evaluate them at voxels.

    Parameters
    ----------
    place : ndarray of shape (n_voxels, 3)
        In mm.
    n_fields : int
    length : float
        Distance in mm over which a field changes.
    rng : numpy.random.Generator
        One state gives one set of functions, wherever they are evaluated.

    Returns
    -------
    ndarray of shape (n_voxels, n_fields)
        About unit variance over functions; Gaussian covariance in place.

    References
    ----------
    Random Fourier features: Rahimi & Recht 2007, NIPS 20.
    """
    n_waves = 200
    waves = rng.normal(scale=1 / length, size=(3, n_waves))
    phase = rng.uniform(0, 2 * np.pi, size=n_waves)
    weights = rng.normal(size=(n_waves, n_fields))
    fields: NDArray[np.float64] = np.sqrt(2 / n_waves) * np.cos(place @ waves + phase) @ weights
    return fields


def _anatomy(grid: Grid, *, to_template: FloatArray, scale: float) -> Anatomy:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    homogeneous = np.column_stack([index, np.ones(len(index))])
    place = (homogeneous @ (to_template @ grid.affine).T)[:, :3]
    inside = ((place / (scale * _SEMI_AXES)) ** 2).sum(axis=1) <= 1
    return Anatomy(
        grid=grid, mask=inside.reshape(grid.shape), place=place[inside], region=_regions(place[inside])
    )


def _regions(place: NDArray[np.float64]) -> IntArray:
    centres = np.array(
        [
            ((-1 if name[0] == "L" else 1) * _CENTRES[name[1:]][0], *_CENTRES[name[1:]][1:])
            for name in REGION_NAMES
        ]
    )
    distance = np.linalg.norm(place[:, None, :] - centres[None], axis=2)
    nearest = distance.argmin(axis=1)
    return np.where((distance.min(axis=1) <= _REACH) & (place[:, 1] < _FRONT), nearest, -1)


def _affine(shape: tuple[int, ...], *, voxel: float) -> FloatArray:
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -voxel * (np.array(shape) - 1) / 2
    return np.round(affine, 4)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", angles).as_matrix())
