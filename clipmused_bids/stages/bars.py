"""Bars at the bottom of a terminal, below what is logged."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from clipmused_bids.stages.pace import Pace
from clipmused_bids.stages.terminal import time_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

# What is over sooner would only flicker; so would a second bar below the first.
SECONDS_UNTIL_SHOWN = 1.0
SECONDS_UNTIL_ANOTHER = 4.0
_WIDEST_BAR = 30
_MOST_BARS = 4


def bar_stream(logger: logging.Logger, environ: Mapping[str, str] = os.environ) -> TextIO | None:
    """Terminal that a log's lines of level INFO go to and that can move its cursor; None without one."""
    if environ.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return None
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.level <= logging.INFO:
            stream: TextIO = handler.stream
            if stream.isatty():
                return stream
    return None


class Bars:
    """Bars of one terminal. While they are shown, all that is logged, or written by anybody, is put above them.

    Parameters
    ----------
    stream : text stream
        The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Live | None = None
        self._handlers: list[logging.StreamHandler[TextIO]] = []
        self._bars: list[tuple[Pace, float]] = []

    def show(self, paces: Sequence[Pace], now: float) -> None:
        """Draw a bar for each piece of work that takes long; none is drawn before."""
        # One item around others is no progress.
        told = [pace for pace in paces if pace.work.total > 1 or pace is paces[-1] or pace.work.announced]
        long = [(pace, now) for pace in told if pace.elapsed(now) >= _until_shown(pace, first=told[0])]
        self._bars = [*long[: _MOST_BARS - 1], long[-1]] if len(long) > _MOST_BARS else long
        if self._bars and self._live is None:
            self._start()
        if self._live is not None:
            self._live.refresh()

    def hide(self) -> None:
        """Take the bars away; the cursor is left at the beginning of an empty line."""
        if self._live is None:
            return
        for handler in self._handlers:
            handler.setStream(self._stream)
            handler.removeFilter(_not_of_bars)
        self._live.stop()
        self._live, self._handlers = None, []

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # Colours, or none (NO_COLOR), are rich's business.
        console = Console(file=self._stream, force_terminal=True, highlight=False)
        self._live = Live(
            console=console, get_renderable=lambda: drawing(self._bars, width=console.width),
            auto_refresh=False, transient=True,
        )  # fmt: skip
        self._live.start()
        for handler in logging.getLogger("clipmused_bids").handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(_AboveBars(console))
                handler.addFilter(_not_of_bars)
                self._handlers.append(handler)


def _until_shown(pace: Pace, *, first: Pace) -> float:
    return SECONDS_UNTIL_SHOWN if pace is first else SECONDS_UNTIL_ANOTHER


def drawing(bars: Sequence[tuple[Pace, float]], *, width: int) -> Table:
    """One line for each piece of work: what it is, the bar, how far it is, how long it takes."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for pace, now in bars:
        work = pace.work
        if work.total == 1:
            table.add_row(work.what, "", f"{time_text(pace.elapsed(now))} so far")
            continue
        bar = ProgressBar(total=work.total, completed=work.done, width=min(_WIDEST_BAR, max(8, width // 6)))
        left = pace.left_text(now)
        numbers = f"{pace.counts()}{f', {left}' if left else ''}"
        table.add_row(work.what, bar, numbers)
    return table


def _not_of_bars(record: logging.LogRecord) -> bool:
    """Whether a line says more than the bars do."""
    return not getattr(record, "bar", False)


class _AboveBars:
    """Text stream that puts whole lines above the bars."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        self._console.print(text, end="", markup=False, emoji=False, highlight=False, soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
