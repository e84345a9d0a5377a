"""Responses on disk: one run is one array file, one table of its trials and one description.

The array file is trial-major and read as a memory map, so training reads single trials without loading runs.
The three files are tied by a fingerprint: files of two different estimates are never read as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids import __version__
from clipmused_bids.dataset.events.trial_tables import column_fields, trial_columns, trials_of
from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.comparison import differences, grid_fields, grid_of
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import canonical_json, encode_tsv, plain, write_json
from clipmused_bids.dataset.files.tensors import (
    array_digest,
    digest,
    map_tensors,
    read_metadata,
    write_tensors,
)
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import CannotCreateError, ClipMusedError, DataError
from clipmused_bids.records import BoolArray, Grid, IntArray, Run, RunResponses, Trials

ResponseKind = Literal["lss", "lsa", "window", "betas"]

TSNR_NOTE = (
    "Array `tsnr`: mean of each voxel over the standard deviation of what a straight line leaves of its series, over "
    "the scans that were kept; 0 in voxels without signal. No unit."
)


@dataclass(frozen=True)
class StoredResponses:
    """Responses of one run as they lie on disk; the arrays are memory maps.

    Parameters
    ----------
    path : Path
        The array file.
    values : ndarray of shape (n_trials, n_voxels), float32 or float16
        In ``unit`` after multiplication with ``scale``.
    scale : ndarray of shape (n_voxels,), float32, or None
        None where the values are in ``unit`` as they are.
    valid : ndarray of bool, shape (n_voxels,)
        False where a voxel has no usable signal in this run.
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each column in ``grid``.
    grid : Grid
    trials : Trials
        The trials of the rows, in order; the run's other events and counts are as they were read.
    trial_number : ndarray of int, shape (n_trials,)
        Position of each row among all trials of the run, from 1.
    kind, unit : str
        As in ``RunResponses``.
    dropped : mapping of str to int
        Trials without a response, by reason.
    config : mapping
        How the responses were estimated.
    sources : tuple of str
        BIDS URIs of what they were estimated from.
    fingerprint : str
        SHA-256 over all of this: equal ones mean equal responses.
    tsnr : ndarray of shape (n_voxels,), float32, or None
        Temporal signal-to-noise ratio of the run; None for responses that exist already, and in files of versions that
        did not measure it.
    """

    path: Path
    values: NDArray[Any]
    scale: NDArray[np.float32] | None
    valid: BoolArray
    voxels: IntArray
    grid: Grid
    trials: Trials
    trial_number: IntArray
    kind: ResponseKind
    unit: str
    dropped: Mapping[str, int]
    config: Mapping[str, Any]
    sources: tuple[str, ...]
    fingerprint: str
    tsnr: NDArray[np.float32] | None = None

    def decoded(self, columns: IntArray | slice = slice(None)) -> NDArray[np.float32]:
        """Values of some columns, or of all, in ``unit``, in memory: float32 of shape (n_trials, n_columns)."""
        values = self.values[:, columns].astype(np.float32)
        return values if self.scale is None else np.asarray(values * self.scale[columns], dtype=np.float32)


def write_responses(
    tree: OutputTree,
    run: Run,
    responses: RunResponses,
    trials: Trials,
    *,
    grid: Grid,
    voxels: IntArray,
    config: Mapping[str, Any],
    precision: Literal["float32", "float16"] = "float32",
) -> Path:
    """Write the responses of one run with their trials and how they were estimated.

    Parameters
    ----------
    tree : OutputTree
    run : Run
    responses : RunResponses
    trials : Trials
        All trials of the run; ``responses.kept`` says which of them have a row.
    grid : Grid
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each column of the responses.
    config : mapping
        JSON values that decide about the result; compared by :func:`check_responses`.
    precision : {"float32", "float16"}
        ``float16`` is stored relative to a power of two for each voxel, with 11 significant bits.

    Returns
    -------
    Path
        The array file. It is written last: where it exists, the other two do.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = tree.responses(run, kind=responses.kind)
    table = encode_tsv(trial_columns(trials, kept=responses.kept), name=path.with_suffix(".tsv").name)
    sidecar = _sidecar(run, responses, trials, grid=grid, config=config)
    sidecar["TrialsHash"] = digest(table)
    tensors = _packed(responses.values, precision=precision)
    tensors |= {"valid": responses.valid, "voxels": np.asarray(voxels, dtype=np.int64)}
    if responses.tsnr is not None:
        tensors["tsnr"] = responses.tsnr
    sidecar["ArraysHash"] = array_digest(tensors)
    sidecar["Fingerprint"] = digest(canonical_json(sidecar))
    write_bytes(path.with_suffix(".tsv"), table)
    write_json(path.with_suffix(".json"), sidecar)
    write_tensors(path, tensors, metadata={"Fingerprint": sidecar["Fingerprint"]})
    return path


