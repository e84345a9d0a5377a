"""How good the series of a participant are, voxel by voxel: from what was measured while runs were prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clipmused_bids import __version__
from clipmused_bids.dataset.images.maps import write_map
from clipmused_bids.dataset.outputs.response_files import StoredResponses, read_responses
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import FloatArray, IntArray, Run
from clipmused_bids.stages.assemble import voxels_with_signal
from clipmused_bids.stages.plan import Plan

# Voxels whose runs are in memory at a time.
_BLOCK = 2**16


def write_tsnr_map(plan: Plan, tree: OutputTree, participant: str, runs: Sequence[Run]) -> None:
    """Write the temporal signal-to-noise ratio of a participant: the median over runs, of voxels with signal in all.

    Nothing is written where it was not measured: of existing responses there is no series.

    Parameters
    ----------
    plan : Plan
    tree : OutputTree
    participant : str
    runs : sequence of Run
        Runs whose responses are stored.

    Raises
    ------
    DataError
        If stored responses are broken.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    files = [(run, read_responses(tree.responses(run, kind=plan.kind))) for run in runs]
    measured = [(run, file) for run, file in files if file.tsnr is not None]
    if not measured or not all(file.grid.agrees_with(measured[0][1].grid) for _, file in measured):
        return
    run, stored = measured[0][0], [file for _, file in measured]
    voxels = voxels_with_signal(stored)
    if len(voxels) == 0:
        return
    write_map(
        tree.voxel_map(run, desc="tsnr"),
        median_tsnr(stored, voxels),
        voxels=voxels,
        grid=stored[0].grid,
        space=run.space,
        sidecar={
            "Description": f"Temporal signal-to-noise ratio of sub-{participant}: mean over standard deviation of each "
            "voxel's series after its straight line is removed; median over runs. 0 outside the mask and in voxels "
            "without signal in some run.",
            "Units": "arbitrary",
            "References": "https://doi.org/10.1002/mrm.1240",
            "Sources": [tree.uri(file.path) for file in stored],
            "NumberOfRuns": len(stored),
            "NumberOfRunsNotMeasured": len(files) - len(stored),
            "SmoothingFWHM": float(plan.hyperparameters.responses.smoothing_fwhm),
            "NumberOfVoxels": len(voxels),
            "SoftwareVersion": __version__,
        },
    )


def median_tsnr(stored: Sequence[StoredResponses], voxels: IntArray) -> NDArray[np.float32]:
    """Median over runs that were measured, at these voxels; some voxels at a time.

    Parameters
    ----------
    stored : sequence of StoredResponses
        With ``tsnr``.
    voxels : ndarray of int, shape (n_voxels,)
        In the mask of every run.
    """
    medians = np.empty(len(voxels), dtype=np.float32)
    bounds = [*range(0, len(voxels), _BLOCK), len(voxels)]
    for start, stop in pairwise(bounds):
        medians[start:stop] = np.median(list(_values_at(stored, voxels[start:stop])), axis=0)
    return medians


def _values_at(stored: Sequence[StoredResponses], voxels: IntArray) -> Iterator[FloatArray]:
    for file in stored:
        if file.tsnr is not None:
            # Columns are in C order of the grid.
            yield np.asarray(file.tsnr)[np.searchsorted(file.voxels, voxels)]
