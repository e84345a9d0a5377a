"""Progress of long work: a bar on a terminal; in log files and pipes a line a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clipmused_bids.long_work import LongWork, listening
from clipmused_bids.stages.bars import Bars, bar_stream
from clipmused_bids.stages.pace import Pace, plural
from clipmused_bids.stages.terminal import time_text

logger = logging.getLogger(__name__)

EpochReport = Callable[[dict[str, Any]], None]
Clock = Callable[[], float]

SECONDS_BETWEEN_LINES = 60.0
# Work that takes longer than this is said to be done, and how many items it has; what is over sooner is not.
SECONDS_UNTIL_SAID = 5.0
_SECONDS_BETWEEN_LOOKS = 0.25
_PACKAGE = "clipmused_bids"


@contextmanager
def warnings_only(hushed: bool) -> Iterator[None]:
    """Show warnings and errors of the stages only, where ``hushed``: what repeats itself was said once.

    Log files keep every line.
    """
    handlers = [
        one for one in logging.getLogger(_PACKAGE).handlers if not isinstance(one, logging.FileHandler)
    ]
    for handler in handlers if hushed else ():
        handler.addFilter(_is_news)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line is no stage's, or one of warnings and of how far it is."""
    of_stage = record.name.startswith(f"{__package__}.") and record.name != __name__
    return record.levelno >= logging.WARNING or not of_stage


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show the progress of all long work inside: by bars where the log goes to a terminal, by lines in any case."""
    stream = bar_stream(logging.getLogger(_PACKAGE))
    shown = Progress(bars=None if stream is None else Bars(stream))
    over = threading.Event()

    def look() -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            shown.look()

    watcher = threading.Thread(target=look, name="progress", daemon=True)
    watcher.start()
    try:
        with listening(shown):
            yield
    finally:
        over.set()
        watcher.join()
        shown.close()


class Progress:
    """Listens to long work; says once what takes long, and then once a minute how far it is.

    Parameters
    ----------
    clock : callable
        Seconds.
    bars : Bars, optional
        Shown while something takes long; lines then go to log files alone.
    """

    def __init__(self, *, clock: Clock = time.monotonic, bars: Bars | None = None) -> None:
        self._clock = clock
        self._bars = bars
        self._lock = threading.RLock()
        self._paces: list[Pace] = []
        self._said: set[str] = set()
        self._estimated: set[str] = set()
        self._last_line = clock()

    def begun(self, work: LongWork) -> None:
        """Measure work from now on; such without items is none."""
        if work.total > 0:
            with self._lock:
                now = self._clock()
                if not self._paces:
                    self._last_line = now
                self._paces.append(Pace(work, now))

    def advanced(self, work: LongWork) -> None:
        """Note what is done."""
        with self._lock:
            now = self._clock()
            for pace in self._paces:
                if pace.work is work:
                    pace.mark(now)
            self._say(now)

    def ended(self, work: LongWork) -> None:
        """Say how long it took, if it took long; drop it, and what was left open inside of it."""
        with self._lock:
            place = next((k for k, pace in enumerate(self._paces) if pace.work is work), None)
            if place is None:
                return
            pace = self._paces[place]
            del self._paces[place:]
            if self._bars is not None and not self._paces:
                self._bars.hide()
            elapsed = pace.elapsed(self._clock())
            if elapsed >= SECONDS_BETWEEN_LINES and not work.announced:
                logger.info("%s: %s in %s.", work.what, _amount(pace), time_text(elapsed))

    def look(self) -> None:
        """See whether something is to be said or shown by now; called every now and then."""
        with self._lock:
            now = self._clock()
            self._say(now)
            if self._bars is not None and self._paces:
                self._bars.show(self._paces, now)

    def close(self) -> None:
        """Take the bars away."""
        with self._lock:
            self._paces.clear()
            if self._bars is not None:
                self._bars.hide()

    def _say(self, now: float) -> None:
        for pace in self._paces:
            if pace.elapsed(now) >= SECONDS_UNTIL_SAID and not pace.work.announced and pace.work.total > 1:
                self._announce(pace, now)
        if self._paces and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._line(line_of(self._paces, now))

    def _announce(self, pace: Pace, now: float) -> None:
        """Say what takes long and how many items it has, and how long it takes as soon as that is known: each once."""
        what, known = pace.work.what, pace.left(now) is not None
        if what in (self._estimated if known else self._said):
            return
        self._said.add(what)
        if known:
            self._estimated.add(what)
        self._line(f"{what}: {_beginning(pace, now)}.")

    def _line(self, text: str) -> None:
        # Where a bar says it, the line goes to log files only.
        logger.info("%s", text, extra={"bar": self._bars is not None})


def line_of(paces: list[Pace], now: float) -> str:
    """How far work is that is done inside of other work, outermost first; of the innermost with its percentage."""
    *outer, inner = paces
    work = inner.work
    parts = [
        f"{inner.counts()} ({100 * work.done / work.total:.0f} %)" if work.total > 1 else "",
        work.note,
        f"{time_text(inner.elapsed(now))} so far",
        inner.left_text(now),
    ]
    names = [one.work.what for one in outer if one.work.total == 1 and one.work.announced]
    text = f"{': '.join([*names, work.what])}: {', '.join(filter(None, parts))}"
    around = "; ".join(
        ", ".join(filter(None, [f"{one.work.what}: {one.counts()}", one.work.note, one.left_text(now)]))
        for one in reversed(outer)
        if one.work.total > 1
    )
    return f"{text}{f' ({around})' if around else ''}."


def _beginning(pace: Pace, now: float) -> str:
    work = pace.work
    what = f"{'at most ' if work.at_most else ''}{plural(work.total, work.unit)}"
    left = pace.left_text(now)
    return (
        f"{what}; {pace.done_text()} in {time_text(pace.elapsed(now))}, {left}"
        if left
        else (f"{what}; how long they take is known after the first")
    )


def _amount(pace: Pace) -> str:
    work = pace.work
    return plural(work.done, work.unit) if work.done == work.total else f"{pace.counts()}"


def log_epoch(values: dict[str, Any]) -> None:
    """Log an epoch's values in detail."""
    logger.debug("%s", ", ".join(f"{name} {_shown(value)}" for name, value in values.items()))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
