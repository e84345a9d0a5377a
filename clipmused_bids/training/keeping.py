"""Keeping the state of a training that several processes share: one writes, and all know how that went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from clipmused_bids.errors import ProcessesError
from clipmused_bids.records import TrialData
from clipmused_bids.training.checkpoint import Keeper, Snapshot
from clipmused_bids.training.processes import Processes


def keep(
    keeper: Keeper, state: Callable[[], Snapshot], *, processes: Processes, sets: Sequence[TrialData]
) -> None:
    """Have process 0 keep a state; every process calls it at the same step.

    Parameters
    ----------
    keeper : Keeper
    state : callable
        Makes it.
    processes : Processes
    sets : sequence of TrialData
        Whose rows the training reads.

    Raises
    ------
    Exception
        What the keeper raises, in process 0.
    ProcessesError
        In the others; all leave the training.
    """
    count_reads(sets, processes)
    failed: Exception | None = None
    if processes.rank == 0:
        try:
            keeper.save(state())
        except Exception as error:  # noqa: BLE001 - it is raised as soon as the others know
            failed = error
    if processes.any(failed is not None):
        processes.leave()
        raise failed or ProcessesError("Training: process 0 has left it when it kept the state.", told=True)


def count_reads(sets: Sequence[TrialData], processes: Processes) -> None:
    """Mark the rows that any process has read: all that the training has looked at."""
    if processes.count == 1:
        return
    for table in (table for data in sets for table in data.responses):
        if table.seen is not None:
            by_any = processes.summed(torch.as_tensor(table.seen, dtype=torch.int32)).numpy() > 0
            np.copyto(table.seen, by_any)
