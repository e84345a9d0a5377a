"""NIfTI: grids, masks and series, read once and in order, and refused by name where they cannot be right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.files.scratch import gathered, gathered_on_disk
from clipmused_bids.dataset.images.nifti_stream import named, scaled, volume_blocks, voxel_positions
from clipmused_bids.dataset.images.resampling import sample_volumes, voxel_coordinates
from clipmused_bids.dataset.images.smoothing import smooth_volumes
from clipmused_bids.dataset.images.voxel_checks import VoxelChecks
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import BoolArray, Grid, Run, Series

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class MaskedSeries:
    """A 4-D image inside a mask.

    Parameters
    ----------
    values : Series of shape (n_scans, n_voxels), float32
        Unit of the image; voxels in C order of the grid; finite, and without meaning where not valid. An array, or a
        scratch file.
    valid : ndarray of bool, shape (n_voxels,)
        False for voxels with NaN or infinite values or without any variance.
    repetition_time : float or None
        Seconds, from the header; None where it does not say.
    n_nonfinite, n_constant : int
        Voxels that are not valid, by reason.
    """

    values: Series
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


def read_bold(
    run: Run,
    mask: BoolArray,
    grid: Grid,
    *,
    other_grid: Literal["refuse", "resample"] = "refuse",
    smoothing_fwhm: float = 0.0,
    in_memory: bool = True,
    work_dir: Path | None = None,
) -> MaskedSeries:
    """Read a run's image (BOLD or betas) inside a mask.

    The file is read once, from the start to the end; only voxels of the mask are kept. Which voxels are valid is told
    from the image as it is, before smoothing.

    Parameters
    ----------
    run : Run
    mask : ndarray of bool, shape of the grid
    grid : Grid
        Grid of the mask.
    other_grid : {"refuse", "resample"}
        What becomes of an image on another grid than the mask: ``resample`` samples it at the mask's voxels by
        trilinear interpolation, after smoothing.
    smoothing_fwhm : float
        Width in mm of the Gaussian kernel every volume is smoothed with, before masking; 0: none.
    in_memory : bool
        Whether the series is held in memory, or in a scratch file.
    work_dir : Path or None
        Folder of the scratch file; None: the system's folder for temporary files.

    Raises
    ------
    MissingInputError
        If the image is not there or was not fetched.
    DataError
        If the image is not 4-D, lies on another grid (``refuse``), is truncated, is constant, or more than 5 % of the
        voxels in the mask hold NaN or infinite values.
    OutputWriteError
        If there is no room for the scratch file.
    """
    path = image_path(run)
    image = _open(path)
    if other_grid == "refuse":
        check_grid(_grid(image, path), grid, path=path, other="the mask")
    shape = _n_scans(image, path), int(mask.sum())
    checks = VoxelChecks(path, n_scans=shape[0], n_voxels=shape[1])
    blocks = _checked_blocks(image, path, mask, grid, checks=checks, fwhm=smoothing_fwhm)
    values: Series = (
        gathered(blocks, shape=shape) if in_memory else gathered_on_disk(blocks, shape=shape, folder=work_dir)
    )
    checks.require_most()
    return MaskedSeries(
        values, checks.valid, header_repetition_time(image), checks.n_nonfinite, checks.n_constant
    )


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
    checks = VoxelChecks(path, n_scans=_n_scans(image, path), n_voxels=int(np.prod(grid.shape)))
    for _, stored in volume_blocks(image, path):
        checks.look(scaled(stored, image))
    checks.require_any()
    return grid, checks.valid.reshape(grid.shape, order="F")


def series_shape(run: Run, mask: BoolArray) -> tuple[int, int]:
    """Number of scans of a run's image, by its header, and of voxels in the mask; errors as for ``read_bold``."""
    path = image_path(run)
    return _n_scans(_open(path), path), int(mask.sum())


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
    for start, stored in volume_blocks(image, path):
        block = scaled(stored[: n_volumes - start], image)
        total += np.nan_to_num(block, posinf=0, neginf=0).sum(axis=0, dtype=float)
        if start + len(stored) >= n_volumes:
            break
    return grid, (total / n_volumes).reshape(grid.shape, order="F").astype(np.float32)


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


def check_grid(found: Grid, expected: Grid, *, path: Path, other: str, hint: str | None = None) -> None:
    """Refuse an image whose voxels lie elsewhere than those of another one.

    Raises
    ------
    DataError
        If voxel centres are more than 1e-3 mm apart; shows both grids.
    """
    if not found.agrees_with(expected):
        raise DataError(
            f"{path}: its grid ({_text(found)}) is not that of {other} ({_text(expected)}).",
            hint=hint
            or "all images and masks of a participant must be on one grid; --space or --mask may choose it, "
            "--resample TEMPLATE:res-R brings images of a template's space to one",
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
            f"{path}: {len(image.shape)}-D image of shape {image.shape}; a 4-D series was expected.",
            hint="-d PATH names a derivative that holds whole runs",
        )
    if image.shape[3] < 1:
        raise DataError(f"{path}: the series has no volumes.")
    return int(image.shape[3])


def _checked_blocks(
    image: Any, path: Path, mask: BoolArray, grid: Grid, *, checks: VoxelChecks, fwhm: float
) -> Iterator[NDArray[np.float32]]:
    """Blocks of volumes at the voxels of the mask; the checks see what the file holds, not what is made of it."""
    source = _grid(image, path)
    coordinates = None if source.agrees_with(grid) else voxel_coordinates(source, grid, mask)
    positions = voxel_positions(mask)
    for _, stored in volume_blocks(image, path):
        if coordinates is None:
            block = scaled(stored[:, positions], image)
        else:
            block = sample_volumes(scaled(stored, image), source, coordinates)
        checks.look(block)
        if fwhm > 0:
            volumes = scaled(stored, image)
            smooth_volumes(volumes.reshape(-1, *image.shape[2::-1]), image.affine, fwhm=fwhm)
            block = (
                volumes[:, positions] if coordinates is None else sample_volumes(volumes, source, coordinates)
            )
        yield block


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
