"""Random state, weights and moments, in and out of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from clipmused_bids.errors import DataError
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.progress import part_of


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


def state_of_run(
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    generator_state: Mapping[str, Any],
    device: torch.device,
) -> Snapshot:
    """Weights, moments of the optimizer, scale of mixed precision and all random numbers, between two steps.

    On a CPU the arrays are not copied: the next step changes them.
    """
    tensors = {f"model.{name}": _array(value) for name, value in model.state_dict().items()}
    for k, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{k}.{name}": _array(value) for name, value in moments.items()}
    tensors |= {f"random.{k}": _array(value) for k, value in enumerate(random_state(device))}
    precision = fabric.strategy.precision.state_dict()
    return Snapshot(tensors, {"generator": generator_state, "precision": precision})


def restore_run(
    kept: Snapshot,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    generator: np.random.Generator,
    device: torch.device,
) -> None:
    """Put back what ``state_of_run`` gave.

    Raises
    ------
    DataError
        If the weights are of another model.
    """
    load_tensors(model, part_of(kept.tensors, "model."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part_of(kept.tensors, "optimizer.").items():
        k, key = name.split(".", 1)
        moments.setdefault(int(k), {})[key] = torch.as_tensor(value.copy())
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    random = part_of(kept.tensors, "random.")
    set_random_state([torch.as_tensor(random[str(k)].copy()) for k in range(len(random))], device=device)
    generator.bit_generator.state = dict(kept.values["generator"])
    fabric.strategy.precision.load_state_dict(dict(kept.values["precision"]))


def random_state(device: torch.device) -> list[Tensor]:
    """State of torch's random numbers: of the CPU, and of a GPU where there is one."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_random_state(states: Sequence[Tensor], *, device: torch.device) -> None:
    """Put back what ``random_state`` gave; that of a GPU is left alone where there was none."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def _array(value: Tensor) -> NDArray[Any]:
    return value.detach().cpu().numpy()
