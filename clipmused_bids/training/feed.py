"""Batches of an epoch, in order, with the state that the random numbers are left in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.records import IntArray
from clipmused_bids.training.batches import Batch, Division, TrialReader, draw_mixing


@dataclass(frozen=True)
class Fed:
    """A batch, and the state of the random numbers after everything in it was drawn.

    Parameters
    ----------
    batch : Batch
    generator_state : mapping
        As ``numpy.random.Generator.bit_generator.state`` gives it: whoever goes on after this batch starts from it.
    """

    batch: Batch
    generator_state: Mapping[str, Any]


class Feed:
    """Reads the batches of an epoch.

    Parameters
    ----------
    reader : TrialReader
    mixup : float
        Parameter of the Beta distribution that shares are drawn from; 0: nothing is mixed.
    division : callable
        Which rows' responses this process reads.
    """

    def __init__(self, reader: TrialReader, *, mixup: float, division: Division) -> None:
        self.reader = reader
        self.mixup = mixup
        self.division = division

    def batches(self, order: Sequence[IntArray], *, generator: np.random.Generator) -> Iterator[Fed]:
        """Read the batches of an order one by one; ``generator`` draws how they are mixed."""
        for index in order:
            mixing = None
            if self.mixup > 0:
                _, _, sizes = self.reader.groups(index)
                mixing = draw_mixing(sizes, concentration=self.mixup, generator=generator)
            batch = self.reader.batch(index, mixing=mixing, division=self.division)
            yield Fed(batch, generator.bit_generator.state)
