"""NIfTI voxels from the start of a file to its end, so that compressed files are unpacked once."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray

_CHUNK_BYTES = 16 * 2**20


def masked_blocks(image: Any, path: Path, mask: BoolArray) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read a 4-D image block by block, keeping only voxels inside a mask.

    Parameters
    ----------
    image : nibabel.Nifti1Image
    path : Path
        For messages.
    mask : ndarray of bool, of the image's three first axes

    Yields
    ------
    int
        Index of the block's first volume.
    ndarray of shape (n_volumes, n_voxels), float32
        Scaled values; voxels in C order of the mask.

    Raises
    ------
    DataError
        If the file is truncated or damaged, or a voxel is not one real number.
    """
    proxy = image.dataobj
    dtype = np.dtype(proxy.dtype)
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {dtype} cannot be read as one number each.")
    # Volumes are stored with the first axis fastest.
    positions = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    n_voxels, n_scans = mask.size, image.shape[3]
    per_block = max(1, _CHUNK_BYTES // (n_voxels * dtype.itemsize))
    with named(path), _stream(Path(image.dataobj.file_like)) as stream:
        stream.read(proxy.offset)
        for start in range(0, n_scans, per_block):
            count = min(per_block, n_scans - start)
            volumes = (
                _read_exactly(stream, count * n_voxels * dtype.itemsize).view(dtype).reshape(count, n_voxels)
            )
            yield start, _scaled(volumes[:, positions], slope=proxy.slope, inter=proxy.inter)
        # Reaching the end makes gzip verify its checksum.
        while stream.read(_CHUNK_BYTES):
            pass


def _scaled(stored: NDArray[Any], *, slope: float, inter: float) -> NDArray[np.float32]:
    if slope == 1 and inter == 0:
        return stored.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        return (stored * np.float64(slope) + np.float64(inter)).astype(np.float32)


def _read_exactly(stream: BinaryIO, n_bytes: int) -> NDArray[np.uint8]:
    buffer = bytearray(n_bytes)
    view, filled = memoryview(buffer), 0
    while filled < n_bytes:
        count = cast("Any", stream).readinto(view[filled:])
        if not count:
            raise EOFError(f"{n_bytes - filled} bytes are lacking")
        filled += count
    return np.frombuffer(buffer, dtype=np.uint8)


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as plain:
        if path.suffix == ".gz":
            with gzip.open(plain) as unpacked:
                yield cast("BinaryIO", unpacked)
        else:
            yield plain


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into an error that names it."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except (EOFError, OSError, zlib.error, ValueError, ImageFileError, HeaderDataError) as error:
        raise DataError(
            f"{path}: the image is truncated or damaged ({error}).",
            hint="copy or fetch the file again, then try: gzip -t " + str(path),
        ) from error
