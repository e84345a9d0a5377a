"""Brain maps on disk: one number per voxel as a compressed NIfTI image, with its description beside it."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.documents import write_json
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, Grid, IntArray

# NIfTI's names of what coordinates are relative to.
_SCANNER, _MNI = 1, 4


def write_map(
    path: Path,
    values: FloatArray,
    *,
    voxels: IntArray,
    grid: Grid,
    space: str | None,
    sidecar: Mapping[str, Any],
) -> None:
    """Write a map and its sidecar.

    Parameters
    ----------
    path : Path
        ``*.nii.gz``. It is written last: where it exists, its sidecar does.
    values : ndarray of shape (n_voxels,)
        Stored as float32; 0 outside of ``voxels``.
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each value in ``grid``.
    grid : Grid
    space : str or None
        Name of the space, as in BIDS.
    sidecar : mapping
        JSON values.

    Raises
    ------
    DataError
        If a value is NaN or infinite.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    content = encode_map(values, voxels=voxels, grid=grid, space=space)
    write_json(sidecar_path(path), sidecar)
    write_bytes(path, content)


def sidecar_path(path: Path) -> Path:
    """JSON file of an image or a table."""
    return path.with_name(path.name.removesuffix(".nii.gz").removesuffix(".tsv") + ".json")


def encode_map(values: FloatArray, *, voxels: IntArray, grid: Grid, space: str | None) -> bytes:
    """Return the bytes of a map; equal values give equal bytes. Parameters as for :func:`write_map`."""
    if not np.isfinite(values).all():
        raise DataError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values of a map are not finite."
        )
    return encode_image(values.astype(np.float32), voxels=voxels, grid=grid, space=space)


def encode_image(values: NDArray[Any], *, voxels: IntArray, grid: Grid, space: str | None) -> bytes:
    """Return the bytes of a compressed image; the same for the same values, whenever they are written.

    Parameters
    ----------
    values : ndarray of shape (n_voxels,) or (n_volumes, n_voxels)
        One volume (3-D), or a series (4-D); stored in their own type, 0 outside of ``voxels``.
    voxels, grid, space
        As for :func:`write_map`.
    """
    packed = io.BytesIO()
    # The time of compression is not part of the content.
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=1, mtime=0) as stream:
        stream.write(_header(values, grid, code=_MNI if (space or "").startswith("MNI") else _SCANNER))
        volume = np.zeros(grid.shape, dtype=values.dtype)
        for row in np.atleast_2d(values):
            volume.flat[voxels] = row
            # NIfTI stores the first axis fastest.
            stream.write(volume.tobytes(order="F"))
    return packed.getvalue()


def _header(values: NDArray[Any], grid: Grid, *, code: int) -> bytes:
    import nibabel

    make: Any = nibabel.Nifti1Header
    header = make()
    header.set_data_dtype(values.dtype)
    header.set_data_shape((*grid.shape, *values.shape[:-1]))
    header.set_sform(grid.affine, code=code)
    header.set_qform(grid.affine, code=code)
    header.set_xyzt_units("mm")
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    # Four bytes of zero: no extensions follow.
    return bytes(header.binaryblock) + bytes(4)
