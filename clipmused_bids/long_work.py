"""Work that takes long says what it is and how far; whoever shows progress listens, and without it nothing happens.

Every layer may say so; what is shown, and when, is decided in `clipmused_bids.stages.progress`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

Item = TypeVar("Item")


@dataclass(eq=False)
class LongWork:
    """Something that is done to many items, one after the other.

    Parameters
    ----------
    what : str
        As a title: ``Responses``.
    total : int
        Items; the most there can be, if ``at_most``.
    unit : str
        One item: ``run``.
    at_most : bool
        Whether it may end early.
    at_once : int
        Items that are worked on side by side, so that they are done together.
    announced : bool
        Whether it has been said already what will be done: nothing but how far it is need be said.

    Attributes
    ----------
    done, skipped : int
        Items that need no more work, and those among them that needed none.
    note : str
        What the last items came to.
    """

    what: str
    total: int
    unit: str
    at_most: bool = False
    at_once: int = 1
    announced: bool = False
    done: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)
    note: str = field(default="", init=False)

    def advance(self, n: int = 1, *, note: str = "") -> None:
        """Count items that are done now."""
        self.done += n
        self.note = note
        for listener in _listeners:
            listener.advanced(self)

    def skip(self, n: int) -> None:
        """Count items that were done before: they say nothing of how fast it goes."""
        self.done += n
        self.skipped += n


class Listener(Protocol):
    """Whoever shows progress."""

    def begun(self, work: LongWork) -> None:
        """Take note of work that begins, maybe inside of other work."""

    def advanced(self, work: LongWork) -> None:
        """Take note of items that are done."""

    def ended(self, work: LongWork) -> None:
        """Take note of work that is over, done or not, and whatever was begun inside of it."""


_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of all work inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def long_work(
    what: str, total: int, unit: str, *, at_most: bool = False, at_once: int = 1, announced: bool = False
) -> Iterator[LongWork]:
    """Begin work and end it, however it ends; parameters as of `LongWork`."""
    work = LongWork(what, total, unit, at_most=at_most, at_once=at_once, announced=announced)
    for listener in _listeners:
        listener.begun(work)
    try:
        yield work
    finally:
        for listener in _listeners:
            listener.ended(work)


@contextmanager
def each_of(
    items: Sequence[Item], what: str, unit: str, *, announced: bool = False
) -> Iterator[Iterator[Item]]:
    """Yield an iterator over items that counts each when the next one is asked for."""
    with long_work(what, len(items), unit, announced=announced) as work:

        def counted() -> Iterator[Item]:
            for item in items:
                yield item
                work.advance()

        yield counted()
