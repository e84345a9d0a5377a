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
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, _not_lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler if afterwards == "restore" else signal.SIG_IGN)


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in STOP_SIGNALS:
        # Not SIG_IGN: Python complains of a signal that is on its way already.
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def _not_lost(unraisable: Any) -> None:
    """Send the signal again where Python dropped its exception: in a finalizer, or a callback from compiled code."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    # Not at once: what is raised in here would be dropped too.
    threading.Timer(_AGAIN_AFTER, os.kill, (os.getpid(), STOP_SIGNALS[0])).start()
