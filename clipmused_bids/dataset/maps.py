"""Brain maps on disk: one number per voxel as a compressed NIfTI image, with its description beside it."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.dataset.atomic import write_bytes
from clipmused_bids.dataset.documents import write_json
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
    write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), sidecar)
    write_bytes(path, content)


def encode_map(values: FloatArray, *, voxels: IntArray, grid: Grid, space: str | None) -> bytes:
    """Return the bytes of a map; equal values give equal bytes. Parameters as for :func:`write_map`."""
    import nibabel as nib

    if not np.isfinite(values).all():
        raise DataError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values of a map are not finite."
        )
    volume = np.zeros(grid.shape, dtype=np.float32)
    volume.flat[voxels] = values
    make: Any = nib.Nifti1Image
    image = make(volume, grid.affine)
    code = _MNI if space is not None and space.startswith("MNI") else _SCANNER
    image.header.set_sform(grid.affine, code=code)
    image.header.set_qform(grid.affine, code=code)
    image.header.set_xyzt_units("mm")
    # The time of compression is not part of the content.
    return gzip.compress(image.to_bytes(), mtime=0)
