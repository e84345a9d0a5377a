"""Series that do not fit in memory: gathered in a scratch file that has no name and goes with the process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import OutputWriteError


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
) -> NDArray[np.float32]:
    """Gather blocks of rows in a scratch file and map it, read-only.

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
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - closed below, when it is mapped
    with file:
        # Written, not mapped: a disk that fills up under a map ends the process without a word.
        for block in blocks:
            with _explained(place, n_bytes):
                file.write(np.ascontiguousarray(block).data)
        with _explained(place, n_bytes):
            file.flush()
        return np.memmap(file, dtype=np.float32, mode="r", shape=shape)


@contextmanager
def _explained(folder: Path, n_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputWriteError(
            f"{folder}: {error.strerror}; a scratch file of {n_bytes / 2**30:.2g} GB was to be written there.",
            hint="--work-dir FOLDER names another disk; with a larger --mem no scratch file is needed",
        ) from error
