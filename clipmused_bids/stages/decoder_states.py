"""What the states of all trainings of one decoder have in common: where they lie, and whether they still serve."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.config import TrainingOptions
from clipmused_bids.dataset.files.comparison import differences
from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.dataset.files.tensors import digest, raw_bytes, read_metadata
from clipmused_bids.dataset.outputs.training_state import StateFolder
from clipmused_bids.dataset.outputs.weights import model_path
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.stages.decoder_request import clear_the_way, is_done
from clipmused_bids.stages.training_set import TrainingSet

logger = logging.getLogger(__name__)

_MOST_LINES = 3


class StoredElsewhereError(Exception):
    """Another run has stored the decoder that is being trained; there is nothing left to do."""


@dataclass
class DecoderStates:
    """States of all trainings of one decoder: members, refits, participants that are trained alone.

    Parameters
    ----------
    place : StateFolder
    training : TrainingSet
        What they are fitted to; what they have read of it so far is kept with them.
    whose : str
        What the decoder is called in messages.
    options : TrainingOptions
        Say how often a state is kept.
    device : str
    n_processes : int
        That train together.
    overwrite : bool
        Whether a decoder that is stored is trained again.
    resumed : bool
        Whether any training went on from a state.
    """

    place: StateFolder
    training: TrainingSet
    whose: str
    options: TrainingOptions
    device: str
    n_processes: int = 1
    overwrite: bool = False
    resumed: bool = False
    _stored_before: tuple[int, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        self._stored_before = _identity(self._model)

    @property
    def _model(self) -> Path:
        return model_path(self.place.model_folder, participant=self.place.participant)

    def open(self) -> None:
        """Say what lies there of other settings.

        With ``overwrite``, states that a run without it kept are removed; those of one with it are gone on from.

        Raises
        ------
        CannotCreateError, OutputWriteError
            If states cannot be removed.
        """
        others = list(self.place.others())
        if others:
            path, stored = others[0]
            lines = differences(stored.get("request", {}), self.place.request, sides=("there", "here"))
            logger.info(
                "%s: the state of a training with other settings%s is left alone: %s; %s.",
                self.whose, f" (and of {len(others) - 1} more)" if len(others) > 1 else "", path.name,
                "; ".join(lines[:_MOST_LINES]) or "its format",
            )  # fmt: skip
        if self.overwrite and not all(map(_overwrites, self.place.of_request())):
            logger.info("%s: --overwrite: the kept state of its training is removed.", self.whose)
            self.place.clear()

    def require_free(self) -> None:
        """See that no other run has stored a decoder in this place since this one started.

        Raises
        ------
        StoredElsewhereError
            If one has, of the same request.
        CannotCreateError
            If one has, of another.
        """
        folder, participant, request = self.place.model_folder, self.place.participant, self.place.request
        if not self.overwrite:
            clear_the_way(folder, participant, request, overwrite=False)
        changed = _identity(self._model) != self._stored_before
        if changed and is_done(folder, participant, request, overwrite=False):
            raise StoredElsewhereError

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of a training, with those that are compared when they are read."""
        return {
            "request": self.place.request,
            "data": self._data,
            "overwrites": self.overwrite,
            "circumstances": self._circumstances,
            "training": values,
        }

    def refused(self, values: Mapping[str, Any]) -> str:
        """Say why kept values do not serve this training; empty where they do."""
        if canonical_json(values.get("request")) != canonical_json(self.place.request):
            return "the state that was kept is of another request"
        if values.get("data") != self._data:
            return "the data have changed since the state was kept"
        return ""

    def elsewhere(self, values: Mapping[str, Any]) -> str:
        """Name what has changed that may change the rounding of results; empty where nothing has."""
        return "; ".join(differences(values["circumstances"], self._circumstances, sides=("then", "now")))

    @cached_property
    def _data(self) -> str:
        return fingerprint(self.training)

    @cached_property
    def _circumstances(self) -> dict[str, Any]:
        import torch

        cuda = self.device.startswith("cuda")
        return {
            "device": torch.cuda.get_device_name() if cuda else self.device,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "processes": self.n_processes,
            "micro_batch": self.options.micro_batch,
            "compile": self.options.compile,
            "torch": torch.__version__,
        }


def fingerprint(training: TrainingSet) -> str:
    """Return a hash of what a decoder is fitted to: trials, labels, voxels, and responses by their standardisation.

    A request names settings; where responses were estimated anew from other images, this differs.
    """
    parts: list[bytes | str] = []
    for data in (training.train, training.validation):
        parts.append(canonical_json([data.participants, data.label_names, data.stimulus_id]))
        parts += [raw_bytes(values).tobytes() for values in (data.participant, data.row, data.labels)]
    for space, table in zip(training.train.spaces, training.train.responses, strict=True):
        # Not through the table, which notes what is read.
        firsts = [np.asarray(block[:1]) for block in table.blocks]
        arrays = [space.voxels, space.region, *table.mean, *table.sd, *firsts]
        parts += [raw_bytes(values).tobytes() for values in arrays]
    return digest(*parts)


def _overwrites(path: Path) -> bool:
    """Whether a state was kept by a run with --overwrite."""
    try:
        return bool(read_metadata(path).get("overwrites"))
    except ClipMusedError:
        return False


def _identity(path: Path) -> tuple[int, ...] | None:
    """Tell a file from another under its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
