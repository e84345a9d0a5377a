"""SIGTERM and SIGUSR1, by which schedulers announce preemption and time limits, stop the command as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first of these signals inside, and ignore them afterwards.

    Schedulers, launchers and containers each pass a signal on, so that one wish arrives several times, also when the
    command is ending already and must tell its exit code.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        # Not a handler: Python takes handlers away before a process has ended.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_as_before() -> Iterator[None]:
    """Leave the handling of these signals as it was, where the command is called from Python."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for other in STOP_SIGNALS:
        # Not SIG_IGN: Python complains of a signal that was on its way.
        signal.signal(other, lambda *_: None)
    signal.default_int_handler(number, frame)
