"""Labels of movies as matrices in HDF5: one row a second, one column a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import hdf5_place
from clipmused_bids.dataset.files.hdf5 import dataset_of, open_hdf5
from clipmused_bids.dataset.movies.annotations import movie_of_name
from clipmused_bids.errors import DataError

_NAMES = ("names", "labels", "label_names")


@dataclass(frozen=True)
class LabelMatrix:
    """Labels of one movie; row k holds from second k up to second k + 1.

    Parameters
    ----------
    movie : str
    names : tuple of str
        C labels.
    values : ndarray of shape (n_seconds, C)
        1, 0, NaN where unknown.
    """

    movie: str
    names: tuple[str, ...]
    values: NDArray[np.float64]

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Labels at times of the movie, (n, C); NaN after the last row."""
        row = np.floor(seconds + 1e-6).astype(np.int64)
        padded = np.vstack([self.values, np.full((1, len(self.names)), np.nan)])
        found: NDArray[np.float64] = padded[np.minimum(row, len(self.values))]
        return found


def is_matrix(text: str) -> bool:
    """Whether ``--labels`` names a place in an HDF5 file: ``FILE.hdf5:/dataset``."""
    return hdf5_place(text) is not None


def read_matrices(text: str, *, movies: Sequence[str]) -> tuple[LabelMatrix, ...]:
    """Read the matrices at a place in an HDF5 file.

    Parameters
    ----------
    text : str
        ``FILE.hdf5:/dataset``; or ``FILE.hdf5:/group`` (``FILE.hdf5`` for the whole file), whose datasets are named
        like the movies. Names of the labels are an attribute (``names``, ``labels`` or ``label_names``) of the dataset
        or of a group above it, or a dataset of that name beside it.
    movies : sequence of str
        Movies of the dataset; matrices of others are not read.

    Raises
    ------
    MissingInputError
        If the file is not there.
    DataError
        If there is no such place, no names belong to it, or a matrix holds anything but 0, 1 and NaN.
    """
    import h5py

    file_name, place = hdf5_place(text) or (text, "")
    path = Path(file_name)
    with open_hdf5(path) as file:
        node = file.get(place or "/")
        if isinstance(node, h5py.Group):
            return _of_group(node, movies, path)
        node = dataset_of(file, place)
        movie = movie_of_name(node.name.rpartition("/")[2], movies, path=path)
        return (_matrix(node, movie, path),)


def _of_group(group: Any, movies: Sequence[str], path: Path) -> tuple[LabelMatrix, ...]:
    found: dict[str, LabelMatrix] = {}
    for name, node in group.items():
        if name in _NAMES or getattr(node, "ndim", 0) != 2:
            continue
        try:
            movie = movie_of_name(name, movies, path=path)
        except DataError:
            continue
        if movie in found:
            raise DataError(
                f"{path}: {group.name} holds several matrices of {movie}.",
                hint="name one: FILE.hdf5:/dataset",
            )
        found[movie] = _matrix(node, movie, path)
    if not found:
        raise DataError(
            f"{path}: {group.name} holds no matrix named like a movie ({', '.join(movies[:5])}); it holds "
            f"{', '.join(group) or 'nothing'}.",
            hint="one dataset of seconds x labels for each movie",
        )
    return tuple(found.values())


def _matrix(node: Any, movie: str, path: Path) -> LabelMatrix:
    if node.ndim != 2 or node.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: {node.name} has shape {node.shape} and type {node.dtype}; expected seconds x labels of 0 and 1."
        )
    names = _names_of(node, path)
    values = np.asarray(node[()], dtype=np.float64)
    if len(names) != values.shape[1]:
        raise DataError(
            f"{path}: {node.name} has {values.shape[1]} columns and {len(names)} names.",
            hint="rows are seconds, columns are labels",
        )
    odd = values[~(np.isnan(values) | np.isin(values, (0, 1)))]
    if len(odd):
        raise DataError(f"{path}: {node.name} holds {odd[0]:g}; labels are 0, 1, or NaN where unknown.")
    return LabelMatrix(movie, names, values)


def _names_of(node: Any, path: Path) -> tuple[str, ...]:
    parent = node.parent
    for holder in (node, parent, node.file):
        for key in _NAMES:
            if key in holder.attrs:
                return _texts(np.asarray(holder.attrs[key]))
    for key in _NAMES:
        if key in parent and getattr(parent[key], "ndim", 0) == 1:
            return _texts(np.asarray(parent[key][()]))
    raise DataError(
        f"{path}: nothing names the columns of {node.name}.",
        hint=f"an attribute {' or '.join(_NAMES)} of the dataset or its group, or a dataset of that name beside it",
    )


def _texts(values: NDArray[Any]) -> tuple[str, ...]:
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist())
