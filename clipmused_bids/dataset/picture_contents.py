"""What a picture is, whatever it is called: the key under which its features are stored and copies are found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

from clipmused_bids.dataset.contents import content_hash
from clipmused_bids.records import Picture

_MOVIE_DIGITS, _TIME_DIGITS = 16, 12


def content_keys(pictures: Sequence[Picture | None]) -> tuple[str, ...]:
    """Key of each picture's content, 64 hexadecimal digits; "" where there is no picture.

    Of a file of its own the SHA-256. Of a frame the first 16 digits of the movie's SHA-256, the time in ms in 12, and
    36 of the SHA-256 of both: sorted keys are frames in the order of time, so that groups of them are read in one pass.
    Every movie is hashed once.

    Raises
    ------
    MissingInputError
        If a file is not there or was not fetched.
    """
    hashed = cache(content_hash)
    return tuple("" if picture is None else _key(picture, hashed(picture.path)) for picture in pictures)


def _key(picture: Picture, file_hash: str) -> str:
    if picture.seconds is None:
        return file_hash
    milliseconds = round(picture.seconds * 1000)
    rest = hashlib.sha256(f"{file_hash}@{milliseconds}".encode()).hexdigest()
    head = f"{file_hash[:_MOVIE_DIGITS]}{milliseconds:0{_TIME_DIGITS}x}"
    return head + rest[len(head) :]
