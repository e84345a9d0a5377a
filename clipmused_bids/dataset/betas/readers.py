"""Existing responses that a manifest names: one way to read them from NIfTI, HDF5 and ``.npy`` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.betas.arrays import layout_of, row_blocks
from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.files.hdf5 import dataset_of, open_hdf5
from clipmused_bids.dataset.images.masks import given_mask, participant_mask
from clipmused_bids.dataset.images.nifti_stream import named, scaled, volume_blocks, voxel_positions
from clipmused_bids.dataset.images.series import check_grid, read_grid
from clipmused_bids.dataset.runs.names import is_nifti
from clipmused_bids.errors import DataError
from clipmused_bids.records import BetaRows, BoolArray, Grid, IntArray, Run

BATCH_BYTES = 2**30
_Block = tuple[IntArray, IntArray | slice, NDArray[Any]]


class Rows(Protocol):
    """An open file of responses."""

    n_rows: int

    def read(self, rows: IntArray) -> Iterator[_Block]:
        """Read increasing rows in blocks: positions among them, voxels of the mask, values as stored."""
        ...


def betas_mask(runs: Sequence[Run], *, mask: str | None) -> tuple[Grid, BoolArray]:
    """Mask of one participant's existing responses.

    Parameters
    ----------
    runs : sequence of Run
        Of one participant, each with ``betas``.
    mask : str or None
        A file or a pattern, as for ``participant_mask``. None: voxels of the NIfTI images that are finite and vary.

    Raises
    ------
    MissingInputError
        If the mask does not exist.
    DataError
        If there is no mask and a file has no grid of its own; or as ``participant_mask``.
    """
    if mask is not None:
        return given_mask(runs, mask=mask)
    images = _images(runs)
    return participant_mask([replace(run, image=path) for path, run in images.items()], mask=None)


def grid_of_betas(runs: Sequence[Run]) -> Grid:
    """Grid of one participant's existing responses by the header of the first file; reads no response.

    Raises
    ------
    MissingInputError
        If it does not exist.
    DataError
        If some file is no NIfTI image, since others have no grid of their own.
    """
    return read_grid(next(iter(_images(runs))))


def _images(runs: Sequence[Run]) -> dict[Path, Run]:
    files = {rows.path: run for run in runs for rows in run.betas}
    without = [path for path in files if not is_nifti(path.name)]
    if without:
        raise DataError(
            f"sub-{runs[0].participant}: {without[0]} says nothing of where its voxels are.",
            hint="--mask FILE (it may hold {participant}) gives the grid of HDF5 and .npy files",
        )
    return files


def check_betas(runs: Sequence[Run], *, mask: BoolArray, grid: Grid) -> None:
    """Open each file and see that it fits the mask and holds all rows; reads no response.

    Raises
    ------
    MissingInputError
        If a file is not there or was not fetched.
    DataError
        If it is damaged, does not fit, or has fewer rows; names the row of the manifest.
    """
    for file, parts in _by_file(runs).items():
        with _opened(file, mask=mask, grid=grid) as opened:
            for _, rows in parts:
                _check_index(rows, opened.n_rows)


def read_betas(
    runs: Sequence[Run], *, mask: BoolArray, grid: Grid
) -> Iterator[tuple[Run, NDArray[np.float32]]]:
    """Read the responses of runs; each file is read once where its runs fit into a GiB together.

    Parameters
    ----------
    runs : sequence of Run
        Of one participant, those of one file together.
    mask : ndarray of bool, shape of the grid
    grid : Grid

    Yields
    ------
    Run
    ndarray of shape (n_trials, n_voxels), float32
        Stored values divided by their scale; trials in the order of the run's, voxels in C order of the mask.

    Raises
    ------
    MissingInputError, DataError
        As ``check_betas``; if a file is truncated.
    """
    n_voxels = int(mask.sum())
    for batch in _batches(runs, n_voxels=n_voxels):
        values = {run.key: np.empty((_n_trials(run), n_voxels), dtype=np.float32) for run in batch}
        for file, parts in _by_file(batch).items():
            with _opened(file, mask=mask, grid=grid) as opened:
                _fill(opened, parts, values)
        for run in batch:
            yield run, values.pop(run.key)


def _fill(
    opened: Rows, parts: Sequence[tuple[str, BetaRows]], values: dict[str, NDArray[np.float32]]
) -> None:
    """Put the rows of one file where they belong."""
    index = np.array([i for _, rows in parts for i in rows.index])
    targets = [
        (values[key][trial], np.float32(scale))
        for key, rows in parts
        for trial, scale in zip(rows.trial, rows.scale, strict=True)
    ]
    order = np.argsort(index)
    for at, voxels, block in opened.read(index[order]):
        for k, row in zip(order[at], block, strict=True):
            target, scale = targets[int(k)]
            # Over float32, 16-bit numbers are exact and their quotient is rounded once.
            with np.errstate(over="ignore", invalid="ignore"):
                target[voxels] = row.astype(np.float32) / scale


def _batches(runs: Sequence[Run], *, n_voxels: int) -> Iterator[list[Run]]:
    """Neighbouring runs that share a file, as many as fit into ``BATCH_BYTES``."""
    batch: list[Run] = []
    for run in runs:
        files = {rows.path for other in batch for rows in other.betas}
        shares = any(rows.path in files for rows in run.betas)
        n_bytes = 4 * n_voxels * sum(_n_trials(other) for other in [*batch, run])
        if batch and (not shares or n_bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch = [*batch, run]
    if batch:
        yield batch


def _by_file(
    runs: Sequence[Run],
) -> dict[tuple[Path, str | None, str | None], list[tuple[str, BetaRows]]]:
    found: dict[tuple[Path, str | None, str | None], list[tuple[str, BetaRows]]] = {}
    for run in runs:
        for rows in run.betas:
            found.setdefault((rows.path, rows.dataset, rows.axes), []).append((run.key, rows))
    return found


def _n_trials(run: Run) -> int:
    return sum(len(rows.index) for rows in run.betas)


def _check_index(rows: BetaRows, n_rows: int) -> None:
    for index, line in zip(rows.index, rows.line, strict=True):
        if index >= n_rows:
            raise DataError(
                f"--betas row {line}: index {index} of {_name(rows.path, rows.dataset)}, which holds {n_rows} "
                f"responses (0 to {n_rows - 1}).",
                hint="index counts from 0",
            )


@contextmanager
def _opened(file: tuple[Path, str | None, str | None], *, mask: BoolArray, grid: Grid) -> Iterator[Rows]:
    path, dataset, axes = file
    require_content(path)
    if is_nifti(path.name):
        yield _NiftiRows(path, mask, grid)
    elif dataset is None:
        yield _ArrayRows(_npy(path), mask, axes=axes, name=str(path))
    else:
        with open_hdf5(path) as opened:
            yield _ArrayRows(dataset_of(opened, dataset), mask, axes=axes, name=_name(path, dataset))


class _NiftiRows:
    """Volumes of a NIfTI image; the file is streamed from its start to its end."""

    def __init__(self, path: Path, mask: BoolArray, grid: Grid) -> None:
        import nibabel

        check_grid(read_grid(path), grid, path=path, other="the mask")
        with named(path):
            image: Any = nibabel.load(path)
        if image.ndim != 4:
            raise DataError(f"{path}: shape {image.shape}; a 4-D series of responses was expected.")
        self._image, self._path, self._mask = image, path, mask
        self.n_rows = int(image.shape[3])

    def read(self, rows: IntArray) -> Iterator[_Block]:
        positions = voxel_positions(self._mask)
        for start, stored in volume_blocks(self._image, self._path):
            low, high = np.searchsorted(rows, [start, start + len(stored)])
            if high > low:
                wanted = stored[np.ix_(rows[low:high] - start, positions)]
                yield np.arange(low, high), slice(None), scaled(wanted, self._image)


class _ArrayRows:
    """Rows of an array."""

    def __init__(self, array: Any, mask: BoolArray, *, axes: str | None, name: str) -> None:
        if array.dtype.kind not in "iuf":
            raise DataError(f"{name}: values of type {array.dtype}; integers or floats were expected.")
        self._array, self._name = array, name
        self._layout = layout_of(tuple(array.shape), mask, axes=axes, name=name)
        self.n_rows = int(array.shape[self._layout.trial_axis])

    def read(self, rows: IntArray) -> Iterator[_Block]:
        yield from row_blocks(self._array, self._layout, rows)


def _npy(path: Path) -> NDArray[Any]:
    try:
        # Maps numbers only; what is pickled is refused, never loaded.
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: no plain array of numbers ({error}); pickled objects are never read.",
            hint="numpy.save(path, array) of an array of numbers makes one",
        ) from error


def _name(path: Path, dataset: str | None) -> str:
    return str(path) if dataset is None else f"{path}:{dataset}"
