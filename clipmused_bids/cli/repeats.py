"""What the terminal need not hear twice."""

from __future__ import annotations

import logging


class SaidOnce(logging.Filter):
    """Let each line through once; warnings and errors always. The log file keeps every line."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is new, or too important to be dropped."""
        if record.levelno >= logging.WARNING:
            return True
        line = record.getMessage()
        new = line not in self._said
        self._said.add(line)
        return new
