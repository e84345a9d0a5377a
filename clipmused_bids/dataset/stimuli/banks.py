"""Banks of images: an HDF5 dataset with one picture in each row, read row by row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.hdf5 import dataset_names, dataset_of, open_hdf5
from clipmused_bids.errors import DataError, UsageError

# Larger pictures are refused before they are unpacked.
MOST_PIXELS = 50_000_000
_WHOLE = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]+)?")
_COLOURS = (1, 3)


@dataclass(frozen=True)
class ImageBank:
    """A bank of images.

    Parameters
    ----------
    path : Path
    dataset : str
    n_images : int
        Number of rows.
    first : int
        What the first row is called in the events, 0 or 1.
    """

    path: Path
    dataset: str
    n_images: int
    first: int

    def row_of(self, name: str) -> tuple[int | None, str]:
        """Row of a stimulus from 0, or None; and why.

        A name counts as a number as programs write whole numbers: ``46003``, ``46003.0``, ``4.6003e+04``.
        """
        where = f"{self.path.name}:{self.dataset}"
        if not _WHOLE.fullmatch(name):
            return None, f"not the number of a row of {where}"
        number = float(name)
        if not number.is_integer():
            return None, f"not the number of a row of {where}"
        if not self.first <= number < self.first + self.n_images:
            last = self.first + self.n_images - 1
            return None, f"beyond {where}, whose rows are {self.first} to {last}"
        return int(number) - self.first, f"row of {where}"


def open_bank(path: Path, dataset: str, *, first: int | None) -> ImageBank:
    """Look at the shape of a bank; reads no pixel.

    Parameters
    ----------
    path : Path
    dataset : str
        "" where it was not named.
    first : {0, 1} or None
        ``--stimulus-index-base``.

    Raises
    ------
    UsageError
        If the dataset or ``first`` was not given.
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no HDF5 file, has no such dataset, or the dataset holds no images of 8 bits.
    """
    if not dataset:
        with open_hdf5(path) as file:
            names = dataset_names(file) or ("/NAME",)
        raise UsageError(
            f"--stimuli-dir {path}: the dataset in the file is not named.",
            hint=f"--stimuli-dir {path}:{names[0]}",
        )
    with _opened(path, dataset) as images:
        _axes(images, path)
        n_images = int(images.shape[0])
    if first is None:
        raise UsageError(
            f"--stimuli-dir {path}:{dataset}: nothing says what its first row is called in the events.",
            hint="--stimulus-index-base 1 or 0 (NSD: 73k_id counts from 1, nsdId from 0)",
        )
    return ImageBank(path, dataset, n_images, first)


def read_row(path: Path, dataset: str, row: int) -> NDArray[np.uint8]:
    """Read one picture.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Grey pictures have three equal colours.

    Raises
    ------
    DataError
        As ``open_bank``; if the row cannot be read.
    """
    with _opened(path, dataset) as images:
        return _in_colour(_pixels(images, path, row))


def read_rows(path: Path, dataset: str, rows: Sequence[int]) -> Iterator[NDArray[np.uint8] | DataError]:
    """Read pictures in the order of ``rows``; the bank is opened once.

    Yields
    ------
    ndarray of uint8, shape (height, width, 3), or DataError
        As `read_row`; the error where a row cannot be read.

    Raises
    ------
    DataError
        As ``open_bank``.
    """
    with _opened(path, dataset) as images:
        for row in rows:
            try:
                yield _in_colour(_pixels(images, path, row))
            except DataError as error:
                yield error


def row_hashes(path: Path, dataset: str, rows: Sequence[int]) -> dict[int, str | DataError]:
    """SHA-256 of the pixels of some rows, and of their shape; each row is read once.

    Only rows that are named are read. Pixels are hashed, not row numbers, so that a picture that lies in a bank twice
    is known as one: its features are made once, and a split cannot put it on both sides.

    Returns
    -------
    dict of int to (str or DataError)
        By row; the error where a row cannot be read.

    Raises
    ------
    DataError
        As ``open_bank``.
    """
    found: dict[int, str | DataError] = {}
    with _opened(path, dataset) as images:
        for row in sorted(set(rows)):
            try:
                pixels = _pixels(images, path, row)
            except DataError as error:
                found[row] = error
                continue
            content = hashlib.sha256(repr(pixels.shape).encode())
            content.update(np.ascontiguousarray(pixels).data)
            found[row] = content.hexdigest()
    return found


@contextmanager
def _opened(path: Path, dataset: str) -> Iterator[Any]:
    with open_hdf5(path) as file:
        found = dataset_of(file, dataset, hint="--stimuli-dir FILE.hdf5:/DATASET")
        if found.file.filename != file.filename or found.external or found.is_virtual:
            raise DataError(f"{path}: the pixels of {dataset} lie in other files; a bank must hold its own.")
        yield found


def _in_colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _axes(images: Any, path: Path) -> str:
    """How the rows are laid out: ``HW`` (grey), ``HWC`` or ``CHW``."""
    shape = images.shape
    axes = None
    if images.dtype == np.uint8 and len(shape) in {3, 4} and all(shape[1:]):
        axes = "HW" if len(shape) == 3 else "HWC" if shape[3] in _COLOURS else "CHW"
    if axes is not None and (axes != "CHW" or shape[1] in _COLOURS):
        height, width = shape[axes.index("H") + 1], shape[axes.index("W") + 1]
        if height * width > MOST_PIXELS:
            raise DataError(f"{path}: {width} x {height} pixels; at most {MOST_PIXELS} are opened.")
        return axes
    raise DataError(
        f"{path}: {images.name} has the shape {shape} and the type {images.dtype}; a bank of images is uint8, (rows, "
        "height, width, 3), (rows, 3, height, width) or (rows, height, width)."
    )


def _pixels(images: Any, path: Path, row: int) -> NDArray[np.uint8]:
    """One row, (height, width, 1 or 3)."""
    axes = _axes(images, path)
    try:
        pixels: NDArray[np.uint8] = images[row]
    except (OSError, IndexError, ValueError) as error:
        raise DataError(f"{path}: row {row} of {images.name} cannot be read ({error}).") from error
    if axes == "HW":
        return pixels[:, :, None]
    return pixels if axes == "HWC" else np.moveaxis(pixels, 0, -1)
