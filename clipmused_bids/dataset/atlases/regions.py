"""Regions from a label image and the table of their names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.images.resampling import nearest_on_grid, share_in_view
from clipmused_bids.dataset.images.series import read_volume
from clipmused_bids.dataset.runs.names import parse_name
from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid, IntArray

logger = logging.getLogger(__name__)

_SMALLEST_SHARE = 0.5


def read_atlas(
    path: Path, *, grid: Grid, voxels: IntArray, table: Path | None = None
) -> tuple[IntArray, tuple[str, ...]]:
    """Read the regions of some voxels.

    Parameters
    ----------
    path : Path
        A label image. On another grid it is brought to the voxels by nearest neighbours, which is logged.
    grid : Grid
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat indices in the grid.
    table : Path or None
        TSV file with columns ``index`` and ``name``. None: the one beside the image (same name), or a
        ``desc-*_dseg.tsv`` in a folder above it.

    Returns
    -------
    ndarray of int, shape (n_voxels,)
        k + 1 inside region k, 0 outside all regions.
    tuple of str
        Names of the regions that occur in the file, in order of their values; ``region-<value>`` without a table.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    DataError
        If it has values that are not whole numbers or no region, or most voxels lie outside its field of view.
    """
    source, values = read_volume(path)
    whole = _whole_numbers(values, path)
    present = [int(value) for value in np.unique(whole) if value > 0]
    if not present:
        raise DataError(f"{path}: no region (no value above 0).")
    regions: IntArray = np.where(whole > 0, np.searchsorted(present, whole) + 1, 0)
    if not source.agrees_with(grid):
        regions = _on_grid(regions, source, grid, voxels, path=path)
    names = _names_in(table or _table_path(path))
    return regions.reshape(-1)[voxels], tuple(names.get(value, f"region-{value}") for value in present)


def _whole_numbers(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    labels = np.nan_to_num(values)
    whole: NDArray[np.int64] = np.rint(labels).astype(np.int64)
    if not np.array_equal(whole, labels):
        raise DataError(
            f"{path}: values are not whole numbers; a label image with one number a region was expected."
        )
    return whole


def _on_grid(regions: IntArray, source: Grid, grid: Grid, voxels: IntArray, *, path: Path) -> IntArray:
    mask = np.zeros(grid.shape, dtype=bool)
    mask.flat[voxels] = True
    share = share_in_view(source, grid, mask)
    if share < _SMALLEST_SHARE:
        raise DataError(
            f"{path}: only {share:.0%} of the voxels in the mask lie in its field of view; at least "
            f"{_SMALLEST_SHARE:.0%} are expected.",
            hint="check that atlas and images are in one space",
        )
    logger.info(
        "%s: brought to the grid of the images by nearest neighbours (%s to %s voxels)%s.",
        path.name, source.shape, grid.shape, f"; {1 - share:.1%} of the mask lie outside of it" if share < 1 else "",
    )  # fmt: skip
    return nearest_on_grid(regions, source, grid)


def _names_in(table_path: Path | None) -> dict[int, str]:
    if table_path is None:
        return {}
    table = read_table(table_path)
    if not {"index", "name"} <= set(table.columns):
        raise DataError(f"{table_path}: columns index and name were expected, found {table.names}.")
    pairs = zip(table.columns["index"], table.columns["name"], strict=True)
    # fMRIPrep's tables have their names in quotation marks.
    return {
        int(float(index)): name.strip('"') for index, name in pairs if index.replace(".", "", 1).isdecimal()
    }


def _table_path(path: Path) -> Path | None:
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    if beside.is_file():
        return beside
    desc = parse_name(path).entities.get("desc")
    if desc is None:
        return None
    above = [folder / f"desc-{desc}_dseg.tsv" for folder in list(path.parents)[:4]]
    return next((candidate for candidate in above if candidate.is_file()), None)
