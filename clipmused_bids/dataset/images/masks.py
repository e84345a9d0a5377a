"""The voxels of a participant: a given mask, the derivative's brain masks, or a computed one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.images.resampling import linear_on_grid, nearest_on_grid
from clipmused_bids.dataset.images.series import (
    check_grid,
    image_path,
    mean_of_first_volumes,
    read_grid,
    read_mask,
    usable_voxels,
)  # fmt: skip
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import BoolArray, Grid, Run

logger = logging.getLogger(__name__)

_N_VOLUMES = 10


def participant_mask(
    runs: Sequence[Run], *, mask: str | None, target: Grid | None = None
) -> tuple[Grid, BoolArray]:
    """Mask of one participant over all runs.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one participant, each with an image.
    mask : str or None
        A file, or a pattern with ``{participant}`` and ``{session}`` (labels without prefix). None: the
        intersection of the derivative's brain masks; where no run has one, a mask computed from the mean of the
        first volumes (nilearn's EPI mask), and for betas the voxels that are finite and not constant.
    target : Grid or None
        Grid that masks on other grids are brought to (nearest neighbours; a computed one is computed there); None:
        all must be on the grid of the images.

    Returns
    -------
    Grid
    ndarray of bool, of the grid's shape

    Raises
    ------
    MissingInputError
        If a mask does not exist.
    DataError
        If a mask is empty, masks have no voxel in common, or a mask or image lies on another grid.
    """
    paths = mask_paths(runs, mask)
    whose = f"sub-{runs[0].participant}: "
    grid, inside = mask_of_files(paths, target=target, whose=whose) if paths else _computed(runs, target)
    for run in runs if target is None else ():
        check_grid(
            read_grid(image_path(run)),
            grid,
            path=image_path(run),
            other=paths[0].name if paths else "the other runs",
        )
    return grid, inside


def given_mask(runs: Sequence[Run], *, mask: str) -> tuple[Grid, BoolArray]:
    """Mask that is given for a participant whose responses have no grid of their own; as ``participant_mask``."""
    return mask_of_files(mask_paths(runs, mask), whose=f"sub-{runs[0].participant}: ")


def expand_pattern(pattern: str, *, participant: str, session: str | None, flag: str) -> Path:
    """Fill ``{participant}`` and ``{session}`` into a path.

    Raises
    ------
    UsageError
        If the pattern has other fields, or ``{session}`` where there are no sessions.
    """
    values: Mapping[str, str] = {"participant": participant} | (
        {} if session is None else {"session": session}
    )
    try:
        return Path(pattern.format_map(values))
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(
            f"{flag} {pattern}: cannot be filled in for sub-{participant} ({error}).",
            hint=f"fields are {', '.join('{' + name + '}' for name in values)}",
        ) from error


def mask_paths(runs: Sequence[Run], mask: str | None) -> list[Path]:
    """Mask files of runs, each once: those that ``--mask`` names, else the derivative's; none where there are none."""
    if mask is not None:
        filled = [
            expand_pattern(mask, participant=r.participant, session=r.session, flag="--mask") for r in runs
        ]
        return list(dict.fromkeys(filled))
    without = [run.label for run in runs if run.mask is None]
    paths = list(dict.fromkeys(run.mask for run in runs if run.mask is not None))
    if paths and without:
        logger.warning("No brain mask for %s; the masks of the other runs are used.", ", ".join(without))
    return paths


def mask_of_files(
    paths: Sequence[Path], *, target: Grid | None = None, whose: str = ""
) -> tuple[Grid, BoolArray]:
    """Intersection of masks, on ``target`` where one is given; ``whose`` begins the line that is logged.

    Raises
    ------
    MissingInputError, DataError
        As for `participant_mask`.
    """
    grid, inside = _on_target(*read_mask(paths[0]), target)
    union = inside.copy()
    for path in paths[1:]:
        other_grid, other = _on_target(*read_mask(path), target)
        check_grid(other_grid, grid, path=path, other=paths[0].name)
        inside = inside & other
        union |= other
    if not inside.any():
        raise DataError(
            f"The brain masks of {len(paths)} runs have no voxel in common; the first is {paths[0]}.",
            hint="give one mask with --mask FILE",
        )
    if len(paths) > 1:
        n_inside = int(inside.sum())
        logger.info(
            "%smask: %d voxels in all of %d masks (%.0f %% of all).",
            whose,
            n_inside,
            len(paths),
            100 * n_inside / union.sum(),
        )
    return grid, inside


def _on_target(grid: Grid, inside: BoolArray, target: Grid | None) -> tuple[Grid, BoolArray]:
    if target is None or grid.agrees_with(target):
        return grid, inside
    return target, nearest_on_grid(inside, grid, target)


def _computed(runs: Sequence[Run], target: Grid | None) -> tuple[Grid, BoolArray]:
    path = image_path(runs[0])
    if runs[0].image_kind == "betas":
        grid, inside = _on_target(*usable_voxels(path), target)
        for run in runs[1:]:
            other_grid, other = _on_target(*usable_voxels(image_path(run)), target)
            check_grid(other_grid, grid, path=image_path(run), other=path.name)
            inside = inside & other
        how = "voxels that are finite and vary"
    else:
        grid, inside = _epi_mask(runs, target)
        how = "nilearn's EPI mask"
    if not inside.any():
        raise DataError(f"{path}: no brain mask exists and none could be computed.", hint="--mask FILE")
    logger.warning(
        "sub-%s: no brain mask exists; %s: %d voxels.", runs[0].participant, how, int(inside.sum())
    )
    return grid, inside


def _epi_mask(runs: Sequence[Run], target: Grid | None) -> tuple[Grid, BoolArray]:
    path = image_path(runs[0])
    grid, mean = _mean_on_target(path, target)
    total: NDArray[np.float64] = mean.astype(float)
    for run in runs[1:]:
        other_grid, other = _mean_on_target(image_path(run), target)
        check_grid(other_grid, grid, path=image_path(run), other=path.name)
        total += other
    if np.ptp(total) == 0:
        raise DataError(f"{path}: the image is constant.", hint="the file may be a placeholder without data")
    return grid, _nilearn_mask((total / len(runs)).astype(np.float32), grid)


def _mean_on_target(path: Path, target: Grid | None) -> tuple[Grid, NDArray[np.float32]]:
    grid, mean = mean_of_first_volumes(path, n_volumes=_N_VOLUMES)
    if target is None or grid.agrees_with(target):
        return grid, mean
    return target, linear_on_grid(mean, grid, target)


def _nilearn_mask(mean: NDArray[np.float32], grid: Grid) -> BoolArray:
    import warnings

    import nibabel
    from nilearn.masking import compute_epi_mask

    with warnings.catch_warnings():
        # An empty mask is an error of ours; everything else nilearn remarks on concerns its own defaults.
        warnings.simplefilter("ignore")
        image: Any = nibabel.Nifti1Image
        mask = compute_epi_mask(image(mean, grid.affine))
    return np.asarray(mask.dataobj) > 0
