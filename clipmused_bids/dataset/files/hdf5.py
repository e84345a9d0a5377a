"""HDF5 files of the input: opened to be read, never locked, and named in every error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.errors import DataError

_MOST_NAMES = 10


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file (``h5py.File``).

    It is not locked: input trees are read-only, and their file systems may not lock.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no HDF5 file, or damaged; so for whatever HDF5 cannot read inside the ``with`` block.
    """
    import h5py

    require_content(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"{path}: not a readable HDF5 file, truncated or damaged ({error}).",
            hint="copy or fetch it again",
        ) from error


def dataset_of(file: Any, name: str, *, hint: str | None = None) -> Any:
    """Return a dataset of an open file (``h5py.Dataset``).

    Parameters
    ----------
    file : h5py.File
    name : str
    hint : str, optional
        What names a dataset, for the error.

    Raises
    ------
    DataError
        If there is no such dataset (shows those there are), or it cannot be opened.
    """
    import h5py

    try:
        found = file.get(name)
    except (KeyError, OSError, ValueError) as error:
        raise DataError(
            f"{file.filename}: the dataset {name} cannot be opened ({error}).", hint=hint
        ) from error
    if not isinstance(found, h5py.Dataset):
        raise DataError(
            f"{file.filename}: no dataset {name}; datasets in it: {', '.join(dataset_names(file)) or 'none'}.",
            hint=hint,
        )
    return found


def dataset_names(file: Any) -> tuple[str, ...]:
    """Names of the first datasets of an open file, from its root: ``/group/name``."""
    import h5py

    names: list[str] = []
    file.visititems(lambda name, item: names.append(f"/{name}") if isinstance(item, h5py.Dataset) else None)
    return tuple(sorted(names)[:_MOST_NAMES])
