"""Whole-or-absent writes: a file in the output tree is either complete or not there.

Content goes to a hidden neighbour whose name no other process can choose, is flushed to the disk, and
replaces the target in one step. Any number of processes may write the same target: the last complete
content stands, a reader never sees a part, and nothing is locked. A target that already holds the content
is left alone, so that its time stamp keeps saying when it last changed.

A process that is killed while it writes leaves its hidden neighbour behind, which nobody reads;
:mod:`clipmused_bids.dataset.files.leftovers` removes old ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from clipmused_bids.errors import CannotCreateError, ClipMusedError, OutputWriteError

Outcome = Literal["written", "unchanged"]

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRONG_PLACE = frozenset(
    {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT}
)
# What a network file system says of a step that another try does, or that was done though the answer was lost.
_PASSING = frozenset({errno.ENOENT, errno.ESTALE})
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
)
_ATTEMPTS = 4
_PAUSE = 0.05
_CHUNK = 1 << 20
_LONGEST_STEM = 160
SUFFIX = ".tmp"


def write_bytes(path: Path, content: bytes) -> Outcome:
    """Make ``path`` hold ``content``, with its folders; on failure ``path`` is as it was before.

    Parameters
    ----------
    path : Path
        Target. A symbolic link is replaced, never written through.
    content : bytes

    Returns
    -------
    {"written", "unchanged"}
        ``unchanged`` where the target held this content already; it was not touched.

    Raises
    ------
    CannotCreateError
        If the place cannot be written to (no permission, read-only, a folder of that name).
    OutputWriteError
        If writing failed on the way (disk full, quota, I/O error).
    """
    with writing(path):
        if _holds(path, content):
            return "unchanged"
        _publish(path, content, _replace)
    return "written"


def create_bytes(path: Path, content: bytes) -> Outcome | Literal["taken"]:
    """Make ``path`` hold ``content`` unless it holds something else; of several processes, one succeeds.

    The new file appears under its name whole and in one step, by a hard link. Where the file system has no hard
    links it is looked for, then moved there: of two processes that do this in the same instant the later one
    stands, so the caller reads what is there afterwards.

    Returns
    -------
    {"written", "unchanged", "taken"}
        ``taken`` where the target holds other content; it was not touched.

    Raises
    ------
    CannotCreateError, OutputWriteError
        As for :func:`write_bytes`.
    """
    with writing(path):
        if path.exists():
            return "unchanged" if _holds(path, content) else "taken"
        try:
            _publish(path, content, _link)
        except FileExistsError:
            return "unchanged" if _holds(path, content) else "taken"
    return "written"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content becomes that of ``path`` once the block ends without an error.

    For content that is better not held in memory as a whole. Errors are those of :func:`write_bytes`; after one
    ``path`` is as it was before. Nothing is tried twice.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _neighbour(path, _replace) as stream:
            yield stream
        _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder with its parents; errors as for :func:`write_bytes`."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file if it is there; errors as for :func:`write_bytes`."""
    with writing(path):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into an error with a hint."""
    try:
        yield
    except OSError as error:
        raise _explained(path, error) from error


def _publish(path: Path, content: bytes, move: Callable[[Path, Path], None]) -> None:
    """Write a hidden neighbour and move it to its name; again where a network file system lost track of it."""
    for attempt in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _neighbour(path, move) as stream:
                stream.write(content)
            break
        except OSError as error:
            if error.errno not in _PASSING or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE * 2**attempt)
            # Moved, and asked again by a client that missed the answer.
            if _holds(path, content):
                break
    _sync_folder(path.parent)


@contextlib.contextmanager
def _neighbour(path: Path, move: Callable[[Path, Path], None]) -> Iterator[BinaryIO]:
    neighbour = path.with_name(f".{path.name[:_LONGEST_STEM]}.{uuid.uuid4().hex}{SUFFIX}")
    try:
        # Not tempfile: its files are private to the user, and OUT is often shared by a group.
        with neighbour.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        move(neighbour, path)
    except BaseException:
        with contextlib.suppress(OSError):
            neighbour.unlink(missing_ok=True)
        raise


def _replace(neighbour: Path, path: Path) -> None:
    neighbour.replace(path)


def _link(neighbour: Path, path: Path) -> None:
    try:
        os.link(neighbour, path)
    except FileExistsError:
        # Linked, and asked again by a client that missed the answer.
        if neighbour.stat().st_nlink < 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        neighbour.replace(path)
        return
    with contextlib.suppress(OSError):
        neighbour.unlink()


def _sync_folder(folder: Path) -> None:
    # Some network file systems refuse to sync a folder; the content itself is on the disk by now.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _holds(path: Path, content: bytes) -> bool:
    try:
        if path.is_symlink() or path.stat().st_size != len(content):
            return False
        with path.open("rb") as stream:
            start = 0
            while chunk := stream.read(_CHUNK):
                if chunk != content[start : start + len(chunk)]:
                    return False
                start += len(chunk)
        return start == len(content)
    except OSError as error:
        if error.errno in {*_PASSING, errno.EACCES, errno.EPERM}:
            return False
        raise


def _explained(path: Path, error: OSError) -> ClipMusedError:
    why = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return OutputWriteError(
            f"{path}: {why}; the file was not written.",
            hint="free space (df -h) or raise the quota, then run the same command again: finished work is reused",
        )
    if error.errno in _NOT_ALLOWED:
        return CannotCreateError(
            f"{path}: {why}.",
            hint="OUTPUT_DIR must be writable; in a container bind it without :ro, e.g. -B /path/to/out:/out",
        )
    if error.errno in _WRONG_PLACE:
        return CannotCreateError(
            f"{path}: {why}.", hint="choose another OUTPUT_DIR, or move what is in the way"
        )
    return OutputWriteError(
        f"{path}: {why}; the file was not written.", hint="check the disk, then run again"
    )
