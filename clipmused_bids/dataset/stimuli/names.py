"""How one stimulus is written in different places: paths, bare names, ids."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import translate
from pathlib import PurePosixPath

from clipmused_bids.dataset.events.stimulus_columns import IMAGE_EXTENSIONS, MOVIE_EXTENSIONS

_WHOLE = re.compile(r"([0-9]+)\.0+")
_GLOB = re.compile(r"[*?\[]")


def without_fraction(name: str) -> str:
    """Number of a stimulus without the ``.0`` that programs add to whole numbers; any other name as it is.

    Examples
    --------
    >>> without_fraction("46003.0"), without_fraction("3626115.019498")
    ('46003', '3626115.019498')
    """
    match = _WHOLE.fullmatch(name)
    return match[1] if match else name


def normalised(name: str) -> str:
    r"""Path of a stimulus below its root: forward slashes, without leading ``./``, ``/`` and ``stimuli/``.

    Examples
    --------
    >>> normalised(r"stimuli\carousel\carousel_11s.jpg")
    'carousel/carousel_11s.jpg'
    """
    path = re.sub(r"/+", "/", name.replace("\\", "/"))
    while True:
        shorter = re.sub(r"^(?:\./|/|stimuli/)", "", path)
        if shorter == path:
            return path
        path = shorter


def base_name(name: str) -> str:
    """Last part of a path, whichever slashes it is written with."""
    return name.replace("\\", "/").rpartition("/")[2]


def without_extension(name: str) -> str:
    """Name without the extension of an image or a movie (other dots are part of the name)."""
    lowered = name.lower()
    extensions = IMAGE_EXTENSIONS + MOVIE_EXTENSIONS
    extension = next((ending for ending in extensions if lowered.endswith(ending)), "")
    return name[: len(name) - len(extension)]


def spellings(name: str) -> tuple[str, ...]:
    """Ways to write a stimulus that a glob may be meant for: given, normalised, base name; without extension."""
    path = normalised(name)
    base = base_name(path)
    ways = [name, path, without_extension(path), base, without_extension(base)]
    return tuple(dict.fromkeys(ways))


class KeyIndex:
    """Finds the rows of a table that speak about a stimulus, however its key is written.

    A key is the stimulus if both are equal; or if they are after dropping extensions, ``stim-`` and ``.0`` of numbers,
    and one path is the end of the other (``n03131574/x.JPEG`` and ``imagenet/n03131574/x``). ``cat/01.jpg`` is not
    ``dog/01.jpg``, and a bare ``01.jpg`` that may be either is neither.

    Parameters
    ----------
    keys : iterable of str
        Key of each row.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._by_last: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, key in enumerate(keys):
            self._exact[key].append(row)
            parts = _parts(key)
            self._by_last[parts[-1]][parts].append(row)

    def rows_of(self, stimulus: str) -> list[int]:
        """Rows of a stimulus; none if no key, or more than one, may be meant."""
        if stimulus in self._exact:
            return self._exact[stimulus]
        parts = _parts(stimulus)
        same_last = self._by_last.get(parts[-1], {})
        if parts in same_last:
            return same_last[parts]
        fitting = [rows for path, rows in same_last.items() if _one_ends_other(path, parts)]
        return fitting[0] if len(fitting) == 1 else []


class GlobIndex:
    """Finds the rows of a table whose key is a glob that a stimulus matches.

    Globs are kept by what stands before their first special character, so that a stimulus is held against few of
    them: thousands of ``dog/*`` cost no more than one.

    Parameters
    ----------
    keys : iterable of str
        Key of each row; those without ``*``, ``?`` and ``[`` are no globs.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._by_start: dict[str, list[tuple[int, re.Pattern[str]]]] = defaultdict(list)
        for row, key in enumerate(keys):
            special = _GLOB.search(key)
            if special is not None:
                self._by_start[key[: special.start()]].append((row, re.compile(translate(key))))
        self._lengths = sorted({len(start) for start in self._by_start})

    def rows_of(self, stimulus: str) -> list[int]:
        """Rows whose glob matches one of the ways to write the stimulus, in order."""
        if not self._lengths:
            return []
        return sorted({row for way in spellings(stimulus) for row in self._matching(way)})

    def _matching(self, name: str) -> list[int]:
        starts = [name[:length] for length in self._lengths if length <= len(name)]
        return [
            row
            for start in starts
            for row, pattern in self._by_start.get(start, ())
            if pattern.match(name) is not None
        ]


def _parts(name: str) -> tuple[str, ...]:
    *folders, last = without_extension(normalised(without_fraction(name))).split("/")
    return (*folders, last.removeprefix("stim-"))


def _one_ends_other(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]


def coco_id(name: str) -> int | None:
    """COCO image id in a name (``COCO_train2014_000000420713.jpg``, ``000000124419``, ``124419.0``), else None."""
    stem = without_fraction(without_extension(base_name(name)).removeprefix("stim-"))
    match = re.fullmatch(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{1,12})", stem)
    return int(match[1]) if match else None


def escapes(name: str) -> bool:
    """Whether a name leads out of the folder it is looked for in: a ``..`` part or a drive."""
    path = PurePosixPath(name.replace("\\", "/"))
    return ".." in path.parts or bool(re.match(r"^[A-Za-z]:", name))


def is_absolute(name: str) -> bool:
    """Whether a name starts at the root of a file system."""
    return name.startswith(("/", "\\")) or bool(re.match(r"^[A-Za-z]:", name))
