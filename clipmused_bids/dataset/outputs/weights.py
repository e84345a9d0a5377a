"""Decoders on disk: safetensors and JSON, with everything that is needed to decode on another machine.

The array file stands alone: its header holds the configuration as well. ``config.json`` shows the same to
people, with the SHA-256 of the array file. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.comparison import differences
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import write_json, write_text, write_tsv
from clipmused_bids.dataset.files.tensors import digest, encode_tensors, read_tensors
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Grid, History, IntArray

WEIGHTS_HASH = "weights_sha256"
_MOST_LINES = 12


@dataclass(frozen=True)
class StoredModel:
    """A decoder as read from disk.

    Parameters
    ----------
    path : Path
        The array file.
    tensors : mapping of str to ndarray
        In memory, writable.
    config : mapping
        What was stored with it.
    weights_hash : str
        SHA-256 of the array file.
    """

    path: Path
    tensors: Mapping[str, NDArray[Any]]
    config: Mapping[str, Any]
    weights_hash: str


def model_path(folder: Path, *, participant: str | None) -> Path:
    """Array file of the group's decoder (None) or of one participant's own in a model folder."""
    return folder / ("model.safetensors" if participant is None else f"sub-{participant}_model.safetensors")


def config_path(folder: Path, *, participant: str | None) -> Path:
    """``config.json`` that belongs to :func:`model_path`."""
    return folder / ("config.json" if participant is None else f"sub-{participant}_config.json")


def history_path(folder: Path, *, participant: str | None) -> Path:
    """``history.tsv`` that belongs to :func:`model_path`."""
    return folder / ("history.tsv" if participant is None else f"sub-{participant}_history.tsv")


def stored_participants(folder: Path) -> tuple[str, ...]:
    """Participants that have a decoder of their own in a model folder, sorted."""
    names = (path.name for path in folder.glob("sub-*_model.safetensors"))
    return tuple(sorted(name.removeprefix("sub-").removesuffix("_model.safetensors") for name in names))


def save_model(
    folder: Path,
    *,
    participant: str | None,
    tensors: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    history: History | None = None,
) -> str:
    """Write a decoder with its configuration and training curves.

    Parameters
    ----------
    folder : Path
        ``OUT/models/<label>``.
    participant : str or None
        None for a decoder of the whole group.
    tensors : mapping of str to ndarray
    config : mapping
        JSON values: everything that is needed to decode and to check that a request fits.
    history : History, optional

    Returns
    -------
    str
        SHA-256 of the array file. It is written last: where it exists, the other files do.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    content = encode_tensors(tensors, metadata=config)
    weights_hash = hashlib.sha256(content).hexdigest()
    if history is not None:
        write_history(history_path(folder, participant=participant), history)
    write_json(config_path(folder, participant=participant), {**config, WEIGHTS_HASH: weights_hash})
    write_bytes(model_path(folder, participant=participant), content)
    return weights_hash


def load_model(folder: Path, *, participant: str | None) -> StoredModel:
    """Read a decoder and check that it is whole and belongs to the ``config.json`` beside it.

    Parameters
    ----------
    folder : Path
    participant : str or None
        None for the decoder of the whole group.

    Raises
    ------
    MissingInputError
        If there is no such decoder.
    DataError
        If the file is broken, or was changed or exchanged after it was written.
    """
    path = model_path(folder, participant=participant)
    if not path.is_file():
        whose = "the group" if participant is None else f"sub-{participant}"
        raise MissingInputError(
            f"{path}: there is no decoder of {whose}.", hint="--train makes one; see --model-label"
        )
    tensors, config, weights_hash = read_tensors(path)
    beside = config_path(folder, participant=participant)
    if beside.exists():
        expected = {**config, WEIGHTS_HASH: weights_hash}
        lines = differences(read_json(beside), expected, sides=(beside.name, path.name))
        if lines:
            raise DataError(
                f"{path} and {beside.name} are not of one decoder:{_listed(lines)}",
                hint="restore the file that was changed, or train again with --overwrite",
            )
    return StoredModel(path=path, tensors=tensors, config=config, weights_hash=weights_hash)


def check_model(
    config: Mapping[str, Any],
    request: Mapping[str, Any],
    *,
    ignore: Sequence[str] = (),
    name: str = "the decoder",
) -> None:
    """Check that a decoder fits what it is asked to do.

    Parameters
    ----------
    config : mapping
        Configuration stored with the decoder.
    request : mapping
        What the data and options at hand say, under the same names: mask hash, labels, CLIP model, method,
        ... Values of the decoder that the request does not name are not compared; inside a nested object
        all are.
    ignore : sequence of str
        Dotted names that may differ.
    name : str
        What the decoder is called in the message.

    Raises
    ------
    DataError
        If anything differs; names each difference with both sides.
    """
    lines = differences(config, request, sides=("decoder", "request"), stored_only="accept", ignore=ignore)
    if lines:
        raise DataError(
            f"{name} does not fit this request:{_listed(lines)}",
            hint="decode with the inputs and options it was trained with, or train another: --model-label NEW",
        )


def voxel_hash(grid: Grid, voxels: IntArray) -> str:
    """Return the SHA-256 of which voxels of which grid shape are meant; affines are compared apart, in mm."""
    shape, places = np.asarray(grid.shape, dtype="<i8"), np.asarray(voxels, dtype="<i8")
    return digest(shape.tobytes(), places.tobytes())


def write_history(path: Path, history: History) -> None:
    """Write training curves, one row for each epoch (0: before training); ``kept`` marks the weights that were kept."""
    n_rows = max((len(values) for values in history.columns.values()), default=0)
    epochs = [int(epoch) for epoch in history.columns.get("epoch", range(n_rows))]
    curves = {name: values for name, values in history.columns.items() if name != "epoch"}
    kept = [row == history.best_epoch for row in range(n_rows)]
    write_tsv(path, {"epoch": epochs, **curves, "kept": kept})


def write_card(folder: Path, text: str) -> None:
    """Write the model card, ``README.md`` of a model folder."""
    write_text(folder / "README.md", text)


def _listed(lines: Sequence[str]) -> str:
    shown = [f"\n  - {line}" for line in lines[:_MOST_LINES]]
    more = [f"\n  - and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return "".join([*shown, *more])
