"""What makes a series of volumes usable: voxels that are finite and vary, and enough of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray

logger = logging.getLogger(__name__)

_MOST_NONFINITE = 0.05


@dataclass(frozen=True)
class MaskedSeries:
    """A 4-D image inside a mask.

    Parameters
    ----------
    values : ndarray of shape (n_scans, n_voxels), float32
        Unit of the image; voxels in C order of the grid; 0 where not valid.
    valid : ndarray of bool, shape (n_voxels,)
        False for voxels with NaN or infinite values or without any variance.
    repetition_time : float or None
        Seconds, from the header; None where it does not say.
    n_nonfinite, n_constant : int
        Voxels that are not valid, by reason.
    """

    values: NDArray[np.float32]
    valid: BoolArray
    repetition_time: float | None
    n_nonfinite: int
    n_constant: int


def checked_series(
    values: NDArray[np.float32], *, path: Path, repetition_time: float | None = None
) -> MaskedSeries:
    """Find the usable voxels of a series and set the others to 0, in place.

    Parameters
    ----------
    values : ndarray of shape (n_scans, n_voxels), float32
    path : Path
        For messages.
    repetition_time : float or None
        In s.

    Raises
    ------
    DataError
        If no voxel varies, or more than 5 % of them hold NaN or infinite values.
    """
    finite = np.asarray(np.isfinite(values).all(axis=0))
    varying = _varying(values)
    n_nonfinite = int((~finite).sum())
    n_constant = int((finite & ~varying).sum())
    _refuse_unusable(path, finite=finite, varying=varying)
    valid = finite & varying
    values[:, ~valid] = 0
    if n_nonfinite or n_constant:
        logger.warning(
            "%s: of %d voxels in the mask, %d hold NaN or infinite values and %d never change; they are left out.",
            path, len(valid), n_nonfinite, n_constant,
        )  # fmt: skip
    return MaskedSeries(values, valid, repetition_time, n_nonfinite, n_constant)


def constant_image(path: Path) -> DataError:
    """Error of an image without any signal."""
    return DataError(
        f"{path}: the image is constant; no voxel in the mask ever changes.",
        hint="the file may be a placeholder without data; fetch or preprocess it again",
    )


def _varying(values: NDArray[np.float32]) -> BoolArray:
    if len(values) == 1:
        # One volume has no variance in time; voxels that differ from 0 hold something.
        return np.asarray(values[0] != 0)
    return np.asarray((values != values[0]).any(axis=0))


def _refuse_unusable(path: Path, *, finite: BoolArray, varying: BoolArray) -> None:
    bad = 1 - finite.mean()
    if bad > _MOST_NONFINITE:
        raise DataError(
            f"{path}: {bad:.1%} of the voxels in the mask hold NaN or infinite values; at most "
            f"{_MOST_NONFINITE:.0%} are accepted.",
            hint="--mask FILE gives a mask inside the image's field of view",
        )
    if not (finite & varying).any():
        raise constant_image(path)
