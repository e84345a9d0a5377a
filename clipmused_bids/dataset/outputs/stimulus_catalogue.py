"""Catalogue of the stimuli in the output tree, in the columns of the BIDS stimulus proposal (BEP044)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.dataset.files.documents import NOT_AVAILABLE, encode_tsv, write_json, write_tsv
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.files.tsv import Table, read_table
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import MissingInputError
from clipmused_bids.records import Picture, Stimuli

_COLUMNS: Mapping[str, Any] = {
    "stimulus_id": {"Description": "Stimulus, as the events name it"},
    "type": {"Description": "image; video for a frame of a movie; category where only a name is known"},
    "filename": {
        "Description": "Image or movie in the raw dataset's stimuli folder, else its base name; or bank:/dataset[row]"
    },
    "present": {"Description": "Whether the file was found"},
    "content_hash": {
        "Description": "SHA-256 of the file, of the row's pixels, or of a frame; the key of its features"
    },
    "n_captions": {"Description": "Sentences that describe it"},
}
_MOST_ATTEMPTS = 20
_PARTS = Path("logs", "stimuli")


def write_catalogue(
    tree: OutputTree, stimuli: Stimuli, *, content_hash: Sequence[str | None], bids_dir: Path
) -> Path:
    """Write ``stimuli/stimuli.tsv``; stimuli that other jobs listed stay listed.

    The catalogue is for people: nothing is read from it. Jobs that know different stimuli may write it in the same
    instant: each keeps its rows in a file of its own first (``logs/stimuli``), and then writes the table of all such
    files until none has come meanwhile. So whichever writes last has seen the rows of all.

    Parameters
    ----------
    tree : OutputTree
    stimuli : Stimuli
    content_hash : sequence of (str or None)
        SHA-256 of each stimulus's file; None where there is none.
    bids_dir : Path
        Raw dataset; file names are told from its ``stimuli`` folder.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = tree.stimuli
    ours = _columns(stimuli, content_hash=content_hash, bids_dir=bids_dir)
    parts = tree.root / _PARTS
    write_tsv(parts / f"{digest(*stimuli.stimulus_id)[:16]}.tsv", ours)
    for _ in range(_MOST_ATTEMPTS):
        write_tsv(path, _with_others(ours, path, parts))
        if path.read_bytes() == encode_tsv(_with_others(ours, path, parts), name=path.name):
            break
    labels = {
        f"label_{name}": {"Description": f"Whether the label {name} applies"} for name in stimuli.label_names
    }
    about = "Stimuli of the dataset with the labels that decoders are fitted to."
    write_json(
        path.with_suffix(".json"),
        {**_COLUMNS, **labels, "Description": about, "Sources": ["bids:raw:stimuli"]},
    )
    return path


def _columns(stimuli: Stimuli, *, content_hash: Sequence[str | None], bids_dir: Path) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "stimulus_id": stimuli.stimulus_id,
        "type": [_type(picture) for picture in stimuli.picture],
        "filename": [
            None if picture is None else _portable(picture, bids_dir) for picture in stimuli.picture
        ],
        "present": [picture is not None for picture in stimuli.picture],
        "content_hash": content_hash,
        "n_captions": [len(captions) for captions in stimuli.captions],
    }
    for name, values in zip(stimuli.label_names, np.asarray(stimuli.labels).T, strict=True):
        columns[f"label_{name}"] = [None if np.isnan(value) else int(value) for value in values]
    return columns


def _with_others(ours: Mapping[str, Any], path: Path, parts: Path) -> dict[str, list[Any]]:
    """Add the rows of other jobs, and of the table on disk, whose stimuli are not ours; sorted by stimulus."""
    joined = {name: list(values) for name, values in ours.items()}
    known = set(ours["stimulus_id"])
    for table in _tables([*sorted(parts.glob("[!.]*.tsv")), path]):
        ids = table.columns.get("stimulus_id", ())
        nothing = (NOT_AVAILABLE,) * table.n_rows
        others = [row for row, stimulus in enumerate(ids) if stimulus not in known]
        known.update(ids)
        for name, values in joined.items():
            cells = table.columns.get(name, nothing)
            values += [cells[row] for row in others]
    order = sorted(range(len(joined["stimulus_id"])), key=lambda k: str(joined["stimulus_id"][k]))
    return {name: [values[k] for k in order] for name, values in joined.items()}


def _tables(paths: Iterable[Path]) -> Iterator[Table]:
    for path in paths:
        with contextlib.suppress(MissingInputError):
            yield read_table(path)


def _type(picture: Picture | None) -> str:
    if picture is None:
        return "category"
    return "image" if picture.seconds is None else "video"


def _portable(picture: Picture, bids_dir: Path) -> str:
    # Not resolved, and never absolute: paths of this machine stay here.
    path = picture.path
    inside = next(
        (path.relative_to(f) for f in (bids_dir / "stimuli", bids_dir) if path.is_relative_to(f)), None
    )
    name = path.name if inside is None else inside.as_posix()
    return name if picture.dataset is None else f"{name}:{picture.dataset}[{picture.row}]"
