"""Which voxels of a series hold a signal, told block by block while it is read."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray

logger = logging.getLogger(__name__)

_MOST_NONFINITE = 0.05


class VoxelChecks:
    """Finds voxels with NaN or infinite values and voxels that never change; holds no more than a block at a time.

    Parameters
    ----------
    path : Path
        For messages.
    n_scans, n_voxels : int
        A single volume cannot vary in time; there, what differs from 0 counts as varying.
    """

    def __init__(self, path: Path, *, n_scans: int, n_voxels: int) -> None:
        self._path = path
        self._finite: BoolArray = np.ones(n_voxels, dtype=bool)
        self._varying: BoolArray = np.zeros(n_voxels, dtype=bool)
        self._first: NDArray[np.float32] | None = None if n_scans > 1 else np.zeros(n_voxels, np.float32)

    def look(self, block: NDArray[np.float32]) -> None:
        """Look at the next volumes, (n_volumes, n_voxels); NaN and infinite values are set to 0."""
        with np.errstate(invalid="ignore"):
            clean = np.isfinite(block.sum(dtype=np.float64))
        if not clean:
            bad = ~np.isfinite(block)
            self._finite &= ~bad.any(axis=0)
            block[bad] = 0
        if self._first is None:
            self._first = block[0].copy()
        # Nearly all voxels have changed after a few volumes.
        rest = np.flatnonzero(~self._varying)
        if len(rest):
            self._varying[rest] = (block[:, rest] != self._first[rest]).any(axis=0)

    @property
    def valid(self) -> BoolArray:
        """Voxels that are finite in all volumes and not constant, (n_voxels,)."""
        return self._finite & self._varying

    @property
    def n_nonfinite(self) -> int:
        """Number of voxels with NaN or infinite values."""
        return int((~self._finite).sum())

    @property
    def n_constant(self) -> int:
        """Number of the other voxels that never change."""
        return int((self._finite & ~self._varying).sum())

    def require_most(self) -> None:
        """Refuse a series of which too little can be used; log what is left out.

        Raises
        ------
        DataError
            If more than 5 % of the voxels hold NaN or infinite values, or none is valid.
        """
        bad = 1 - self._finite.mean()
        if bad > _MOST_NONFINITE:
            raise DataError(
                f"{self._path}: {bad:.1%} of the voxels in the mask hold NaN or infinite values; at most "
                f"{_MOST_NONFINITE:.0%} are accepted.",
                hint="--mask FILE gives a mask inside the image's field of view",
            )
        self.require_any()
        if self.n_nonfinite or self.n_constant:
            logger.warning(
                "%s: of %d voxels in the mask, %d hold NaN or infinite values and %d never change; they are left out.",
                self._path, len(self._finite), self.n_nonfinite, self.n_constant,
            )  # fmt: skip

    def require_any(self) -> None:
        """Refuse a series without a single valid voxel.

        Raises
        ------
        DataError
            If there is none.
        """
        if not self.valid.any():
            raise DataError(
                f"{self._path}: the image is constant; no voxel in the mask ever changes.",
                hint="the file may be a placeholder without data; fetch or preprocess it again",
            )
