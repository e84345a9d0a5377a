"""Regions from a label image and the table of their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipmused_bids.dataset.images import check_grid, read_volume
from clipmused_bids.dataset.masks import expand_pattern
from clipmused_bids.dataset.names import parse_name
from clipmused_bids.dataset.tsv import read_table
from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid, IntArray


def read_atlas(
    atlas: str, *, participant: str, session: str | None, grid: Grid
) -> tuple[IntArray, tuple[str, ...]]:
    """Read regions for one participant.

    Parameters
    ----------
    atlas : str
        A label image (a derivative's ``*_dseg.nii.gz`` is one), or a pattern with ``{participant}``, ``{session}``.
        Names come from the columns ``index`` and ``name`` of the TSV file beside it (same name), or of a
        ``desc-*_dseg.tsv`` in a folder above it.
    participant : str
    session : str or None
    grid : Grid
        Grid of the participant's mask.

    Returns
    -------
    ndarray of int, of the grid's shape
        k + 1 inside region k, 0 outside all regions.
    tuple of str
        Names of the regions that occur, in order of their values in the file; ``region-<value>`` without a table.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    DataError
        If it lies on another grid, has values that are not whole numbers, or no region.
    """
    path = expand_pattern(atlas, participant=participant, session=session, flag="--atlas")
    own_grid, values = read_volume(path)
    check_grid(own_grid, grid, path=path, other="the mask")
    labels = np.nan_to_num(values)
    whole = np.rint(labels).astype(np.int64)
    if not np.array_equal(whole, labels):
        raise DataError(
            f"{path}: values are not whole numbers; a label image with one number a region was expected."
        )
    present = [int(value) for value in np.unique(whole) if value > 0]
    if not present:
        raise DataError(f"{path}: no region (no value above 0).")
    regions = np.searchsorted(present, whole) + 1
    regions[whole <= 0] = 0
    names = _names_of(path)
    return regions, tuple(names.get(value, f"region-{value}") for value in present)


def _names_of(path: Path) -> dict[int, str]:
    table_path = _table_path(path)
    if table_path is None:
        return {}
    table = read_table(table_path)
    if not {"index", "name"} <= set(table.columns):
        raise DataError(f"{table_path}: columns index and name were expected, found {table.names}.")
    pairs = zip(table.columns["index"], table.columns["name"], strict=True)
    return {int(float(index)): name for index, name in pairs if index.replace(".", "", 1).isdecimal()}


def _table_path(path: Path) -> Path | None:
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    if beside.is_file():
        return beside
    desc = parse_name(path).entities.get("desc")
    if desc is None:
        return None
    above = [folder / f"desc-{desc}_dseg.tsv" for folder in list(path.parents)[:4]]
    return next((candidate for candidate in above if candidate.is_file()), None)
