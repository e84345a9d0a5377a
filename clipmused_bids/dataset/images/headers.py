"""Sizes of images by their headers; no voxel is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.images.nifti_stream import named
from clipmused_bids.dataset.images.series import read_grid
from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid


@dataclass(frozen=True)
class SeriesHeader:
    """What the header of a 4-D image says.

    Parameters
    ----------
    grid : Grid
    n_scans : int
    bytes_per_voxel : int
        As stored.
    """

    grid: Grid
    n_scans: int
    bytes_per_voxel: int

    @property
    def n_bytes(self) -> int:
        """Size of all voxels, unpacked."""
        i, j, k = self.grid.shape
        return i * j * k * self.n_scans * self.bytes_per_voxel


def read_series_header(path: Path) -> SeriesHeader:
    """Read the header of a series.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no NIfTI image, is not 4-D, or its affine cannot place voxels.
    """
    import nibabel

    grid = read_grid(path)
    with named(path):
        header: Any = nibabel.load(path).header
    shape = header.get_data_shape()
    if len(shape) != 4 or shape[3] < 1:
        raise DataError(f"{path}: an image of shape {tuple(shape)}; a 4-D series was expected.")
    return SeriesHeader(grid, int(shape[3]), int(header.get_data_dtype().itemsize))
