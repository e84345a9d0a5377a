"""How fast work goes, and how long the rest of it takes."""

from __future__ import annotations

from clipmused_bids.long_work import LongWork
from clipmused_bids.stages.terminal import time_text

# Of the items that are done, those at the beginning that say nothing of the rest: caches are cold, programs are loaded.
_WARM_UP = 0.25
_MOST_MARKS = 1024


class Pace:
    """Measures one piece of work by a clock that it is told.

    Parameters
    ----------
    work : LongWork
    now : float
        Seconds.
    """

    def __init__(self, work: LongWork, now: float) -> None:
        self.work = work
        self.started = now
        # Items worked on, and when so many were done.
        self._marks: list[tuple[int, float]] = [(0, now)]

    def mark(self, now: float) -> None:
        """Note what is done by now."""
        self._marks.append((self.work.done - self.work.skipped, now))
        if len(self._marks) > _MOST_MARKS:
            self._marks = [*self._marks[:-1:2], self._marks[-1]]

    def elapsed(self, now: float) -> float:
        """Seconds since it began."""
        return now - self.started

    def seconds_each(self) -> float | None:
        """Mean seconds of an item, without those of the beginning; None before one is done."""
        ends = self._ends()
        if len(ends) < 2:
            return None
        last, at_last = ends[-1]
        warm = max(self.work.at_once, _WARM_UP * last)
        n, at = next(((n, at) for n, at in ends if warm <= n < last), ends[0])
        return (at_last - at) / (last - n)

    def left(self, now: float) -> float | None:
        """Seconds that the rest takes, at the pace of what was done; None before an item is done."""
        each = self.seconds_each()
        if each is None:
            return None
        counted, at = self._ends()[-1]
        rest = each * (self.work.total - self.work.skipped - counted)
        # What is being worked on is partly done; nobody knows how far when it takes longer than others.
        return max(0.0, rest - min(now - at, each * self.work.at_once))

    def _ends(self) -> list[tuple[int, float]]:
        """Marks at which nothing was half-done: items that are worked on side by side end together."""
        return [(n, at) for n, at in self._marks if n % self.work.at_once == 0]

    def counts(self) -> str:
        """``12 of at most 200 epochs``."""
        work = self.work
        return f"{work.done:,} of {'at most ' if work.at_most else ''}{plural(work.total, work.unit)}"

    def done_text(self) -> str:
        """``3 done``, or ``3 done, 2 of them before``."""
        before = f", {self.work.skipped:,} of them before," if self.work.skipped else ""
        return f"{self.work.done:,} done{before}"

    def left_text(self, now: float) -> str:
        """``about 5 min left``; empty where nothing is known."""
        left = self.left(now)
        if left is None:
            return ""
        return f"{'at most' if self.work.at_most else 'about'} {time_text(left)} left"


def plural(n: int, unit: str) -> str:
    """``1 run``, ``2 runs``, ``1,000 epochs``."""
    return f"{n:,} {unit}{'' if n == 1 else 's'}"
