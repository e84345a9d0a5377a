"""A second process that looks at an output folder in a tight loop while jobs write to it."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from tests.hpc.validity import broken_files


class Watcher:
    """What the second process has seen; complete once the block has ended."""

    def __init__(self) -> None:
        self.looks = 0
        self.problems: list[str] = []


@contextmanager
def watched(out: Path) -> Iterator[Watcher]:
    """Look at ``out`` again and again until the block ends."""
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), context.Queue()
    process = context.Process(target=_look, args=(str(out), stop, told), daemon=True)
    process.start()
    seen = Watcher()
    told.get(timeout=120)  # it has begun
    try:
        yield seen
    finally:
        stop.set()
        seen.looks, seen.problems = told.get(timeout=120)
        process.join()


def _look(out: str, stop: Event, told: Any) -> None:
    looks, problems, parent = 0, dict[str, None](), os.getppid()
    told.put("begun")
    # Not longer than the one who asked is there.
    while not stop.is_set() and os.getppid() == parent:
        if not Path(out).exists():
            time.sleep(0.01)
            continue
        problems.update(dict.fromkeys(broken_files(Path(out))))
        looks += 1
    told.put((looks, list(problems)))
