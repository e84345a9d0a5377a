"""What one process tells the others: JSON values and arrays, over ``torch.distributed``; nothing is pickled.

An array that is a part of a file is not sent: the others are told where it lies.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from clipmused_bids.training.checkpoint import Snapshot

PIECE_BYTES = 64 * 1024**2
SECONDS_BETWEEN_LOOKS = 0.05


class FileArrays(Protocol):
    """Knows which arrays are parts of files; training itself opens none."""

    def place_of(self, array: NDArray[Any]) -> Mapping[str, Any] | None:
        """Where an array lies, as JSON values; None if it is in memory alone."""
        ...

    def array_at(self, place: Mapping[str, Any]) -> NDArray[Any]:
        """Open an array where it lies."""
        ...


def send(message: Snapshot, *, group: dist.ProcessGroup, files: FileArrays) -> None:
    """Send from process 0 to all others, which `receive`."""
    arrays, contents = [], []
    for name, array in message.tensors.items():
        place = files.place_of(array)
        arrays.append([name, array.dtype.str, list(array.shape), None if place is None else dict(place)])
        if place is None:
            contents.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    head = np.frombuffer(json.dumps([message.values, arrays]).encode(), dtype=np.uint8)
    _broadcast(torch.tensor([len(head)]), group)
    for content in (head, *contents):
        for start in range(0, len(content), PIECE_BYTES):
            _broadcast(torch.from_numpy(content[start : start + PIECE_BYTES].copy()), group)


def receive(*, group: dist.ProcessGroup, files: FileArrays) -> Snapshot:
    """Wait for what process 0 sends, for as long as it takes; signals are heard meanwhile."""
    length = torch.zeros(1, dtype=torch.int64)
    arriving = dist.broadcast(length, src=0, group=group, async_op=True)
    assert arriving is not None
    while not arriving.is_completed():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    arriving.wait()
    values, arrays = json.loads(_received(int(length), group).tobytes())
    tensors = {}
    for name, dtype, shape, place in arrays:
        kind = np.dtype(dtype)
        if place is not None:
            tensors[name] = files.array_at(place)
        else:
            content = _received(kind.itemsize * math.prod(shape), group)
            tensors[name] = content.view(kind).reshape(shape)
    return Snapshot(tensors, values)


def _received(n_bytes: int, group: dist.ProcessGroup) -> NDArray[np.uint8]:
    content = np.empty(n_bytes, dtype=np.uint8)
    for start in range(0, n_bytes, PIECE_BYTES):
        _broadcast(torch.from_numpy(content[start : start + PIECE_BYTES]), group)
    return content


def _broadcast(values: Tensor, group: dist.ProcessGroup) -> None:
    dist.broadcast(values, src=0, group=group)
