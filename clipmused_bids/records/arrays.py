"""Types of arrays, and of signals that are read a part at a time."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


class Series(Protocol):
    """Signal of one run, (n_scans, n_voxels): an array, or a file from which a few voxels are read at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of scans and of voxels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[Any]: ...
