"""Stored responses as NIfTI images that any program reads, with their trials and their mask beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.dataset.events.trial_tables import OWN_COLUMNS
from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import write_json
from clipmused_bids.dataset.images.maps import encode_image, sidecar_path
from clipmused_bids.dataset.outputs.response_files import StoredResponses
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import Run

_KINDS = {
    "lss": "least squares - separate, one model for each trial",
    "lsa": "least squares - all, one model for all trials",
    "window": "the mean signal in a window after the onset",
}
_FROM_RESPONSES = ("Units", "ResponseKind", "DroppedTrials", "Estimation", "SoftwareVersion")


def write_statmap(tree: OutputTree, run: Run, stored: StoredResponses) -> Path:
    """Write the responses of a run as ``*_desc-<kind>_statmap.nii.gz``, one volume for each stored trial.

    Beside it lie ``*_desc-<kind>_trials.tsv``, whose row k is about volume k, and ``*_desc-brain_mask.nii.gz``, the
    voxels that responses were estimated in. Values are float32, 0 outside the mask and in voxels without signal.

    Parameters
    ----------
    tree : OutputTree
    run : Run
    stored : StoredResponses

    Returns
    -------
    Path
        The image. It is written last: where it exists, the other files do.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = tree.response_image(run, kind=stored.kind)
    table = tree.response_trials(run, kind=stored.kind)
    mask = tree.response_mask(run)
    sidecar = read_json(stored.path.with_suffix(".json"))
    sources = [tree.uri(stored.path), *stored.sources]
    write_bytes(table, stored.path.with_suffix(".tsv").read_bytes())
    write_json(table.with_suffix(".json"), _table_fields(sidecar, path.name, sources))
    inside = np.ones(len(stored.voxels), dtype=np.uint8)
    write_bytes(mask, encode_image(inside, voxels=stored.voxels, grid=stored.grid, space=run.space))
    write_json(sidecar_path(mask), _mask_fields(run, sources))
    write_json(sidecar_path(path), _image_fields(sidecar, stored, sources))
    volumes = encode_image(stored.decoded(), voxels=stored.voxels, grid=stored.grid, space=run.space)
    write_bytes(path, volumes)
    return path


def _mask_fields(run: Run, sources: list[str]) -> dict[str, Any]:
    return {
        "Type": "Brain",
        "Description": "Voxels that the responses were estimated in",
        # BIDS asks for it where the space is no template's; the responses lie on their source's grid.
        "SpatialReference": run.sources.get("image", "orig"),
        "Sources": sources,
    }


def _image_fields(sidecar: Mapping[str, Any], stored: StoredResponses, sources: list[str]) -> dict[str, Any]:
    return {
        "Description": f"Response to each trial by {_KINDS[stored.kind]}; volume k is about row k of the table of "
        "trials of the same name; 0 outside the mask and in voxels without signal",
        "Sources": sources,
        **{name: sidecar[name] for name in _FROM_RESPONSES},
    }


def _table_fields(sidecar: Mapping[str, Any], image: str, sources: list[str]) -> dict[str, Any]:
    columns = (*OWN_COLUMNS, *sidecar["EventsColumns"])
    return {
        **{name: sidecar[name] for name in columns},
        "Description": f"Trials of the responses in {image}; row k is about volume k",
        "Sources": sources,
    }
