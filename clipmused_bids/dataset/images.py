"""NIfTI: grids, masks and series, read once and in order, and refused by name where they cannot be right."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.contents import require_content
from clipmused_bids.dataset.nifti_stream import masked_blocks, named
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import BoolArray, Grid, Run

logger = logging.getLogger(__name__)

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
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


def read_grid(path: Path) -> Grid:
    """Read the grid from an image's header.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no NIfTI image, has fewer than three axes, or its affine cannot place voxels (zeros, NaN).
    """
    image = _open(path)
    return _grid(image, path)


def read_volume(path: Path) -> tuple[Grid, NDArray[Any]]:
    """Read a 3-D image; a fourth axis of length 1 is dropped.

    Raises
    ------
    DataError
        As ``read_grid``; if the image has several volumes or is truncated.
    """
    image = _open(path)
    grid = _grid(image, path)
    if int(np.prod(image.shape[3:])) != 1:
        raise DataError(f"{path}: shape {image.shape}; one volume (3-D) was expected.")
    with named(path):
        values = np.asarray(image.dataobj).reshape(grid.shape)
    return grid, values


def read_mask(path: Path) -> tuple[Grid, BoolArray]:
    """Read a mask: voxels above 0 are inside.

    Returns
    -------
    Grid
    ndarray of bool, of the grid's shape

    Raises
    ------
    DataError
        As ``read_volume``; if no voxel is inside.
    """
    grid, values = read_volume(path)
    mask = np.asarray(np.nan_to_num(values) > 0, dtype=bool)
    if not mask.any():
        raise DataError(
            f"{path}: the mask is empty (no voxel above 0).", hint="give another one with --mask FILE"
        )
    return grid, mask


def read_bold(run: Run, mask: BoolArray, grid: Grid) -> MaskedSeries:
    """Read a run's image (BOLD or betas) inside a mask.

    The file is read once, from the start to the end; only voxels of the mask are kept.

    Parameters
    ----------
    run : Run
    mask : ndarray of bool, shape of the grid
    grid : Grid
        Grid of the mask.

    Raises
    ------
    MissingInputError
        If the image is not there or was not fetched.
    DataError
        If the image is not 4-D, lies on another grid, is truncated, is constant, or more than 5 % of the voxels in
        the mask hold NaN or infinite values.
    """
    path = image_path(run)
    image = _open(path)
    check_grid(_grid(image, path), grid, path=path, other="the mask")
    values = np.empty((_n_scans(image, path), int(mask.sum())), dtype=np.float32)
    for start, block in masked_blocks(image, path, mask):
        values[start : start + len(block)] = block
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
    return MaskedSeries(values, valid, header_repetition_time(image), n_nonfinite, n_constant)


def usable_voxels(path: Path) -> tuple[Grid, BoolArray]:
    """Voxels of a 4-D image that are finite in all volumes and not constant.

    Returns
    -------
    Grid
    ndarray of bool, of the grid's shape

    Raises
    ------
    DataError
        As ``read_bold``, apart from what concerns a mask.
    """
    image = _open(path)
    grid = _grid(image, path)
    _n_scans(image, path)
    everywhere = np.ones(grid.shape, dtype=bool)
    finite = np.ones(everywhere.size, dtype=bool)
    varying = np.zeros(everywhere.size, dtype=bool)
    first: NDArray[np.float32] | None = None
    for _, block in masked_blocks(image, path, everywhere):
        first = block[0].copy() if first is None else first
        finite &= np.isfinite(block).all(axis=0)
        # A single volume cannot vary in time; there, 0 is what lies outside.
        varying |= (block != (0 if image.shape[3] == 1 else first)).any(axis=0)
    usable = finite & varying
    if not usable.any():
        raise _constant(path)
    return grid, usable.reshape(grid.shape)


def run_seconds(run: Run) -> float | None:
    """Length of a run by its header: volumes x TR; None where that cannot be told (reading it will say why)."""
    stated = run.metadata.get("RepetitionTime")
    if run.image is None or run.image_kind != "bold" or not isinstance(stated, int | float):
        return None
    try:
        shape = _open(run.image).shape
    except ClipMusedError:
        return None
    return float(shape[3] * stated) if len(shape) == 4 else None


def mean_of_first_volumes(path: Path, *, n_volumes: int) -> tuple[Grid, NDArray[np.float32]]:
    """Mean over the first volumes of a 4-D image, of the grid's shape; NaN and infinite values count as 0."""
    image = _open(path)
    grid = _grid(image, path)
    n_volumes = min(n_volumes, _n_scans(image, path))
    total = np.zeros(int(np.prod(grid.shape)))
    for start, block in masked_blocks(image, path, np.ones(grid.shape, dtype=bool)):
        total += np.nan_to_num(block[: n_volumes - start], posinf=0, neginf=0).sum(axis=0, dtype=float)
        if start + len(block) >= n_volumes:
            break
    return grid, (total / n_volumes).reshape(grid.shape).astype(np.float32)


def image_path(run: Run) -> Path:
    """Path of a run's image.

    Raises
    ------
    DataError
        If the run has none.
    """
    if run.image is None:
        raise DataError(
            f"{run.label}: no image belongs to this run.", hint="-d PATH names the preprocessed data"
        )
    return run.image


def check_grid(found: Grid, expected: Grid, *, path: Path, other: str) -> None:
    """Refuse an image whose voxels lie elsewhere than those of another one.

    Raises
    ------
    DataError
        If voxel centres are more than 1e-3 mm apart; shows both grids.
    """
    if not found.agrees_with(expected):
        raise DataError(
            f"{path}: its grid ({_text(found)}) is not that of {other} ({_text(expected)}).",
            hint="all images, masks and atlases of a participant must be on one grid; --space or --mask may choose it",
        )


def _open(path: Path) -> Any:
    import nibabel

    require_content(path)
    with named(path):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti2Image | nibabel.Nifti1Pair):
        raise DataError(f"{path}: not a NIfTI image ({type(image).__name__}).")
    return image


def _grid(image: Any, path: Path) -> Grid:
    shape = image.shape
    if len(shape) < 3:
        raise DataError(f"{path}: shape {shape}; an image of three or four axes was expected.")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise DataError(
            f"{path}: the affine does not place voxels in space: {affine[:3].tolist()}.",
            hint="the header is damaged; convert or preprocess this image again",
        )
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _n_scans(image: Any, path: Path) -> int:
    if len(image.shape) != 4:
        raise DataError(
            f"{path}: {len(image.shape)}-D image of shape {image.shape}; a 4-D series was expected."
        )
    if image.shape[3] < 1:
        raise DataError(f"{path}: the series has no volumes.")
    return int(image.shape[3])


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
        raise _constant(path)


def _constant(path: Path) -> DataError:
    return DataError(
        f"{path}: the image is constant; no voxel in the mask ever changes.",
        hint="the file may be a placeholder without data; fetch or preprocess it again",
    )


def header_repetition_time(image: Any) -> float | None:
    """TR in s by an image's header; None where it does not say."""
    unit = image.header.get_xyzt_units()[1]
    value = float(image.header.get_zooms()[3])
    # A header without a unit of time and with the default 1 says nothing.
    if not np.isfinite(value) or value <= 0 or (unit not in _SECONDS and value == 1):
        return None
    return round(value * _SECONDS.get(unit, 1.0), 9)


def _text(grid: Grid) -> str:
    rows = "; ".join(" ".join(f"{number:.4g}" for number in row) for row in grid.affine[:3])
    return f"shape {grid.shape}, affine [{rows}]"
