"""What surrounds a training on its device: random numbers, compilation, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.compiled import compiled
from clipmused_bids.training.device_memory import training_memory
from clipmused_bids.training.processes import Processes
from clipmused_bids.training.state import seeded


@contextmanager
def on_device(
    model: Network, reader: TrialReader, *, options: TrainingOptions, seed: int, processes: Processes
) -> Iterator[None]:
    """Train inside: seeded, compiled if the options say so, and with errors that say what memory is needed.

    Parameters
    ----------
    model : Network
    reader : TrialReader
        Of the training trials; its device is the one.
    options : TrainingOptions
    seed : int
    processes : Processes
        That share a batch.

    Raises
    ------
    UsageError
        If the device has too little memory, or nothing can be compiled here.
    """
    # What is compiled is undone before memory is counted: the count traces the network as it is.
    with (
        training_memory(model, reader, options=options, n_processes=processes.count),
        compiled(model, on=options.compile, device=reader.device),
        seeded(seed, device=reader.device),
    ):
        yield
