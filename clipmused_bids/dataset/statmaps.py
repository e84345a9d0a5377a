"""Stored responses as NIfTI images that any program reads, with their trials and their mask beside them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.atomic import write_bytes
from clipmused_bids.dataset.contents import read_json
from clipmused_bids.dataset.documents import write_json
from clipmused_bids.dataset.outputs import OutputTree
from clipmused_bids.dataset.response_files import StoredResponses
from clipmused_bids.dataset.trial_tables import OWN_COLUMNS
from clipmused_bids.records import Grid, Run

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
    inside = np.ones((1, len(stored.voxels)), dtype=np.uint8)
    write_bytes(mask, _image(inside, stored))
    write_json(_sidecar_of(mask), _mask_fields(run, sources))
    write_json(_sidecar_of(path), _image_fields(sidecar, stored, sources))
    write_bytes(path, _image(stored.decoded(), stored))
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


def _image(rows: NDArray[Any], stored: StoredResponses) -> bytes:
    """A compressed image of some rows of values; the same bytes for the same values, whenever they are written."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=1, mtime=0) as stream:
        stream.write(_header(rows, stored.grid))
        volume = np.zeros(stored.grid.shape, dtype=rows.dtype)
        for row in rows:
            volume.flat[stored.voxels] = row
            # NIfTI stores the first axis fastest.
            stream.write(volume.tobytes(order="F"))
    return packed.getvalue()


def _header(rows: NDArray[Any], grid: Grid) -> bytes:
    import nibabel

    make: Any = nibabel.Nifti1Header
    header = make()
    header.set_data_dtype(rows.dtype)
    header.set_data_shape(grid.shape if rows.dtype == np.uint8 else (*grid.shape, len(rows)))
    header.set_sform(grid.affine, code="aligned")
    header.set_qform(grid.affine, code="unknown")
    header.set_xyzt_units("mm")
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    # Four bytes of zero: no extensions follow.
    return bytes(header.binaryblock) + bytes(4)


def _sidecar_of(image: Path) -> Path:
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")