def read_responses(path: Path) -> StoredResponses:
    """Open the responses of one run; values stay on disk until they are used.

    Parameters
    ----------
    path : Path
        The array file.

    Raises
    ------
    MissingInputError
        If one of the three files is not there.
    DataError
        If a file is broken, or they do not belong together.
    """
    tensors, metadata = map_tensors(path)
    sidecar = read_json(path.with_suffix(".json"))
    table = path.with_suffix(".tsv")
    if not _belong_together(table, sidecar, metadata):
        raise DataError(
            f"{path}: the array, its .json and its .tsv are not of one estimate.",
            hint="run --prepare again; it replaces them",
        )
    trials, trial_number = trials_of(table, sidecar)
    return StoredResponses(
        path=path,
        values=tensors["responses"],
        scale=tensors.get("scale"),
        valid=tensors["valid"],
        voxels=tensors["voxels"],
        grid=grid_of(sidecar["Grid"]),
        trials=trials,
        trial_number=trial_number,
        kind=sidecar["ResponseKind"],
        unit=sidecar["Units"],
        dropped=sidecar["DroppedTrials"],
        config=sidecar["Estimation"],
        sources=tuple(sidecar["Sources"]),
        fingerprint=sidecar["Fingerprint"],
        tsnr=tensors.get("tsnr"),
    )


def check_responses(
    tree: OutputTree, run: Run, *, kind: str, config: Mapping[str, Any]
) -> Literal["absent", "current"]:
    """Say whether a run's responses are there and were estimated with this configuration from these files.

    Returns
    -------
    {"absent", "current"}
        ``absent`` also where only a part of an interrupted write is there.

    Raises
    ------
    CannotCreateError
        If they are there and were made with another configuration, or from files of another size; names each.
    """
    path = tree.responses(run, kind=kind)
    try:
        metadata = read_metadata(path)
        sidecar = read_json(path.with_suffix(".json"))
        whole = _belong_together(path.with_suffix(".tsv"), sidecar, metadata)
    except ClipMusedError:
        return "absent"
    if not whole:
        return "absent"
    asked = {**plain(config), **_named_sizes(source_sizes(run))}
    made = {**sidecar["Estimation"], **_named_sizes(sidecar["SourceSizes"])}
    lines = differences(made, asked, sides=("then", "now"))
    if lines:
        raise CannotCreateError(
            f"{run.label}: the responses in {path} were made differently: {'; '.join(lines)}.",
            hint="--overwrite makes them again; or choose another OUTPUT_DIR",
        )
    return "current"


def source_sizes(run: Run) -> dict[str, int]:
    """Sizes in bytes of a run's files, by field name; files that are not there are left out."""
    paths = {"events": run.events, "image": run.image, "mask": run.mask, "confounds": run.confounds}
    paths["trial table"] = run.trial_table
    if run.betas:
        # Of a manifest, the rows count that concern the run, not its size.
        files = dict.fromkeys(rows.path for rows in run.betas)
        paths = {"betas" if len(files) == 1 else f"betas {k}": path for k, path in enumerate(files, start=1)}
    return {name: path.stat().st_size for name, path in paths.items() if path is not None and path.is_file()}


def _sidecar(
    run: Run, responses: RunResponses, trials: Trials, *, grid: Grid, config: Mapping[str, Any]
) -> dict[str, Any]:
    n_trials, n_voxels = responses.values.shape
    return {
        **column_fields(trials),
        "Description": f"{responses.kind} responses: {n_trials} trials x {n_voxels} voxels; row k of the "
        "array `responses` belongs to row k of the table, column v to the voxel `voxels[v]` of the grid.",
        "Sources": list(run.sources.values()),
        "ResponseKind": responses.kind,
        "Units": responses.unit,
        "NumberOfTrials": n_trials,
        "NumberOfVoxels": n_voxels,
        "NumberOfVoxelsWithoutSignal": int(np.count_nonzero(~responses.valid)),
        "Grid": grid_fields(grid),
        "DroppedTrials": dict(responses.dropped),
        **({} if responses.tsnr is None else {"TemporalSNR": TSNR_NOTE}),
        **_events_fields(trials),
        "Estimation": plain(config),
        "SourceSizes": source_sizes(run),
        "SoftwareVersion": __version__,
    }


def _events_fields(trials: Trials) -> dict[str, Any]:
    return {
        "StimulusColumn": trials.stimulus_column,
        "EventsRows": trials.n_rows,
        "EventsRowsInTrials": trials.n_rows_in_trials,
        "EventsExcluded": dict(trials.excluded),
        "EventsNotes": list(trials.notes),
        "NuisanceEvents": {
            "onset": trials.nuisance_onset.tolist(),
            "duration": trials.nuisance_duration.tolist(),
            "kind": list(trials.nuisance_kind),
        },
    }


def _packed(values: NDArray[Any], *, precision: str) -> dict[str, NDArray[Any]]:
    if precision == "float32":
        return {"responses": np.asarray(values, dtype=np.float32)}
    largest = np.abs(values).max(axis=0, initial=0)
    # A power of two: dividing by it and multiplying again rounds nothing.
    scale = np.ldexp(np.float32(1), np.frexp(largest)[1]).astype(np.float32)
    return {"responses": (values / scale).astype(np.float16), "scale": scale}


def _belong_together(table: Path, sidecar: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    if sidecar.get("Fingerprint") is None or sidecar["Fingerprint"] != metadata.get("Fingerprint"):
        return False
    return table.is_file() and digest(table.read_bytes()) == sidecar.get("TrialsHash")


def _named_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    return {f"bytes of the {name}": size for name, size in sizes.items()}
