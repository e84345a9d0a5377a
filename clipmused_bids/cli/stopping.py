"""Signals by which a scheduler asks a run to stop: they end it as Ctrl-C does, with nothing half-written."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

# SIGTERM announces a time limit or preemption; SIGUSR1 is what `sbatch --signal=USR1@300` sends ahead of it.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_AGAIN_AFTER = 0.05


@contextmanager
def stopping_signals(*, afterwards: Literal["restore", "ignore"]) -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGTERM or SIGUSR1; later ones are ignored, so that it can be tidied up.

    Parameters
    ----------
    afterwards : {"restore", "ignore"}
        What these signals do after the block. A process that is about to end ignores them: its exit code is settled.
    """
    stop = _Stop()
    before = {number: signal.signal(number, stop.raise_once) for number in STOP_SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, stop.send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        stop.forget()
        for number, handler in before.items():
            signal.signal(number, handler if afterwards == "restore" else signal.SIG_IGN)


class _Stop:
    """The one exception that stops a run, and the signal that brings it back where Python dropped it."""

    def __init__(self) -> None:
        self._raised = False
        self._timer: threading.Timer | None = None

    def raise_once(self, _number: int, frame: FrameType | None) -> None:
        # What is raised inside of the hook is dropped without another call of it; the timer's signal follows.
        if self._raised or _is_running(_Stop.send_again, frame):
            return
        self._raised = True
        raise KeyboardInterrupt

    def send_again(self, unraisable: Any) -> None:
        """Be `sys.unraisablehook`: exceptions of a finalizer or of a callback from compiled code end here."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        self.forget()
        self._raised = False
        self._timer = threading.Timer(_AGAIN_AFTER, os.kill, (os.getpid(), STOP_SIGNALS[0]))
        self._timer.start()

    def forget(self) -> None:
        """Send no signal any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()


def _is_running(function: Any, frame: FrameType | None) -> bool:
    """Whether a frame, or one that called it, is of a function."""
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False
