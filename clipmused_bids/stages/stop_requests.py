"""Signals that ask a training to stop, heard as wishes: a step is never left in the middle."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Preemption and time limits; what `sbatch --signal=USR1@300` sends ahead of them; Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# Schedulers, launchers and containers each pass a signal on, so that one request may arrive several times.
ONE_REQUEST = 1.0  # s


class StopRequests:
    """Whether a signal asked to stop while one listened; it goes on being known afterwards."""

    def __init__(self) -> None:
        self._heard: signal.Signals | None = None
        self._at = 0.0

    @property
    def name(self) -> str:
        """Name of the signal that was heard first; empty while none was."""
        return "" if self._heard is None else self._heard.name

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first signal inside, in place of what it does outside.

        Ctrl-C after another signal, or any signal more than a second after the first, raises KeyboardInterrupt at
        once. A signal that the process ignores stays ignored. Python gives signals to the main thread only, so in
        another one nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        # None: set by another language, and cannot be put back from here.
        before = {
            number: handler for number, handler in before.items() if handler not in {signal.SIG_IGN, None}
        }
        try:
            for number in before:
                signal.signal(number, self._hear)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._heard is None:
            self._heard, self._at = signal.Signals(number), now
        elif number == signal.SIGINT or now - self._at > ONE_REQUEST:
            raise KeyboardInterrupt
