"""From the names in events files to pictures: image files below the folders of stimuli, or rows of image banks."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from clipmused_bids.config import hdf5_place
from clipmused_bids.dataset.events.stimulus_columns import IMAGE_EXTENSIONS, MOVIE_EXTENSIONS
from clipmused_bids.dataset.files.contents import is_fetched
from clipmused_bids.dataset.stimuli.banks import ImageBank, open_bank
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable
from clipmused_bids.dataset.stimuli.names import (
    base_name,
    escapes,
    is_absolute,
    normalised,
    without_extension,
    without_fraction,
)
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Picture

_PART = re.compile(r"(stim-.+?)_part-.+_image")


@dataclass(frozen=True)
class Resolved:
    """Pictures of stimuli.

    Parameters
    ----------
    names : tuple of str
        As given, each once.
    picture : tuple of (Picture or None)
        Picture of each name; None where none can be used.
    reason : tuple of str
        How it was found, or why there is none.
    places : tuple of str
        Folders and banks that were searched.
    """

    names: tuple[str, ...]
    picture: tuple[Picture | None, ...]
    reason: tuple[str, ...]
    places: tuple[str, ...]

    @cached_property
    def missing(self) -> dict[str, str]:
        """Names without a picture, and why."""
        found = zip(self.names, self.picture, self.reason, strict=True)
        return {name: why for name, picture, why in found if picture is None}

    @property
    def coverage(self) -> float:
        """Share of the names that have a picture; 0 where there are no names."""
        return (len(self.names) - len(self.missing)) / len(self.names) if self.names else 0.0


@dataclass(frozen=True)
class _Index:
    """Files below one root, by the ways of writing them; values are paths relative to the root."""

    root: Path
    real_root: Path
    exact: frozenset[str]
    lowered: dict[str, list[str]]
    base: dict[str, list[str]]
    stem: dict[str, list[str]]
    part: dict[str, list[str]]


def resolve_stimuli(
    names: Sequence[str],
    *,
    bids_dir: Path,
    stimuli_dirs: Sequence[str],
    table: StimulusTable | None = None,
    index_base: int | None = None,
) -> Resolved:
    """Find the picture of each stimulus.

    Searched are ``<bids_dir>/stimuli`` and the folders of ``stimuli_dirs``, in this order. A name matches exactly; else
    normalised (backslashes, leading ``./``, ``/``, ``stimuli/``); in other case; with an image extension added; as a
    base name that is unique below a root; as ``stim-<id>[_part-<label>]_image.*``; else, as a whole number, the row of
    an image bank. A ``filename`` in ``table`` goes before the name itself. Names with ``..``, absolute names that are
    no file below a root, and links that leave a root (other than into an annex) are refused: they get no picture.

    Parameters
    ----------
    names : sequence of str
        Stimulus ids as the events name them; duplicates are looked up once.
    bids_dir : Path
    stimuli_dirs : sequence of str
        ``--stimuli-dir``: folders, and banks as ``FILE.hdf5:/dataset``.
    table : StimulusTable or None
        The stimuli's own table.
    index_base : {0, 1} or None
        ``--stimulus-index-base``; needed where there is a bank.

    Raises
    ------
    MissingInputError
        If a folder or bank of ``stimuli_dirs`` does not exist.
    UsageError, DataError
        As ``open_bank``; DataError also if a name stands for several files.
    """
    own = Path(bids_dir) / "stimuli"
    places = {text: hdf5_place(text) for text in stimuli_dirs}
    roots = [Path(text) for text, bank in places.items() if bank is None]
    for root in roots:
        if not root.is_dir():
            raise MissingInputError(f"--stimuli-dir {root}: no such folder.")
    roots = ([own] if own.is_dir() else []) + roots
    banks = [open_bank(Path(bank[0]), bank[1], first=index_base) for bank in places.values() if bank]
    indexes = [_index(root) for root in roots]
    unique = tuple(dict.fromkeys(names))
    found = [_resolve(name, indexes, banks, table) for name in unique]
    pictures, reasons = zip(*found, strict=True) if found else ((), ())
    searched = (*map(str, roots), *(f"{bank.path}:{bank.dataset}" for bank in banks))
    return Resolved(unique, pictures, reasons, searched)


def _resolve(
    name: str, indexes: Sequence[_Index], banks: Sequence[ImageBank], table: StimulusTable | None
) -> tuple[Picture | None, str]:
    listed = table.value(name, "filename") if table is not None else None
    why = "not found"
    for candidate in (listed, name):
        if candidate is None:
            continue
        if escapes(candidate):
            return None, "refused: the name leads out of the folder of stimuli"
        match = _match(candidate, indexes)
        if match is not None:
            return _usable(*match)
        for bank in banks:
            row, why = bank.row_of(candidate)
            if row is not None:
                return Picture(bank.path, bank.dataset, row), why
    if is_absolute(name):
        return None, "refused: an absolute path"
    return None, why


def _match(name: str, indexes: Sequence[_Index]) -> tuple[_Index, str, str] | None:
    path = normalised(name)
    for how, key in (("exact", name), ("normalised", path)):
        for index in indexes:
            if key in index.exact:
                return index, key, how
    for how, table, keys in _searches(name, path):
        for index in indexes:
            hits = sorted({hit for key in keys for hit in getattr(index, table).get(key.lower(), ())})
            if hits:
                return index, _only(name, hits, index), how
    return None


def _searches(
    name: str, path: str
) -> list[tuple[str, Literal["lowered", "base", "stem", "part"], list[str]]]:
    searches: list[tuple[str, Literal["lowered", "base", "stem", "part"], list[str]]]
    searches = [
        ("other case", "lowered", [path]),
        ("extension added", "lowered", [path + e for e in IMAGE_EXTENSIONS]),
    ]
    # An absolute path may name a file below a root, but its base name alone proves nothing.
    if not is_absolute(name):
        base = base_name(path)
        searches += [("base name", "base", [base]), ("base name, extension added", "stem", [base])]
        stimulus = f"stim-{without_fraction(base).removeprefix('stim-')}"
        searches += [("stim-<id>_image", "stem", [f"{stimulus}_image"])]
        searches += [("stim-<id>_part-<label>_image", "part", [stimulus])]
    return searches


def _only(name: str, hits: Sequence[str], index: _Index) -> str:
    if len(hits) > 1:
        raise DataError(
            f"Stimulus {name} may be any of {', '.join(str(index.root / hit) for hit in hits[:4])}.",
            hint="name stimuli with their folders in the events, or keep one of these files",
        )
    return hits[0]


def _usable(index: _Index, relative: str, how: str) -> tuple[Picture | None, str]:
    path = index.root / relative
    if _link_escapes(path, index.real_root):
        return None, "refused: a link that leads out of the folder of stimuli"
    if not path.name.lower().endswith(IMAGE_EXTENSIONS + MOVIE_EXTENSIONS):
        return None, f"neither an image nor a movie ({path.suffix or 'no extension'})"
    if not is_fetched(path):
        return None, f"not fetched: datalad get {path}"
    return Picture(path), how


def _link_escapes(path: Path, real_root: Path) -> bool:
    if not path.is_symlink():
        return False
    # Only for this check; names stay as they are written.
    target = Path(os.path.realpath(path))
    into_annex = "annex" in target.parts and "objects" in target.parts
    return not (into_annex or target.is_relative_to(real_root))


def _index(root: Path) -> _Index:
    exact: set[str] = set()
    lowered: dict[str, list[str]] = defaultdict(list)
    base: dict[str, list[str]] = defaultdict(list)
    stem: dict[str, list[str]] = defaultdict(list)
    part: dict[str, list[str]] = defaultdict(list)
    for relative in _files(root):
        exact.add(relative)
        lowered[relative.lower()].append(relative)
        name = base_name(relative).lower()
        base[name].append(relative)
        plain = without_extension(name)
        stem[plain].append(relative)
        parts = _PART.fullmatch(plain)
        if parts is not None:
            part[parts[1]].append(relative)
    # Only to judge links by; names stay as they are written.
    real_root = Path(os.path.realpath(root))
    return _Index(root, real_root, frozenset(exact), dict(lowered), dict(base), dict(stem), dict(part))


def _files(root: Path) -> Iterator[str]:
    # Links to folders are not followed: they may lead anywhere.
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        for name in sorted(files):
            if not name.startswith("."):
                yield (relative / name).as_posix()
