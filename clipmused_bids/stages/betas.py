"""Responses that exist already, from a derivative or a manifest, as what is stored of each run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clipmused_bids.dataset.betas.readers import check_betas, read_betas
from clipmused_bids.dataset.events.trial_join import trial_table, volume_of_trial
from clipmused_bids.dataset.files.contents import content_hash
from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.dataset.images.series import MaskedSeries
from clipmused_bids.dataset.images.voxel_checks import VoxelChecks
from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, Grid, IntArray, Run, RunResponses, Trials
from clipmused_bids.responses.estimate import ARBITRARY, betas_responses

logger = logging.getLogger(__name__)


def with_trial_table(run: Run) -> Run:
    """Add the table beside an image of responses to its run, if there is one."""
    if run.image_kind != "betas" or run.image is None:
        return run
    table = trial_table(run.image)
    if table is None:
        return run
    folder = run.sources["image"].rpartition("/")[0]
    return replace(run, trial_table=table, sources={**run.sources, "trial_table": f"{folder}/{table.name}"})


def betas_settings(run: Run) -> dict[str, Any]:
    """What existing responses of a run depend on beside its trials; no path is in it."""
    if run.betas:
        rows = [[rows.path.name, rows.dataset, rows.axes, rows.index, rows.trial] for rows in run.betas]
        return {
            "files": sorted({rows.path.name for rows in run.betas}),
            "rows": hashlib.sha256(canonical_json(rows).encode()).hexdigest(),
            "scale": sorted({scale for rows in run.betas for scale in rows.scale}),
        }
    unit, scale = stated_unit(run)
    table = None if run.trial_table is None else content_hash(run.trial_table)
    return {"unit": unit, "scale": scale, "trial_table": table}


def stated_unit(run: Run) -> tuple[str, float]:
    """Unit of a run's responses, and what stored values were multiplied with, as the sidecar states them.

    Raises
    ------
    DataError
        If the scale is not a number above 0.
    """
    scale = run.metadata.get("Scale", 1)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise DataError(f"{run.label}: Scale {scale!r} in the sidecar; expected a number above 0.")
    return str(run.metadata.get("Units") or ARBITRARY), float(scale)


def responses_of_image(run: Run, series: MaskedSeries, trials: Trials) -> RunResponses:
    """Responses of a derivative: one volume for each trial in order, or joined by the table beside the image.

    Raises
    ------
    MissingInputError, DataError
        If the table beside the image cannot be read, or volumes and trials cannot be joined.
    """
    unit, scale = stated_unit(run)
    index = None
    try:
        if run.trial_table is not None:
            index = volume_of_trial(run.trial_table, trials, n_volumes=len(series.values))
            _say_unjoined(run, index, n_volumes=len(series.values))
        return betas_responses(
            series.values[:, :], trials, valid=series.valid, index=index, unit=unit, scale=scale
        )
    except DataError as error:
        raise type(error)(f"{run.label}: {error.args[0]}", hint=error.hint) from error


def responses_of_manifest(
    runs: Sequence[Run], *, grid: Grid, mask: BoolArray
) -> Iterator[tuple[Run, RunResponses]]:
    """Responses that a manifest names, run by run; all files are looked at before the first is read.

    Raises
    ------
    MissingInputError, DataError
        If a file cannot be read, does not fit the mask, or lacks a row; if a run has no usable voxel.
    """
    check_betas(runs, mask=mask, grid=grid)
    for run, values in read_betas(runs, mask=mask, grid=grid):
        checks = VoxelChecks(run.betas[0].path, n_scans=len(values), n_voxels=values.shape[1])
        checks.look(values)
        checks.require_most()
        values[:, ~checks.valid] = 0
        yield (
            run,
            RunResponses(
                values=values,
                valid=checks.valid,
                kept=np.arange(len(values)),
                kind="betas",
                unit=ARBITRARY,
                dropped={},
            ),
        )


def _say_unjoined(run: Run, index: IntArray, *, n_volumes: int) -> None:
    joined = int((index >= 0).sum())
    if joined < n_volumes or joined < len(index):
        logger.warning(
            "%s: %d of %d volumes have no event, %d of %d trials have no volume; they are left out.",
            run.label, n_volumes - joined, n_volumes, len(index) - joined, len(index),
        )  # fmt: skip
