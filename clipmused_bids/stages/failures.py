"""Failures of single participants: the others go on, a table at the end says who failed and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clipmused_bids.errors import ClipMusedError, ExitCode, ProcessesError

logger = logging.getLogger(__name__)

# What has nothing to do with one participant's data would meet the next participant as well.
_OF_EVERYONE = frozenset({ExitCode.CANNOT_CREATE, ExitCode.IO_ERROR, ExitCode.INTERRUPTED})


def _is_of_everyone(error: ClipMusedError) -> bool:
    return error.exit_code in _OF_EVERYONE or isinstance(error, ProcessesError)


@dataclass
class Failures:
    """Collects the errors of participants, in the order they came.

    Parameters
    ----------
    stop_at_first : bool
        Whether the first one ends the run (``--stop-on-first-crash``).
    seen : list of (str, ClipMusedError)
        Every error with its participant.
    """

    stop_at_first: bool = False
    seen: list[tuple[str, ClipMusedError]] = field(default_factory=list)

    @contextmanager
    def of_participant(self, participant: str) -> Iterator[None]:
        """Catch an expected error of one participant's data and go on; other errors pass.

        Raises
        ------
        ClipMusedError
            The error itself, with the participant's name, if the first one ends the run.
        """
        try:
            yield
        except ClipMusedError as error:
            if _is_of_everyone(error):
                raise
            if self.stop_at_first:
                raise _named(error, participant) from error
            known = {(who, str(what)) for who, what in self.seen}
            self.seen.append((participant, error))
            # What every run of a participant would say alike is said once.
            if (participant, str(error)) not in known:
                logger.error("error: %s", _named(error, participant))

    @property
    def errors(self) -> dict[str, ClipMusedError]:
        """First error of each participant that failed, in the order they came."""
        first: dict[str, ClipMusedError] = {}
        for participant, error in self.seen:
            first.setdefault(participant, error)
        return first

    def without_failed(self, participants: tuple[str, ...]) -> tuple[str, ...]:
        """Participants that have not failed; if none is left, raise the first error.

        Raises
        ------
        ClipMusedError
            The first failure, when every participant failed.
        """
        left = tuple(p for p in participants if p not in self.errors)
        if not left and self.seen:
            raise self.seen[0][1]
        return left

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the first failure; 0 without any."""
        return self.seen[0][1].exit_code if self.seen else ExitCode.OK

    def report(self) -> None:
        """Log who failed and why, one line each; and what helps, where one participant failed."""
        errors = self.errors
        if not errors:
            return
        logger.error("%d participant(s) failed:", len(errors))
        for participant, error in errors.items():
            logger.error("  sub-%s  exit %d  %s", participant, error.exit_code, str(error).splitlines()[0])
        if len(errors) == 1 and error.hint:
            logger.error("  hint: %s", error.hint)


@dataclass
class MethodFailures:
    """Collects the errors of whole methods, so that one that cannot run on these data does not stop the others.

    Parameters
    ----------
    alone : bool
        Whether one method only was asked for; its error ends the run.
    stop_at_first : bool
        Whether the first failure of a participant ends a method.
    errors : dict of str to ClipMusedError
        By model label, in the order they came.
    people : dict of str to Failures
        Participants that failed in one method only, by model label.
    """

    alone: bool
    stop_at_first: bool = False
    errors: dict[str, ClipMusedError] = field(default_factory=dict)
    people: dict[str, Failures] = field(default_factory=dict)

    @contextmanager
    def of_method(self, label: str, *, name: str, main: bool) -> Iterator[None]:
        """Catch an expected error of one method and go on; what would meet every method passes."""
        try:
            yield
        except ClipMusedError as error:
            if _is_of_everyone(error) or (main and self.alone):
                raise
            self.errors[label] = error
            logger.warning("%s cannot be compared: %s", name, error)

    def of_people(self, label: str) -> Failures:
        """Participants that failed in a method which is not the main one."""
        return self.people.setdefault(label, Failures(stop_at_first=self.stop_at_first))


def _named(error: ClipMusedError, participant: str) -> ClipMusedError:
    """Name the participant where the message does not."""
    message = str(error.args[0])
    if f"sub-{participant}" in message:
        return error
    return type(error)(f"sub-{participant}: {message}", hint=error.hint)
