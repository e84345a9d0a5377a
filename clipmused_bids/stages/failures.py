"""Failures of single participants: the others go on, a table at the end says who failed and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clipmused_bids.errors import ClipMusedError, ExitCode

logger = logging.getLogger(__name__)


@dataclass
class Failures:
    """Collects the first error of each participant, in the order they came."""

    errors: dict[str, ClipMusedError] = field(default_factory=dict)

    @contextmanager
    def of_participant(self, participant: str) -> Iterator[None]:
        """Catch an expected error of one participant's data and go on; other errors pass."""
        try:
            yield
        except ClipMusedError as error:
            if error.exit_code in {ExitCode.CANNOT_CREATE, ExitCode.IO_ERROR, ExitCode.INTERRUPTED}:
                raise
            self.errors.setdefault(participant, error)
            logger.error("error: sub-%s: %s", participant, error)

    def without_failed(self, participants: tuple[str, ...]) -> tuple[str, ...]:
        """Participants that have not failed; if none is left, raise the first error.

        Raises
        ------
        ClipMusedError
            The first failure, when every participant failed.
        """
        left = tuple(p for p in participants if p not in self.errors)
        if not left and self.errors:
            raise next(iter(self.errors.values()))
        return left

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the first failure; 0 without any."""
        return next((error.exit_code for error in self.errors.values()), ExitCode.OK)

    def report(self) -> None:
        """Log who failed and why, one line each."""
        if not self.errors:
            return
        logger.error("%d participant(s) failed; the others were done:", len(self.errors))
        for participant, error in self.errors.items():
            logger.error("  sub-%s  exit %d  %s", participant, error.exit_code, str(error).splitlines()[0])
