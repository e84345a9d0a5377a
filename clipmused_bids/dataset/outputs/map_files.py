"""Brain maps of a decoder on disk: images with their reliability beside them, regions, and a table of drops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.contents import read_bytes, read_json
from clipmused_bids.dataset.files.documents import number, write_json, write_tsv
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.images.maps import encode_image, encode_map, sidecar_path
from clipmused_bids.dataset.images.nifti_stream import named
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import FloatArray, Grid, IntArray

REQUEST, _CONTENT = "RequestHash", "ContentHash"
LABEL_PREFIX = "drop_"

_COLUMNS: Mapping[str, Any] = {
    "index": {"Description": "Number of the region in the label image of the regions"},
    "region": {"Description": "Name of the region"},
    "n_voxels": {"Description": "Voxels of the region among those that are decoded"},
    "x": {"Description": "Centre of the region's voxels, to the right", "Units": "mm"},
    "y": {"Description": "Centre of the region's voxels, to the front", "Units": "mm"},
    "z": {"Description": "Centre of the region's voxels, upwards", "Units": "mm"},
    "drop": {"Description": "mAP of the test trials minus that with the region knocked out"},
    "drop_randomised": {"Description": "The same of decoders with randomised weights, mean over draws"},
    "drop_top1": {"Description": "Drop of the share of trials whose label is the most probable one"},
    "strongest_label": {"Description": "Label whose average precision drops most; n/a where none drops"},
    "strongest_drop": {"Description": "Its drop"},
}


@dataclass(frozen=True)
class MapTable:
    """What a decoder loses without each region.

    Parameters
    ----------
    names : tuple of str
        R regions.
    n_voxels : ndarray of int, shape (R,)
    centre : ndarray of shape (R, 3)
        In mm.
    drop, randomised, top1 : ndarray of shape (R,)
    label_names : tuple of str
    of_label : ndarray of shape (R, C)
        NaN where a label cannot be scored.
    """

    names: tuple[str, ...]
    n_voxels: IntArray
    centre: FloatArray
    drop: FloatArray
    randomised: FloatArray
    top1: FloatArray
    label_names: tuple[str, ...]
    of_label: FloatArray

    def strongest(self) -> list[tuple[str, float]]:
        """Label that drops most in each region, and its drop; ("", NaN) where none drops."""
        best = []
        for row in self.of_label:
            known = np.where(np.isfinite(row), row, -np.inf)
            k = int(known.argmax())
            best.append((self.label_names[k], float(row[k])) if known[k] > 0 else ("", float("nan")))
        return best


def write_decoder_map(
    path: Path,
    values: FloatArray,
    *,
    voxels: IntArray,
    grid: Grid,
    space: str | None,
    sidecar: Mapping[str, Any],
    request: str,
) -> None:
    """Write a map, or a series with a volume for each label; parameters as for :func:`write_map`.

    Parameters
    ----------
    request : str
        Hash of everything that decides about the map.

    Raises
    ------
    DataError
        If a value is NaN or infinite.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    _write(path, encode_map(values, voxels=voxels, grid=grid, space=space), sidecar, request)


def write_regions(
    path: Path,
    region: IntArray,
    *,
    voxels: IntArray,
    grid: Grid,
    space: str | None,
    sidecar: Mapping[str, Any],
    request: str,
) -> None:
    """Write regions as a label image, counted from 1; parameters as for :func:`write_decoder_map`."""
    labels = (region + 1).astype(np.int16)
    _write(path, encode_image(labels, voxels=voxels, grid=grid, space=space), sidecar, request)


def write_map_table(path: Path, table: MapTable, *, sidecar: Mapping[str, Any], request: str) -> None:
    """Write what a decoder loses without each region, and what each column means."""
    strongest = table.strongest()
    columns: dict[str, Any] = {
        "index": range(1, len(table.names) + 1),
        "region": table.names,
        "n_voxels": table.n_voxels,
        **dict(zip("xyz", np.round(table.centre.T, 2), strict=True)),
        "drop": table.drop,
        "drop_randomised": table.randomised,
        "drop_top1": table.top1,
        "strongest_label": [name for name, _ in strongest],
        "strongest_drop": [drop for _, drop in strongest],
    }
    fields = dict(_COLUMNS)
    for name, values in zip(table.label_names, table.of_label.T, strict=True):
        columns[f"{LABEL_PREFIX}{name}"] = values
        fields[f"{LABEL_PREFIX}{name}"] = {
            "Description": f"Drop of the average precision of the label {name}"
        }
    write_tsv(path, columns)
    described = {**fields, **sidecar, "LabelNames": list(table.label_names), REQUEST: request}
    write_json(path.with_suffix(".json"), {**described, _CONTENT: digest(path.read_bytes())})


def read_map_table(path: Path) -> tuple[MapTable, dict[str, Any]]:
    """Read a table of drops and its sidecar.

    Raises
    ------
    MissingInputError
        If a file is not there.
    DataError
        If a column is missing.
    """
    sidecar = read_json(path.with_suffix(".json"))
    columns = read_table(path).columns
    labels = tuple(sidecar.get("LabelNames", ()))
    expected = [*_COLUMNS, *(f"{LABEL_PREFIX}{name}" for name in labels)]
    lacking = [name for name in expected if name not in columns]
    if lacking:
        raise DataError(f"{path}: column {lacking[0]} is missing.", hint="--evaluate makes it again")

    def numbers(name: str) -> FloatArray:
        return np.array([number(cell) for cell in columns[name]])

    of_label = [numbers(f"{LABEL_PREFIX}{name}") for name in labels]
    n_regions = len(columns["index"])
    table = MapTable(
        names=columns["region"],
        n_voxels=numbers("n_voxels").astype(int),
        centre=np.stack([numbers(axis) for axis in "xyz"], axis=1),
        drop=numbers("drop"),
        randomised=numbers("drop_randomised"),
        top1=numbers("drop_top1"),
        label_names=labels,
        of_label=np.array(of_label).reshape(len(labels), n_regions).T,
    )
    return table, sidecar


def read_map(path: Path) -> tuple[NDArray[Any], FloatArray]:
    """Read an image, its axes to the right, to the front and upwards, and its 4 x 4 affine.

    Raises
    ------
    MissingInputError
        If it is not there.
    DataError
        If it is no NIfTI image.
    """
    import nibabel

    read_bytes(path)
    with named(path):
        upright: Any = nibabel.funcs
        image = upright.as_closest_canonical(nibabel.load(path))
        return np.asarray(image.dataobj), np.asarray(image.affine, dtype=float)


def maps_are_current(paths: Iterable[Path], *, request: str) -> bool:
    """Whether all these files are stored, as they were written for the same request."""
    return all(_is_current(path, request) for path in paths)


def _write(path: Path, content: bytes, sidecar: Mapping[str, Any], request: str) -> None:
    write_json(sidecar_path(path), {**sidecar, REQUEST: request, _CONTENT: digest(content)})
    write_bytes(path, content)


def _is_current(path: Path, request: str) -> bool:
    try:
        sidecar = read_json(sidecar_path(path))
        content = path.read_bytes()
    except (OSError, ClipMusedError):
        return False
    return bool(sidecar.get(REQUEST) == request and sidecar.get(_CONTENT) == digest(content))
