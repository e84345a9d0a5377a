"""What a picture is, whatever it is called: the key under which its features are stored and copies are found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from clipmused_bids.dataset.files.contents import content_hash
from clipmused_bids.dataset.files.reading_ahead import ReadAhead
from clipmused_bids.dataset.stimuli.banks import row_hashes
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.long_work import long_work
from clipmused_bids.records import Picture

_MOVIE_DIGITS, _TIME_DIGITS = 16, 12
# Files that are opened at a time: more than there are cores, since storage over a network answers late.
_FILES_AT_ONCE = 8
# Files of a job: handing over a job takes longer than hashing one small file.
_FILES_OF_A_JOB = 32


def content_keys(pictures: Sequence[Picture | None]) -> tuple[str | ClipMusedError, ...]:
    """Key of each picture's content, the same for the same content wherever it lies.

    Of a file of its own the SHA-256 of its bytes; of a row of a bank that of its pixels. Of a frame the first 16 digits
    of the movie's SHA-256, the time in ms in 12, and 36 of the SHA-256 of both: sorted keys are frames in the order of
    time, so that groups of them are read in one pass. Every file is hashed once, several at a time.

    Returns
    -------
    tuple of (str or ClipMusedError)
        64 hexadecimal digits; "" where there is no picture; the error where the content cannot be read.
    """
    found = [picture for picture in pictures if picture is not None]
    rows = _keys_of_rows(found)
    hashed = _hashes_of_files(picture.path for picture in found if picture not in rows)
    return tuple(
        "" if picture is None else rows.get(picture) or _key(picture, hashed[picture.path])
        for picture in pictures
    )


def _hashes_of_files(paths: Iterable[Path]) -> dict[Path, str | ClipMusedError]:
    once = tuple(dict.fromkeys(paths))
    parts = (once[k : k + _FILES_OF_A_JOB] for k in range(0, len(once), _FILES_OF_A_JOB))
    jobs = (partial(_hashes_of, part) for part in parts)
    found: list[str | ClipMusedError] = []
    with (
        long_work("Reading pictures to tell equal ones", len(once), "file") as work,
        ReadAhead(jobs, n_threads=_FILES_AT_ONCE, ahead=2 * _FILES_AT_ONCE) as hashes,
    ):
        for part in hashes:
            found += part
            work.advance(len(part))
    return dict(zip(once, found, strict=True))


def _hashes_of(paths: Sequence[Path]) -> list[str | ClipMusedError]:
    return [_hash_of_file(path) for path in paths]


def _hash_of_file(path: Path) -> str | ClipMusedError:
    try:
        return content_hash(path)
    except ClipMusedError as error:
        return error


def _key(picture: Picture, file_hash: str | ClipMusedError) -> str | ClipMusedError:
    if picture.seconds is None or isinstance(file_hash, ClipMusedError):
        return file_hash
    milliseconds = round(picture.seconds * 1000)
    rest = hashlib.sha256(f"{file_hash}@{milliseconds}".encode()).hexdigest()
    head = f"{file_hash[:_MOVIE_DIGITS]}{milliseconds:0{_TIME_DIGITS}x}"
    return head + rest[len(head) :]


def _keys_of_rows(pictures: Sequence[Picture]) -> dict[Picture, str | ClipMusedError]:
    """Keys of the pictures that are rows of banks; each bank is opened once."""
    banks: dict[tuple[Path, str], dict[int, Picture]] = {}
    for picture in pictures:
        if picture.dataset is not None and picture.row is not None:
            banks.setdefault((picture.path, picture.dataset), {})[picture.row] = picture
    found: dict[Picture, str | ClipMusedError] = {}
    for (path, dataset), rows in banks.items():
        hashes = row_hashes(path, dataset, list(rows))
        found |= {rows[row]: key for row, key in hashes.items()}
    return found
