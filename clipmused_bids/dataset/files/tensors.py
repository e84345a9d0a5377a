"""Arrays on disk: safetensors only, read as memory maps or into memory, checked before use."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import Outcome, replacing, write_bytes
from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.errors import DataError, MissingInputError

# One key only: their order in the file is the library's business, and equal content must be equal bytes.
_METADATA_KEY = "clipmused"
_LARGEST_HEADER = 100_000_000
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """Where one array lies in a file: bytes ``start`` to ``start + nbytes``."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    nbytes: int


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], *, metadata: Mapping[str, Any] | None = None
) -> Outcome:
    """Write arrays as one safetensors file, whole or absent.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to ndarray
        Numbers or truth values of any shape, memory layout and byte order.
    metadata : mapping, optional
        JSON values; kept in the file's header and returned by :func:`read_metadata`.
    """
    return write_bytes(path, encode_tensors(tensors, metadata=metadata))


def encode_tensors(
    tensors: Mapping[str, NDArray[Any]], *, metadata: Mapping[str, Any] | None = None
) -> bytes:
    """Return the bytes of a safetensors file; equal values give equal bytes."""
    from safetensors.numpy import save

    # The library copies raw memory from the first element on: views with strides would be stored wrongly.
    dense = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    text = canonical_json(metadata or {})
    return bytes(save(dense, metadata={_METADATA_KEY: text}))


def stream_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write as :func:`write_tensors` does, array by array: no second copy of them is held in memory.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to ndarray
        Copied one at a time where they are not in C order.
    metadata : mapping, optional
    """
    header: dict[str, Any] = {"__metadata__": {_METADATA_KEY: canonical_json(metadata or {})}}
    # The widest first: each array then starts where its numbers may lie in memory.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    end = 0
    for name in names:
        value = tensors[name]
        dtype = _NAMES[value.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": [end, end + value.nbytes]}
        end += value.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for name in names:
            stream.write(raw_bytes(tensors[name]))


def raw_bytes(value: NDArray[Any]) -> memoryview:
    """Bytes of an array as a file holds them: C order, little-endian; copied only where they are not so in memory."""
    dense = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
    return dense.reshape(-1).view(np.uint8).data


def map_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Open a file's arrays as read-only memory maps on its data; nothing is copied or read yet.

    Returns
    -------
    tensors : dict of str to ndarray
    metadata : dict

    Raises
    ------
    MissingInputError
        If the file cannot be read.
    DataError
        If it is not a safetensors file, or shorter than its header says.
    """
    entries, metadata = read_header(path)
    return {name: _mapped(path, entry) for name, entry in entries.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any], str]:
    """Read a file's arrays into memory, writable; errors as for :func:`map_tensors`.

    Returns
    -------
    tensors : dict of str to ndarray
    metadata : dict
    content_hash : str
        SHA-256 of the bytes that were read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror or error}.") from error
    stream = BytesIO(content)
    entries, metadata = parse_header(stream, path=path)
    tensors = {name: read_array(stream, entry) for name, entry in entries.items()}
    return tensors, metadata, hashlib.sha256(content).hexdigest()


def read_metadata(path: Path) -> dict[str, Any]:
    """Read what was stored beside the arrays; errors as for :func:`map_tensors`."""
    return read_header(path)[1]


def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, Any]]:
    """Read where the arrays of a file lie, and its metadata; errors as for :func:`map_tensors`."""
    try:
        with path.open("rb") as stream:
            return parse_header(stream, path=path)
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror or error}.") from error


def read_text_metadata(path: Path) -> dict[str, str]:
    """Read all texts in a file's header, whoever wrote it; errors as for :func:`map_tensors`."""
    try:
        with path.open("rb") as stream:
            texts = _header(stream, path=path)[0].get("__metadata__", {})
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror or error}.") from error
    if not isinstance(texts, dict):
        raise _broken(path, "its metadata are no object")
    return {str(name): str(text) for name, text in texts.items()}


def parse_header(stream: BinaryIO, *, path: Path) -> tuple[dict[str, TensorEntry], dict[str, Any]]:
    """Read the header of an open file; ``path`` stands in messages.

    Raises
    ------
    DataError
        As for :func:`map_tensors`.
    """
    header, start = _header(stream, path=path)
    try:
        stored = header.pop("__metadata__", {}).get(_METADATA_KEY, "{}")
        entries = {name: _entry(fields, start=start) for name, fields in header.items()}
        metadata = json.loads(stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, f"its header cannot be read ({error})") from error
    end = max((entry.start + entry.nbytes for entry in entries.values()), default=start)
    size = stream.seek(0, 2)
    if end > size:
        raise _broken(path, f"it has {size} bytes where its header promises {end}")
    return entries, metadata


def _header(stream: BinaryIO, *, path: Path) -> tuple[dict[str, Any], int]:
    """Read the JSON object at the start of a file, and say where it ends."""
    size = stream.seek(0, 2)
    stream.seek(0)
    n_header = int.from_bytes(stream.read(8), "little")
    if size < 8 or not 2 <= n_header <= min(_LARGEST_HEADER, size - 8):
        raise _broken(path, f"{size} bytes do not hold its header")
    try:
        header = json.loads(stream.read(n_header))
    except ValueError as error:
        raise _broken(path, f"its header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header cannot be read (no object)")
    return header, 8 + n_header


def read_array(stream: BinaryIO, entry: TensorEntry) -> NDArray[Any]:
    """Read one array of an open file into memory."""
    stream.seek(entry.start)
    return np.frombuffer(bytearray(stream.read(entry.nbytes)), dtype=entry.dtype).reshape(entry.shape)


def array_digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays with their names, shapes and types, as hexadecimal text."""
    parts: list[bytes | str | memoryview] = []
    for name in sorted(tensors):
        dense = np.ascontiguousarray(tensors[name])
        parts += [f"{name} {dense.dtype.str} {dense.shape}", dense.reshape(-1).view(np.uint8).data]
    return digest(*parts)


def digest(*parts: bytes | str | memoryview) -> str:
    """Return the SHA-256 of the parts, as hexadecimal text; where one part ends matters."""
    whole = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(len(raw).to_bytes(8, "little"))
        whole.update(raw)
    return whole.hexdigest()


def _entry(fields: Mapping[str, Any], *, start: int) -> TensorEntry:
    dtype = np.dtype(_DTYPES[fields["dtype"]])
    shape = tuple(int(n) for n in fields["shape"])
    first, last = fields["data_offsets"]
    nbytes = dtype.itemsize * math.prod(shape)
    if not (first >= 0 and last - first == nbytes and all(n >= 0 for n in shape)):
        raise ValueError("an array's place and shape disagree")
    return TensorEntry(dtype=dtype, shape=shape, start=start + first, nbytes=nbytes)


def _mapped(path: Path, entry: TensorEntry) -> NDArray[Any]:
    if entry.nbytes == 0:
        return np.empty(entry.shape, dtype=entry.dtype)
    try:
        return np.memmap(path, dtype=entry.dtype, mode="r", offset=entry.start, shape=entry.shape)
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror or error}.") from error


def _broken(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: not a whole safetensors file: {why}.",
        hint="remove it and run the step that writes it again",
    )
