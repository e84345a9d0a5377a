"""The processes that train one decoder together, of which this is one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from clipmused_bids.config import Precision
from clipmused_bids.training.batches import Division, all_rows
from clipmused_bids.training.checkpoint import Snapshot


class Processes:
    """A single process, which does everything itself; what several do differently is overridden.

    Attributes
    ----------
    rank : int
        Number of this process; 0 alone writes.
    count : int
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def division(self) -> Division:
        """Rows of a batch that this process computes; at least one."""
        return all_rows

    def has_share(self, n_rows: int) -> bool:  # noqa: ARG002 - the rows are all here
        """Whether the rows of a batch of n_rows that this process computes count, or are another's."""
        return True

    def fabric(self, *, device: torch.device, precision: Precision) -> Fabric:
        """Make what moves a network to its device, in its precision, and joins gradients."""
        # Named, so that what a cluster sets in the environment does not decide how many processes there are.
        alone = LightningEnvironment()
        return Fabric(accelerator=device.type, devices=1, precision=precision, plugins=[alone])

    def gathered(self, values: Tensor, *, n_rows: int) -> Tensor:  # noqa: ARG002 - they are all here
        """Join the rows (B_r, ...) that each process has to those of the whole batch (n_rows, ...); no gradient."""
        return values

    def summed(self, values: Tensor) -> Tensor:
        """Sum a tensor over processes."""
        return values

    def from_first(self, values: Tensor) -> Tensor:
        """Return what process 0 has in place of this tensor, for what all must decide alike."""
        return values

    def require_same(self, place: tuple[int, int]) -> None:
        """Refuse to go on from different places (rows of the history, steps).

        Raises
        ------
        ProcessesError
            If process 0 is elsewhere.
        """

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag

    def leave(self) -> None:
        """Say that every process leaves the training here, by an error that all raise, and may train again."""

    def sharing(self, order: Callable[[], Snapshot]) -> AbstractContextManager[None]:  # noqa: ARG002
        """Have the other processes carry out an order while this one does so inside.

        Parameters
        ----------
        order : callable
            Makes what they are told; not called where there are no others.
        """
        return nullcontext()


ALONE = Processes()
