"""Gaussian smoothing of volumes, as nilearn does it, a few volumes at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray

_FWHM_OVER_SIGMA = float(np.sqrt(8 * np.log(2)))


def smooth_volumes(volumes: NDArray[np.float32], affine: FloatArray, *, fwhm: float) -> None:
    """Smooth volumes in place with a Gaussian kernel.

    The same as ``nilearn.image.smooth_img``: one pass along each axis of the grid, its standard deviation told from
    the voxel's size along this axis; NaN and infinite values count as 0, and the image is mirrored at its edges.

    Parameters
    ----------
    volumes : ndarray of shape (n_volumes, n_z, n_y, n_x), float32
        Axes in the order they are stored in: the first axis of the grid is the last one.
    affine : ndarray of shape (4, 4)
        From voxels to mm.
    fwhm : float
        Full width of the kernel at half of its height, in mm.
    """
    from scipy.ndimage import gaussian_filter1d

    np.nan_to_num(volumes, copy=False, posinf=0, neginf=0)
    voxel_size = np.linalg.norm(affine[:3, :3], axis=0)
    for axis, sigma in zip((3, 2, 1), fwhm / (_FWHM_OVER_SIGMA * voxel_size), strict=True):
        gaussian_filter1d(volumes, sigma, axis=axis, output=volumes)
