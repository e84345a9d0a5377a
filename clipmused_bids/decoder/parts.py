"""Batches that pass through a network in parts, with the random numbers of the whole.

A batch may be divided between processes, or between passes that fit into memory. Every pass draws the random numbers
of all rows and keeps those of its own, so that what is dropped does not depend on the division.

Shape suffixes: B rows of a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Part(NamedTuple):
    """Rows ``start`` to ``stop`` of a batch whose rows are grouped by participant.

    Parameters
    ----------
    start, stop : int
    participants : tuple of int
        Of each group of the whole batch, as the network counts them.
    sizes : tuple of int
        Rows of each group of the whole batch.
    n_voxels : tuple of int
        Voxels of each group's participant.
    """

    start: int
    stop: int
    participants: tuple[int, ...]
    sizes: tuple[int, ...]
    n_voxels: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the whole batch."""
        return sum(self.sizes)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole batch."""
        return self.start == 0 and self.stop == self.n_rows

    def overlaps(self) -> Iterator[tuple[int, slice]]:
        """Each group of the batch, and which of its rows (counted within it) are in this part; maybe none."""
        begin = 0
        for group, size in enumerate(self.sizes):
            first = min(max(self.start - begin, 0), size)
            last = min(max(self.stop - begin, 0), size)
            yield group, slice(first, last)
            begin += size


class RowDropout(nn.Module):
    """Dropout of single values; in a part of a batch, with the random numbers of its rows of the whole.

    Parameters
    ----------
    p : float
        Share of values that is set to 0; the others are divided by ``1 - p``.

    References
    ----------
    Srivastava et al. 2014, JMLR 15, 1929.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rows: tuple[int, int, int] | None = None

    @property
    def drops(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.p > 0

    def factors(self, like: Tensor, *, n_rows: int, n_values: tuple[int, ...]) -> Tensor:
        """Draw what values are multiplied by, ``(n_rows, *n_values)``, of the kind and device of ``like``."""
        return (
            torch.empty((n_rows, *n_values), dtype=like.dtype, device=like.device)
            .bernoulli_(1 - self.p)
            .div_(1 - self.p)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x of shape (B, ...) with values dropped while training."""
        if not self.drops:
            return x
        start, stop, n_rows = self.rows or (0, len(x), len(x))
        return x * self.factors(x, n_rows=n_rows, n_values=tuple(x.shape[1:]))[start:stop]


@contextmanager
def rows_of(model: nn.Module, part: Part | None) -> Iterator[None]:
    """Tell every dropout of a network which rows it is given."""
    if part is None or part.is_whole:
        yield
        return
    dropouts = [module for module in model.modules() if isinstance(module, RowDropout)]
    for module in dropouts:
        module.rows = (part.start, part.stop, part.n_rows)
    try:
        yield
    finally:
        for module in dropouts:
            module.rows = None
