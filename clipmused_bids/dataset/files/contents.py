"""Whether a file's content is here: DataLad trees hold links and pointers to content that was never fetched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clipmused_bids.errors import DataError, MissingInputError

_POINTERS = ((b"/annex/objects/", "datalad get"), (b"version https://git-lfs", "git lfs pull --include"))
_LARGEST_POINTER = 32768


def require_content(path: Path) -> None:
    """Check that a file is there and that its content was fetched; the path is never resolved.

    Raises
    ------
    MissingInputError
        If the file does not exist, or is a broken link or a pointer into a git-annex or git-lfs store.
    """
    problem = _problem(path)
    if problem is not None:
        raise problem


def require_contents(paths: Iterable[Path]) -> None:
    """Check many files; the error names the first ones and one command for all.

    Raises
    ------
    MissingInputError
        As ``require_content``.
    """
    bad = [path for path in dict.fromkeys(paths) if _problem(path) is not None]
    if len(bad) == 1:
        require_content(bad[0])
    if bad:
        shown = ", ".join(str(path) for path in bad[:3])
        raise MissingInputError(
            f"{len(bad)} files are not fetched or not there: {shown}{', ...' if len(bad) > 3 else ''}.",
            hint=f"datalad get {' '.join(str(path) for path in bad[:3])}{' ...' if len(bad) > 3 else ''}",
        )


def read_bytes(path: Path) -> bytes:
    """Whole content of a file.

    Raises
    ------
    MissingInputError
        If the file is not there, was not fetched, or cannot be read.
    """
    require_content(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is not JSON or not an object.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise (_problem(path) or _unreadable(path, error)) from error
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        # A pointer into an annex is no JSON either.
        require_content(path)
        raise DataError(
            f"{path}: not a JSON file ({error}).", hint=f"mend it; python -m json.tool {path} shows where"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: a JSON object was expected, found {type(value).__name__}.")
    return value


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises
    ------
    MissingInputError
        If the file is not there, was not fetched, or cannot be read.
    """
    require_content(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def is_fetched(path: Path) -> bool:
    """Whether a file is there with its content."""
    return _problem(path) is None


def _problem(path: Path) -> MissingInputError | None:
    try:
        found = path.stat()
    except OSError as error:
        # Not resolved: the link's own target says whether an annex was meant.
        if path.is_symlink() and "annex" in str(path.readlink()):
            return _not_fetched(path, "datalad get")
        return _unreadable(path, error)
    if not stat.S_ISREG(found.st_mode):
        return MissingInputError(f"{path}: not a file.")
    try:
        start = _start_of(path, found.st_size)
    except OSError as error:
        return _unreadable(path, error)
    command = next((command for mark, command in _POINTERS if start.startswith(mark)), None)
    return None if command is None else _not_fetched(path, command)


def _start_of(path: Path, size: int) -> bytes:
    """First bytes of a file that may be a pointer; nothing of a larger one, which must be readable all the same."""
    if size > _LARGEST_POINTER:
        if not os.access(path, os.R_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return b""
    with path.open("rb") as stream:
        return stream.read(64)


def _unreadable(path: Path, error: OSError) -> MissingInputError:
    return MissingInputError(f"{path}: {error.strerror or 'cannot be read'}.")


def _not_fetched(path: Path, command: str) -> MissingInputError:
    return MissingInputError(f"{path}: the content of this file was not fetched.", hint=f"{command} {path}")
