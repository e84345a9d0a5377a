"""Decoders on disk: safetensors and JSON, with everything that is needed to decode on another machine.

The array file stands alone: its header holds the configuration, and the training curves lie beside the weights.
``config.json`` shows the configuration to people, with the SHA-256 of the array file; it and ``history.tsv`` follow
from the array file (:mod:`clipmused_bids.dataset.outputs.model_writing`). Nothing is ever unpickled.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.comparison import differences
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import write_text
from clipmused_bids.dataset.files.tensors import digest, read_metadata, read_tensors
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Grid, IntArray

WEIGHTS_HASH = "weights_sha256"
HISTORY = "history."
_MOST_LINES = 12
# Another process may be writing config.json of the array file it has just stored.
_ATTEMPTS = 6
_PAUSE = 0.2


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
    curves : mapping of str to ndarray
        Training curves; empty where there are none.
    """

    path: Path
    tensors: Mapping[str, NDArray[Any]]
    config: Mapping[str, Any]
    weights_hash: str
    curves: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRecord:
    """A stored decoder without its weights.

    Parameters
    ----------
    folder : Path
    participant : str or None
        None for the decoder of the whole group.
    config : mapping
        What was stored with it.
    weights_hash : str
        SHA-256 of the array file, as ``config.json`` says.
    """

    folder: Path
    participant: str | None
    config: Mapping[str, Any]
    weights_hash: str

    @property
    def path(self) -> Path:
        """The array file."""
        return model_path(self.folder, participant=self.participant)

    def load(self) -> StoredModel:
        """Read the weights; as :func:`load_model`."""
        return load_model(self.folder, participant=self.participant)


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


def decoders_in(folder: Path) -> tuple[str | None, ...]:
    """Decoders of a model folder: the group's (None) if there is one, and those of single participants, sorted."""
    group = (None,) if model_path(folder, participant=None).exists() else ()
    return (*group, *stored_participants(folder))


def weights_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the array files of a model folder, by name; errors as in :func:`read_record`."""
    records = [read_record(folder, participant=participant) for participant in decoders_in(folder)]
    return {record.path.name: record.weights_hash for record in records}


def read_config(folder: Path, *, participant: str | None) -> dict[str, Any]:
    """Read the configuration of a decoder from its array file, without the weights.

    Raises
    ------
    MissingInputError
        If there is no such decoder.
    DataError
        If the file is broken.
    """
    return read_metadata(_existing(folder, participant))


def read_record(folder: Path, *, participant: str | None) -> ModelRecord:
    """Read what is known of a decoder without reading its weights.

    Raises
    ------
    MissingInputError
        If there is no such decoder.
    DataError
        If it is broken, or ``config.json`` is of another decoder.
    """
    config = read_config(folder, participant=participant)
    shown = config_path(folder, participant=participant)
    if shown.exists():
        found = read_json(shown)
        weights_hash = found.pop(WEIGHTS_HASH, None)
        if isinstance(weights_hash, str) and not differences(found, config):
            return ModelRecord(folder, participant, config, weights_hash)
    model = load_model(folder, participant=participant)
    return ModelRecord(folder, participant, model.config, model.weights_hash)


def read_model(folder: Path, *, participant: str | None) -> StoredModel:
    """Read a decoder whatever lies beside it; errors as for :func:`read_config`."""
    path = _existing(folder, participant)
    tensors, config, weights_hash = read_tensors(path)
    numbered = sorted(name for name in tensors if name.startswith(HISTORY))
    curves = {name.split(".", 2)[2]: tensors.pop(name) for name in numbered}
    return StoredModel(path=path, tensors=tensors, config=config, weights_hash=weights_hash, curves=curves)


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
    for attempt in range(_ATTEMPTS):
        model = read_model(folder, participant=participant)
        lines = _beside(folder, participant, model)
        if not lines:
            return model
        if attempt < _ATTEMPTS - 1:
            time.sleep(_PAUSE)
    beside = config_path(folder, participant=participant)
    raise DataError(
        f"{model.path} and {beside.name} are not of one decoder:{_listed(lines)}",
        hint="restore the file that was changed, or train again with --overwrite",
    )


def _existing(folder: Path, participant: str | None) -> Path:
    path = model_path(folder, participant=participant)
    if not path.is_file():
        whose = "the group" if participant is None else f"sub-{participant}"
        raise MissingInputError(
            f"{path}: there is no decoder of {whose}.", hint="--train makes one; see --model-label"
        )
    return path


def _beside(folder: Path, participant: str | None, model: StoredModel) -> tuple[str, ...]:
    """How ``config.json`` differs from the array file; nothing where it is not there."""
    beside = config_path(folder, participant=participant)
    if not beside.exists():
        return ()
    expected = {**model.config, WEIGHTS_HASH: model.weights_hash}
    return differences(read_json(beside), expected, sides=(beside.name, model.path.name))


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


def write_card(folder: Path, text: str) -> None:
    """Write the model card, ``README.md`` of a model folder."""
    write_text(folder / "README.md", text)


def _listed(lines: Sequence[str]) -> str:
    shown = [f"\n  - {line}" for line in lines[:_MOST_LINES]]
    more = [f"\n  - and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return "".join([*shown, *more])
