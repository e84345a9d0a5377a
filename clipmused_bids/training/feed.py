"""Batches of an epoch, in order, with the state that the random numbers are left in."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.records import IntArray
from clipmused_bids.training.ahead import ahead
from clipmused_bids.training.batches import Batch, Division, Gathered, TrialReader
from clipmused_bids.training.mixing import draw_mixing

logger = logging.getLogger(__name__)

MOST_AHEAD = 3


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
    """Reads the batches of an epoch: ahead, in a thread, where they are not kept on the device.

    Parameters
    ----------
    reader : TrialReader
    mixup : float
        Parameter of the Beta distribution that shares are drawn from; 0: nothing is mixed.
    division : callable
        Which rows' responses this process reads.
    most_ahead : int
        Most batches that are read ahead; fewer where they are large, but one. 0: each is read when it is asked for.

    Attributes
    ----------
    seconds_waited, seconds_worked : float
        How long batches were waited for, and what the caller took between them.
    """

    def __init__(
        self, reader: TrialReader, *, mixup: float, division: Division, most_ahead: int = MOST_AHEAD
    ) -> None:
        self.reader = reader
        self.mixup = mixup
        self.division = division
        self.most_ahead = most_ahead
        self.seconds_waited = 0.0
        self.seconds_worked = 0.0

    def batches(
        self, order: Sequence[IntArray], *, generator: np.random.Generator
    ) -> Generator[Fed, None, None]:
        """Read the batches of an order one by one; ``generator`` draws how they are mixed.

        Whatever is read ahead, ``generator`` is where the batch that was handed out last has left it.
        """
        drawn = self._read(order, copy.deepcopy(generator))
        with closing(ahead(drawn, depth=self._depth(order))) as found:
            asked = time.perf_counter()
            for gathered, state in found:
                generator.bit_generator.state = state
                fed = Fed(self.reader.delivered(gathered), state)
                handed_out = time.perf_counter()
                yield fed
                self.seconds_waited += handed_out - asked
                asked = time.perf_counter()
                self.seconds_worked += asked - handed_out

    def say_waited(self) -> None:
        """Log which share of the time the batches were waited for."""
        whole = self.seconds_waited + self.seconds_worked
        if whole > 0:
            share = 100 * self.seconds_waited / whole
            logger.info("Training: waited for data %.1f %% of the time.", share)

    def _read(
        self, order: Sequence[IntArray], generator: np.random.Generator
    ) -> Iterator[tuple[Gathered, Mapping[str, Any]]]:
        for index in order:
            mixing = None
            if self.mixup > 0:
                _, _, sizes = self.reader.groups(index)
                mixing = draw_mixing(sizes, concentration=self.mixup, generator=generator)
            gathered = self.reader.gathered(index, mixing=mixing, division=self.division)
            yield gathered, generator.bit_generator.state

    def _depth(self, order: Sequence[IntArray]) -> int:
        if self.reader.keeps or len(order) == 0 or self.most_ahead == 0:
            return 0
        first, stop = self.division(len(order[0]))
        # One at least: a network that reads such batches computes for long.
        return max(1, self.reader.depth(stop - first, most=self.most_ahead))
