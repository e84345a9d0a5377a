"""Errors a user can act on: what happened, where, and a hint; each kind has one exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the BIDS execution specification and of ``sysexits.h``."""

    OK = 0
    UNEXPECTED = 1
    DATASET_INVALID = 16
    UNKNOWN_LEVEL = 17
    NOTHING_SELECTED = 18
    USAGE = 64
    BAD_DATA = 65
    INPUT_MISSING = 66
    CANNOT_CREATE = 73
    IO_ERROR = 74
    INTERRUPTED = 75


class ClipMusedError(Exception):
    """Base of all errors that are reported without a traceback.

    Parameters
    ----------
    message : str
        What happened and where: file, participant, run; what was found and what was expected.
    hint : str, optional
        The flag or command that helps; kinds of errors may have one of their own.
    """

    exit_code: ExitCode = ExitCode.UNEXPECTED
    usual_hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint or self.usual_hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class DatasetError(ClipMusedError):
    """The dataset as a whole cannot serve this purpose (no derivative, no events, ...)."""

    exit_code = ExitCode.DATASET_INVALID
    usual_hint = "docs/inputs.md says what a dataset must have; --check looks for it"


class UnknownLevelError(ClipMusedError):
    """The analysis level is neither ``participant`` nor ``group``."""

    exit_code = ExitCode.UNKNOWN_LEVEL
    usual_hint = "participant or group"


class SelectionError(ClipMusedError):
    """The filters select nothing, or name what does not exist."""

    exit_code = ExitCode.NOTHING_SELECTED
    usual_hint = "--dry-run without this filter lists what there is"


class UsageError(ClipMusedError):
    """Options that contradict each other or have no meaning."""

    exit_code = ExitCode.USAGE
    usual_hint = "clipmused-bids --help lists the options and their values"


class DataError(ClipMusedError):
    """A file was read and its content cannot be used."""

    exit_code = ExitCode.BAD_DATA
    usual_hint = "--dry-run looks at all inputs but the images at once, and lists what cannot be used"


class DesignError(DataError):
    """A design matrix does not determine what it should."""


class MissingInputError(ClipMusedError):
    """A file that is needed is not there or cannot be read."""

    exit_code = ExitCode.INPUT_MISSING
    usual_hint = "check the path; inside a container only bound folders exist (-B /path:/path:ro)"


class CannotCreateError(ClipMusedError):
    """An output cannot be created, or exists and differs."""

    exit_code = ExitCode.CANNOT_CREATE
    usual_hint = "choose another OUTPUT_DIR; --check says what can be written to"


class OutputWriteError(ClipMusedError):
    """Writing failed on the way (disk full, quota, I/O error)."""

    exit_code = ExitCode.IO_ERROR
    usual_hint = "check the disk (df -h), then run the same command again: finished work is reused"


class InterruptedRunError(ClipMusedError):
    """The run was asked to stop; the same command continues."""

    exit_code = ExitCode.INTERRUPTED
    usual_hint = "the same command goes on where it stopped"


class ProcessesError(ClipMusedError):
    """Processes that work together cannot go on together; all of them end.

    Parameters
    ----------
    message : str
    exit_code : ExitCode
        Of the process where it began.
    told : bool
        Whether that was another process, which says so itself.
    """

    exit_code = ExitCode.INTERRUPTED
    usual_hint = "the same command goes on where it stopped"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        exit_code: ExitCode = ExitCode.INTERRUPTED,
        told: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.told = told
