"""Rows of responses in memory: read, looked at, mixed, and handed to a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, ResponseTable
from clipmused_bids.training.mixing import Mixing

KEPT_BYTES = 64 * 1024**2
ROWS_AT_ONCE = 256
KEPT_SHARE_OF_GPU = 0.25  # of what is free when the network is there


def room_for_responses(device: torch.device) -> int:
    """Bytes of responses that are kept on a device.

    A GPU is far from the files, and has memory of its own. On a CPU little is kept, so that the memory of a training
    does not grow with the number of participants: the system holds the files' pages while it has room, and drops them.
    """
    if device.type == "cuda":
        return int(KEPT_SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0])
    return KEPT_BYTES


def read_rows(table: ResponseTable, rows: IntArray, *, participant: str, device: torch.device) -> Tensor:
    """Read rows of a participant, (n, V), to where the device takes them from fastest.

    Raises
    ------
    DataError
        If a response is not finite; names the participant.
    """
    # Memory that is pinned is copied to a GPU while the CPU goes on.
    values = torch.empty(len(rows), table.n_voxels, pin_memory=device.type == "cuda")
    require_finite(table.read(rows, out=values.numpy()), participant=participant)
    return values


def kept_rows(table: ResponseTable, rows: IntArray, *, participant: str, device: torch.device) -> Tensor:
    """Bring rows of a participant to a device to stay there, (n, V), some at a time; errors as for ``read_rows``."""
    kept = torch.empty(len(rows), table.n_voxels, device=device)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        values = read_rows(table, rows[part], participant=participant, device=device)
        kept[part].copy_(values, non_blocking=True)
    return kept


def mixed_rows(
    table: ResponseTable,
    trials: IntArray,
    rows: IntArray,
    *,
    mixing: Mixing | None,
    participant: str,
    device: torch.device,
) -> Tensor:
    """Read some rows of a batch of one participant, mixed with their partners wherever those are in the batch.

    Parameters
    ----------
    table : ResponseTable
    trials : ndarray of int, shape (B,)
        Row of the table of each row of the whole batch; only those of this participant are looked at.
    rows : ndarray of int, shape (n,)
        Rows of the batch that are wanted.
    mixing : Mixing, optional
        Of the whole batch.
    participant : str
        Label, for messages.
    device : torch.device
        Where they will go.

    Raises
    ------
    DataError
        If a response is not finite.
    """
    if mixing is None:
        return read_rows(table, trials[rows], participant=participant, device=device)
    wanted, places = np.unique(np.concatenate([rows, mixing.partner[rows]]), return_inverse=True)
    values = read_rows(table, trials[wanted], participant=participant, device=device)
    array = values.numpy()
    mixed = mixing.of_rows(array, rows, places.reshape(2, -1))
    if mixed is array:
        return values
    other = torch.from_numpy(mixed)
    return other.pin_memory() if device.type == "cuda" else other


def require_finite(values: FloatArray, *, participant: str) -> None:
    """Refuse responses that are not numbers.

    Raises
    ------
    DataError
        Names the participant and counts the values.
    """
    # What is not a number, or infinite, shows in the sum; so may large numbers, so it does not decide.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(values.sum()):
            return
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise DataError(
            f"sub-{participant}: {wrong} of {values.size} responses are NaN or infinite.",
            hint="run --prepare again; voxels without signal are left out by the mask",
        )
