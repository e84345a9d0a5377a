"""What a batch needs of a device's memory, and what to do where it needs too much."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.cost import training_cost
from clipmused_bids.decoder.network import Network
from clipmused_bids.errors import UsageError
from clipmused_bids.training.batches import TrialReader

# Kernels need room of their own for a moment, and freed blocks do not always fit what is asked for next.
USABLE_SHARE = 0.9
GB = 1e9


@dataclass(frozen=True)
class StepMemory:
    """Memory of a training step: a fixed part, and a part for each trial that passes at once.

    Parameters
    ----------
    state_bytes : int
        Weights, gradients and both moments of Adam.
    kept_bytes : int
        Data that stay on the device.
    trial_bytes : int
        What autograd keeps of one trial's forward pass, and its responses.
    pass_bytes : int
        What autograd keeps of a pass however many trials it has.
    """

    state_bytes: int
    kept_bytes: int
    trial_bytes: int
    pass_bytes: int = 0

    @property
    def fixed_bytes(self) -> int:
        """All that does not depend on the number of trials."""
        return self.state_bytes + self.kept_bytes + self.pass_bytes

    def needed(self, n_trials: int) -> int:
        """Bytes for so many trials at once."""
        return self.fixed_bytes + n_trials * self.trial_bytes

    def largest_batch(self, available_bytes: int) -> int:
        """Most trials that fit into nine tenths of so many bytes; 0 if not even one does."""
        left = int(USABLE_SHARE * available_bytes) - self.fixed_bytes
        return max(0, left // max(1, self.trial_bytes))


def step_memory(model: Network, *, n_voxels: Sequence[int], n_trials: int, kept_bytes: int) -> StepMemory:
    """Compute, without computing the step itself, what steps with about so many trials need, in float32.

    Parameters
    ----------
    model : Network
        Not changed, and none of its weights is copied.
    n_voxels : sequence of int
        V of each participant.
    n_trials : int
        Trials that pass at once.
    kept_bytes : int
        Data that stay on the device.
    """
    # Memory is linear in the number of trials: two sizes give both parts.
    more = max(2, n_trials)
    less = more // 2
    large = training_cost(model, n_voxels=n_voxels, batch_size=more)
    small = training_cost(model, n_voxels=n_voxels, batch_size=less)
    activations = -(-(large.activation_bytes - small.activation_bytes) // (more - less))
    return StepMemory(
        state_bytes=large.state_bytes,
        kept_bytes=kept_bytes,
        trial_bytes=activations + 4 * max(n_voxels),
        pass_bytes=max(0, large.activation_bytes - more * activations),
    )


def available_bytes(device: torch.device) -> int:
    """Memory that this process can have of a device: what is free, and what it holds already."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def too_many_trials(memory: StepMemory, *, n_trials: int, batch_size: int, available: int) -> UsageError:
    """Make the error for a training step that did not fit.

    Parameters
    ----------
    memory : StepMemory
    n_trials : int
        Trials that passed at once.
    batch_size : int
        Trials of a batch.
    available : int
        Bytes that the device has for this process.
    """
    message = (
        f"Training: out of memory of the device. {n_trials} trials at once need about "
        f"{memory.needed(n_trials) / GB:.2f} GB: {memory.state_bytes / GB:.2f} GB for weights, gradients and moments, "
        f"{memory.kept_bytes / GB:.2f} GB for data, {memory.trial_bytes / GB:.3f} GB for each trial (in float32). "
        f"The device has {available / GB:.2f} GB for this process."
    )
    fits = memory.largest_batch(available)
    if fits >= n_trials:
        # The count leaves out what kernels need for a moment; the device has the last word.
        fits = n_trials // 2
    if fits == 0:
        hint = "not even one trial fits: a smaller [model] (width, depth), a larger GPU, or --device cpu"
        return UsageError(message, hint=hint)
    return UsageError(
        f"{message} {fits} at once would fit.",
        hint=f"[training] micro_batch = {fits} keeps the batch of {batch_size} and its result",
    )


@contextmanager
def training_memory(
    model: Network, reader: TrialReader, *, options: TrainingOptions, n_processes: int
) -> Iterator[None]:
    """Turn "out of memory" of a device while training into an error that says which batch would fit.

    Parameters
    ----------
    model : Network
    reader : TrialReader
        Of the training trials.
    options : TrainingOptions
    n_processes : int
        That share a batch.

    Raises
    ------
    UsageError
        In place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        own = -(-options.batch_size // n_processes)
        n_trials = min(own, options.micro_batch or own)
        n_voxels = [table.n_voxels for table in reader.data.responses]
        memory = step_memory(model, n_voxels=n_voxels, n_trials=n_trials, kept_bytes=reader.bytes_kept)
        raise too_many_trials(
            memory,
            n_trials=n_trials,
            batch_size=options.batch_size,
            available=available_bytes(reader.device),
        ) from error


@contextmanager
def forward_memory(what: str, *, device: torch.device | str, hint: str) -> Iterator[None]:
    """Turn "out of memory" of a device, where nothing is trained, into an error that says what helps.

    Parameters
    ----------
    what : str
        What was done, with the number of its rows (``"Decoding 256 trials at once"``).
    device : torch.device or str
    hint : str

    Raises
    ------
    UsageError
        In place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        needs = str(error).partition("\n")[0].partition(". GPU")[0]
        raise UsageError(
            f"{what}: out of memory of the device, which has "
            f"{available_bytes(torch.device(device)) / GB:.2f} GB for this process ({needs}).",
            hint=hint,
        ) from error
