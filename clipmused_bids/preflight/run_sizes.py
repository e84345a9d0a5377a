"""How large the data of a plan are, by headers and masks; no image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.betas.readers import betas_mask, check_betas, grid_of_betas
from clipmused_bids.dataset.images.headers import SeriesHeader, read_series_header
from clipmused_bids.dataset.images.masks import mask_of_files, mask_paths
from clipmused_bids.dataset.images.series import check_grid, image_path
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.runs.names import is_nifti
from clipmused_bids.errors import DataError
from clipmused_bids.records import Grid, IntArray, Run
from clipmused_bids.stages.grids import reference_grid
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import responses_are_stored


@dataclass(frozen=True)
class RunSize:
    """One run that has trials.

    Parameters
    ----------
    run : Run
    n_trials : int
    header : SeriesHeader or None
        None where the image is no NIfTI file, and where a manifest names the responses.
    stored : bool
        Whether its responses are in the output folder already.
    """

    run: Run
    n_trials: int
    header: SeriesHeader | None
    stored: bool

    @property
    def n_volumes(self) -> int | None:
        """Volumes that are read; None where that is not known."""
        if self.run.betas:
            return sum(len(rows.index) for rows in self.run.betas)
        return None if self.header is None else self.header.n_scans


@dataclass(frozen=True)
class ParticipantSize:
    """One participant.

    Parameters
    ----------
    participant : str
    runs : tuple of RunSize
    grid : Grid or None
        None where no header could tell.
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of the voxels in the first mask, or of the whole grid where no mask lies in a file; of the
        template's grid with ``--resample``.
    mask : {"--mask", "derivative", "computed"}
    """

    participant: str
    runs: tuple[RunSize, ...]
    grid: Grid | None
    voxels: IntArray
    mask: str

    @property
    def n_trials(self) -> int:
        """Trials over all runs."""
        return sum(size.n_trials for size in self.runs)

    @property
    def n_voxels(self) -> int:
        """Voxels; an upper bound, since masks of further runs can only take some away."""
        return len(self.voxels)

    @property
    def n_stored(self) -> int:
        """Runs whose responses are stored."""
        return sum(size.stored for size in self.runs)


def participant_size(plan: Plan, tree: OutputTree, participant: str) -> ParticipantSize:
    """Read headers and one mask of a participant (of existing responses all masks), and look at what is stored.

    Raises
    ------
    MissingInputError, DataError
        If a header or the mask cannot be used, or they are on different grids.
    CannotCreateError
        If responses of another configuration are stored and ``overwrite`` is off.
    """
    runs = [run for run in plan.runs_of(participant) if plan.trials[run.key].n_trials]
    mask = plan.config.inputs.mask
    files = mask_paths(runs, mask)
    if plan.config.inputs.betas is None:
        headers = [_header(run) for run in runs]
        grid, voxels = _voxels_of_images(runs, headers, files=files, target=reference_grid(plan))
    else:
        headers = [None] * len(runs)
        grid, voxels = _voxels_of_manifest(runs, mask=mask)
    return ParticipantSize(
        participant=participant,
        runs=tuple(
            RunSize(run, plan.trials[run.key].n_trials, header, responses_are_stored(plan, tree, run))
            for run, header in zip(runs, headers, strict=True)
        ),
        grid=grid,
        voxels=voxels,
        mask="--mask" if mask else "derivative" if files else "computed",
    )


def _voxels_of_images(
    runs: Sequence[Run],
    headers: Sequence[SeriesHeader | None],
    *,
    files: Sequence[Path],
    target: Grid | None,
) -> tuple[Grid | None, IntArray]:
    grid = target or next((header.grid for header in headers if header is not None), None)
    voxels: IntArray
    if files:
        grid, inside = mask_of_files(files[:1], target=target)
        voxels = np.flatnonzero(inside)
    else:
        voxels = np.arange(0 if grid is None else int(np.prod(grid.shape)))
    for run, header in zip(runs, headers, strict=True) if target is None else ():
        if header is not None and grid is not None:
            other = files[0].name if files else "the other runs"
            check_grid(header.grid, grid, path=image_path(run), other=other)
    return grid, voxels


def _voxels_of_manifest(runs: Sequence[Run], *, mask: str | None) -> tuple[Grid, IntArray]:
    """The grid and its voxels, once every file that the manifest names was found to fit and to hold the rows."""
    if mask is not None:
        grid, inside = betas_mask(runs, mask=mask)
    else:
        grid = grid_of_betas(runs)
        inside = np.ones(grid.shape, dtype=bool)
    check_betas(runs, mask=inside, grid=grid)
    return grid, np.flatnonzero(inside)


def shared_voxels(sizes: Sequence[ParticipantSize]) -> IntArray:
    """Voxels in the masks of all participants of a common space.

    Raises
    ------
    DataError
        If their grids differ, or no voxel is in all masks.
    """
    first, shared = sizes[0], sizes[0].voxels
    for size in sizes[1:]:
        if size.grid is not None and first.grid is not None and not size.grid.agrees_with(first.grid):
            raise DataError(
                f"sub-{first.participant} and sub-{size.participant}: grids differ in a common space "
                f"({first.grid.shape} and {size.grid.shape}, or their affines).",
                hint="choose one resolution with --space, or --native-space for a map of each participant",
            )
        shared = np.intersect1d(shared, size.voxels, assume_unique=True)
    if len(shared) == 0:
        raise DataError("no voxel lies in the masks of all participants.", hint="give one with --mask")
    return shared


def _header(run: Run) -> SeriesHeader | None:
    path = image_path(run)
    return read_series_header(path) if is_nifti(path.name) else None
