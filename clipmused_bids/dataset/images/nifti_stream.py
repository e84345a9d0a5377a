"""NIfTI voxels from the start of a file to its end, so that compressed files are unpacked once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray

CHUNK_BYTES = 16 * 2**20


def volume_blocks(image: Any, path: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read a 4-D image block by block, values as they are stored.

    Parameters
    ----------
    image : nibabel.Nifti1Image
    path : Path
        For messages.

    Yields
    ------
    int
        Index of the block's first volume.
    ndarray of shape (n_volumes, n_voxels), of the file's dtype
        A few volumes; voxels with the first axis fastest. Overwritten by the next block.

    Raises
    ------
    DataError
        If the file is truncated, damaged or longer than its header says, or a voxel is not one real number.
    """
    proxy = image.dataobj
    dtype = np.dtype(proxy.dtype)
    if dtype.kind not in "iuf":
        raise DataError(
            f"{path}: voxels of type {dtype} cannot be read as one number each.",
            hint="store magnitudes as integers or floating-point numbers",
        )
    n_voxels, n_scans = int(np.prod(image.shape[:3])), image.shape[3]
    per_block = min(n_scans, max(1, CHUNK_BYTES // (n_voxels * dtype.itemsize)))
    buffer = np.empty((per_block, n_voxels), dtype=dtype)
    with named(path), _stream(Path(proxy.file_like)) as stream:
        stream.read(proxy.offset)
        for start in range(0, n_scans, per_block):
            block = buffer[: n_scans - start]
            _fill(stream, block.reshape(-1).view(np.uint8))
            yield start, block
        _require_end(stream, path, shape=image.shape)


def scaled(stored: NDArray[Any], image: Any) -> NDArray[np.float32]:
    """Turn stored values into those they stand for (``scl_slope``, ``scl_inter``); always a copy, float32."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if slope == 1 and inter == 0:
        return stored.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        return (stored * np.float64(slope) + np.float64(inter)).astype(np.float32)


def voxel_positions(mask: BoolArray) -> NDArray[np.intp]:
    """Where the voxels of a mask, in C order, lie in a stored volume, whose first axis is fastest."""
    return np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")


def _fill(stream: BinaryIO, target: NDArray[np.uint8]) -> None:
    filled = 0
    while filled < len(target):
        count = cast("Any", stream).readinto(target[filled:])
        if not count:
            raise EOFError(f"{len(target) - filled} bytes are lacking")
        filled += count


def _require_end(stream: BinaryIO, path: Path, *, shape: tuple[int, ...]) -> None:
    """Read to the end: that makes gzip verify its checksum, and shows whether the header tells the whole shape."""
    rest = 0
    while chunk := stream.read(CHUNK_BYTES):
        rest += len(chunk)
    if rest:
        raise DataError(
            f"{path}: {rest} bytes follow the last of the {shape[3]} volumes of shape {tuple(shape[:3])} that the "
            "header promises.",
            hint="header and content do not belong together; convert or preprocess this image again",
        )


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as plain:
        if path.suffix == ".gz":
            from isal import igzip

            # Faster than the standard library, with the same checks.
            unpack: Any = igzip.open
            with unpack(plain) as unpacked:
                yield unpacked
        else:
            yield plain


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into an error that names it."""
    from isal import igzip_lib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    damaged = (EOFError, OSError, zlib.error, ValueError, ImageFileError, HeaderDataError)
    try:
        yield
    except (*damaged, cast("type[Exception]", igzip_lib.IsalError)) as error:
        test = f", then try: gzip -t {path}" if path.suffix == ".gz" else ""
        raise DataError(
            f"{path}: the image is truncated or damaged ({error}).",
            hint=f"copy or fetch the file again{test}",
        ) from error
