"""Series that do not fit in memory: gathered in a scratch file that has no name and goes with the process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import OutputWriteError


class ScratchSeries:
    """Rows in a file without a name, from which columns are read.

    Not a memory map: its pages count as the process's own, and newer kernels map far more of a file than is read.

    Parameters
    ----------
    descriptor : int
        Of the file: float32, row by row; closed with this object.
    shape : tuple of int
        Rows and columns.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, descriptor: int, shape: tuple[int, int]) -> None:
        self.shape: tuple[int, ...] = shape
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[np.float32]:
        """Read neighbouring columns of neighbouring rows.

        Raises
        ------
        OutputWriteError
            If the file cannot be read any more.
        """
        rows, columns = (range(n)[part] for n, part in zip(self.shape, key, strict=True))
        values = np.empty((len(rows), len(columns)), dtype=self.dtype)
        width = self.dtype.itemsize
        for row, target in zip(rows, values, strict=True):
            start = width * (row * self.shape[1] + columns.start)
            if os.preadv(self._descriptor, [target.data], start) != target.nbytes:
                raise OutputWriteError("The scratch file of a series cannot be read any more.")
        return values


def gathered(blocks: Iterable[NDArray[np.float32]], *, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Gather blocks of rows in memory.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n_rows, n_columns)
        In order.
    shape : tuple of int
        Of all of them together.
    """
    values = np.empty(shape, dtype=np.float32)
    start = 0
    for block in blocks:
        values[start : start + len(block)] = block
        start += len(block)
    return values


def gathered_on_disk(
    blocks: Iterable[NDArray[np.float32]], *, shape: tuple[int, int], folder: Path | None
) -> ScratchSeries:
    """Gather blocks of rows in a scratch file.

    The file is unlinked from the start, so nothing is left behind however the process ends.

    Parameters
    ----------
    folder : Path or None
        Where the file lies; None: the system's folder for temporary files. The others are as for `gathered`.

    Raises
    ------
    OutputWriteError
        If the folder cannot be written to, or its disk is full; says how much was needed.
    """
    n_bytes = 4 * shape[0] * shape[1]
    place = Path(tempfile.gettempdir()) if folder is None else folder
    with _explained(place, n_bytes):
        place.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - closed below
    with file:
        for block in blocks:
            with _explained(place, n_bytes):
                file.write(np.ascontiguousarray(block).data)
        with _explained(place, n_bytes):
            file.flush()
        return ScratchSeries(os.dup(file.fileno()), shape)


def rows_on_disk(
    blocks: Iterable[NDArray[np.float32]], *, shape: tuple[int, int], path: Path
) -> NDArray[np.float32]:
    """Gather blocks of rows in a file and map it; removing the file is the caller's business.

    Written before it is mapped: a map that outgrows a full disk ends the process without a word.

    Raises
    ------
    OutputWriteError
        If the file cannot be written, or its disk is full; says how much was needed.
    """
    with (
        _explained(path.parent, 4 * shape[0] * shape[1], otherwise="without it none is needed"),
        path.open("wb") as file,
    ):
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.float32).data)
    return np.memmap(path, dtype=np.float32, mode="r", shape=shape)


@contextmanager
def _explained(
    folder: Path, n_bytes: int, *, otherwise: str = "with a larger --mem no scratch file is needed"
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputWriteError(
            f"{folder}: {error.strerror}; a scratch file of {n_bytes / 2**30:.2g} GB was to be written there.",
            hint=f"--work-dir FOLDER names another disk; {otherwise}",
        ) from error
