"""Random state and weights, in and out of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clipmused_bids.errors import DataError


@contextmanager
def seeded(seed: int, *, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from ``seed`` inside, and leave the generators outside as they were."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


def choose_device(device: str) -> torch.device:
    """Resolve ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    DataError
        If ``cuda`` is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DataError(
            f"--device {device}: torch sees no CUDA device here.",
            hint="--device cpu, or --nv in the container",
        )
    return torch.device(device)


def tensors_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Copy a module's parameters and persistent buffers as arrays, by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def load_tensors(module: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Put arrays back into a module.

    Raises
    ------
    DataError
        If names or shapes differ; both sides are listed.
    """
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    if own != given:
        differing = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        listed = ", ".join(f"{name}: model {own.get(name)}, file {given.get(name)}" for name in differing[:5])
        raise DataError(f"The weights do not fit the model; {len(differing)} tensors differ ({listed}).")
    module.load_state_dict({name: torch.as_tensor(np.asarray(value)) for name, value in tensors.items()})
