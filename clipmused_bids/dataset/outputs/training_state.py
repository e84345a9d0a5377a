"""State of a training that is under way, so that it can be stopped or killed and go on.

One safetensors file holds the arrays and, in its header, every value; it stands alone. The JSON beside it shows the
values to people. States lie in ``state`` below the folder of the decoder and begin with a hash of everything that
decides about it, so that trainings with different settings never touch each other's.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import remove
from clipmused_bids.dataset.files.documents import canonical_json, write_json
from clipmused_bids.dataset.files.tensors import (
    digest,
    parse_header,
    raw_bytes,
    read_array,
    read_metadata,
    stream_tensors,
)
from clipmused_bids.errors import ClipMusedError, DataError, MissingInputError, OutputWriteError

FORMAT = 1
SUFFIX = ".safetensors"
_CHECKSUM = "crc32"
_NAME = re.compile(r"(?P<request>[0-9a-f]{12})_(?P<whose>group|sub-[0-9a-zA-Z+]+)(?:_.*)?\.safetensors")


@dataclass(frozen=True)
class TrainingState:
    """What was kept of a training.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        In memory, writable.
    values : mapping
        JSON values.
    modified : float
        When it was written, in seconds since the epoch.
    """

    tensors: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any]
    modified: float


@dataclass(frozen=True)
class StateFolder:
    """Where the states of the trainings of one decoder lie.

    Parameters
    ----------
    model_folder : Path
        Of the decoder.
    participant : str or None
        None for the decoder of the whole group.
    request : mapping
        JSON values: everything that decides about the decoder.
    """

    model_folder: Path
    participant: str | None
    request: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder itself; it is there only while something lies in it."""
        return self.model_folder / "state"

    @property
    def whose(self) -> str:
        """``group``, or ``sub-LABEL``."""
        return "group" if self.participant is None else f"sub-{self.participant}"

    @property
    def stem(self) -> str:
        """Start of the names of all states of this request."""
        content = {"format": FORMAT, "request": self.request}
        return f"{digest(canonical_json(content))[:12]}_{self.whose}"

    def path(self, parts: Sequence[str]) -> Path:
        """State of one training; ``parts`` name it among those of the decoder."""
        return self.folder / ("_".join([self.stem, *parts]) + SUFFIX)

    def of_request(self) -> list[Path]:
        """States of this request that are there."""
        found = self.folder.glob(f"{self.stem}*{SUFFIX}")
        # sub-01 is the start of sub-012 too.
        return sorted(path for path in found if path.name.removeprefix(self.stem)[0] in "_.")

    def others(self) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """One readable state of each other request for the same decoder, with what it holds beside the arrays."""
        seen = set()
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            named = _NAME.fullmatch(path.name)
            if named is None or named["whose"] != self.whose or self.stem.startswith(named["request"]):
                continue
            if named["request"] not in seen:
                with contextlib.suppress(ClipMusedError):
                    yield path, read_metadata(path)
                    seen.add(named["request"])

    def clear(self) -> None:
        """Remove all states of this request with what killed writers left of them, and the folder if it is empty.

        Raises
        ------
        CannotCreateError, OutputWriteError
            If they cannot be removed.
        """
        for path in [*self.folder.glob(f"{self.stem}*"), *self.folder.glob(f".{self.stem}*.tmp")]:
            if path.name.lstrip(".").removeprefix(self.stem)[0] in "_.":
                remove(path)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def write_state(path: Path, tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
    """Write a state instead of the one before; on failure that one stays.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to ndarray
    values : mapping
        JSON values.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    stream_tensors(path, tensors, metadata={**values, _CHECKSUM: _checksum(tensors, values)})
    shown = path.with_suffix(".json")
    try:
        write_json(shown, values)
    except OutputWriteError:
        # Nobody reads it but people, whom an older one would mislead.
        remove(shown)


def read_state(path: Path) -> TrainingState | None:
    """Read a state into memory; None where there is none.

    Raises
    ------
    MissingInputError
        If it cannot be read.
    DataError
        If it is broken.
    """
    try:
        with path.open("rb") as stream:
            entries, values = parse_header(stream, path=path)
            tensors = {name: read_array(stream, entry) for name, entry in entries.items()}
            modified = path.stat().st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror or error}.") from error
    if not isinstance(values, dict) or values.pop(_CHECKSUM, None) != _checksum(tensors, values):
        raise DataError(f"{path}: its content is not what was written.")
    return TrainingState(tensors, values, modified)


def _checksum(tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> int:
    found = zlib.crc32(canonical_json(values).encode())
    for name in sorted(tensors):
        found = zlib.crc32(raw_bytes(tensors[name]), zlib.crc32(name.encode(), found))
    return found
