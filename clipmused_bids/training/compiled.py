"""A network compiled by torch while it is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config as aot_config

from clipmused_bids.decoder.network import Network
from clipmused_bids.errors import UsageError

logger = logging.getLogger(__name__)

# Dropout draws the numbers that it would draw uncompiled.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}


@contextmanager
def compiled(model: Network, *, on: bool, device: torch.device) -> Iterator[None]:
    """Compile, inside, the part of a network whose shapes are the same for all participants.

    That is ``decode``, from the shared features on; what reads the voxels of each participant has shapes of its own,
    and would be compiled once for each. The module, its parameters and their names stay what they are, and outside
    nothing is compiled. The number of rows is the only shape that changes: the first change of it makes torch
    compile once more, for any number.

    Parameters
    ----------
    model : Network
    on : bool
        Whether to compile at all.
    device : torch.device
        Where it is trained.

    Raises
    ------
    UsageError
        If nothing can be compiled here: no C++ compiler, no headers of Python, no triton for this GPU.
    """
    if not on:
        yield
        return
    require_compiler(device)
    logger.info("Training: the network is compiled; the first steps take minutes.")
    # An attribute of this one object in front of the method of its class; it is not a module and has no parameters.
    model.__dict__["decode"] = torch.compile(model.decode, options=OPTIONS)
    try:
        # The gradient of each term of the loss is looked at before that of their sum: memory is not reused between.
        with aot_config.patch(donated_buffer=False):
            yield
    finally:
        del model.__dict__["decode"]


def require_compiler(device: torch.device) -> None:
    """Compile a small product and its gradient.

    Raises
    ------
    UsageError
        With the first line of what torch says.
    """

    def product(x: Tensor) -> Tensor:
        return nn.functional.gelu(x).square().sum()

    torch.compiler.reset()
    x = torch.ones(3, 5, device=device, requires_grad=True)
    try:
        torch.compile(product, options=OPTIONS)(x).backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, ImportError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise UsageError(
            f"[training] compile = true: torch cannot compile for {device} here ({reason}).",
            hint="install g++ (and triton for a GPU), or leave compile = false: results are the same",
        ) from error
