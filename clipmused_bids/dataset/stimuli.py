"""From the names in events files to image files, never outside the folders of stimuli."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipmused_bids.dataset.catalogue import StimulusTable, read_stimuli_table
from clipmused_bids.dataset.contents import is_fetched
from clipmused_bids.dataset.stimulus_columns import IMAGE_EXTENSIONS, MOVIE_EXTENSIONS
from clipmused_bids.dataset.stimulus_names import (
    base_name,
    escapes,
    is_absolute,
    normalised,
    without_extension,
)
from clipmused_bids.errors import DataError, MissingInputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved:
    """Image files of stimuli.

    Parameters
    ----------
    names : tuple of str
        As given, each once.
    path : tuple of (Path or None)
        File of each name; None where none can be used.
    reason : tuple of str
        How it was found, or why there is none.
    roots : tuple of Path
        Folders that were searched.
    """

    names: tuple[str, ...]
    path: tuple[Path | None, ...]
    reason: tuple[str, ...]
    roots: tuple[Path, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names without a file."""
        return tuple(name for name, path in zip(self.names, self.path, strict=True) if path is None)

    @property
    def coverage(self) -> float:
        """Share of the names that have a file; 0 where there are no names."""
        return (len(self.names) - len(self.missing)) / len(self.names) if self.names else 0.0

    def path_of(self, name: str) -> Path | None:
        """File of one name."""
        return self.path[self.names.index(name)]


@dataclass(frozen=True)
class _Index:
    """Files below one root, by four ways of writing them; values are paths relative to the root."""

    root: Path
    exact: frozenset[str]
    lowered: dict[str, list[str]]
    base: dict[str, list[str]]
    stem: dict[str, list[str]]


def resolve_stimuli(names: Sequence[str], *, bids_dir: Path, stimuli_dirs: Sequence[str]) -> Resolved:
    """Find the image file of each stimulus.

    Searched are ``<bids_dir>/stimuli`` and each of ``stimuli_dirs``, in this order. A name matches exactly; else
    normalised (backslashes, leading ``./``, ``/``, ``stimuli/``); in other case; with an image extension added; as a
    base name that is unique below a root; as ``stim-<id>[_part-<label>]_image.*``. A ``filename`` in
    ``stimuli/stimuli.tsv`` goes before the name itself. Names with ``..``, absolute names that are no file below a
    root, and links that leave a root (other than into an annex) are refused: they get no path.

    Parameters
    ----------
    names : sequence of str
        Stimulus ids as the events name them; duplicates are looked up once.
    bids_dir : Path
    stimuli_dirs : sequence of str
        ``--stimuli-dir``.

    Raises
    ------
    MissingInputError
        If a folder of ``stimuli_dirs`` does not exist.
    DataError
        If a base name stands for several files.
    """
    own = Path(bids_dir) / "stimuli"
    roots = ([own] if own.is_dir() else []) + [Path(text) for text in stimuli_dirs]
    for root in roots:
        if not root.is_dir():
            raise MissingInputError(f"--stimuli-dir {root}: no such folder.")
    indexes = [_index(root) for root in roots]
    table = read_stimuli_table(Path(bids_dir))
    unique = tuple(dict.fromkeys(names))
    found = [_resolve(name, indexes, table) for name in unique]
    resolved = Resolved(
        unique, tuple(path for path, _ in found), tuple(why for _, why in found), tuple(roots)
    )
    _log(resolved)
    return resolved


def _log(resolved: Resolved) -> None:
    missing = resolved.missing
    if missing and resolved.roots:
        shown = ", ".join(f"{name} ({resolved.reason[resolved.names.index(name)]})" for name in missing[:5])
        logger.warning("%d of %d stimuli have no image file: %s.", len(missing), len(resolved.names), shown)


def _resolve(name: str, indexes: Sequence[_Index], table: StimulusTable | None) -> tuple[Path | None, str]:
    listed = table.value(name, "filename") if table is not None else None
    for candidate in (listed, name):
        if candidate is None:
            continue
        if escapes(candidate):
            return None, "refused: the name leads out of the folder of stimuli"
        match = _match(candidate, indexes)
        if match is not None:
            return _usable(*match)
    if is_absolute(name):
        return None, "refused: an absolute path"
    return None, "not found"


def _match(name: str, indexes: Sequence[_Index]) -> tuple[_Index, str, str] | None:
    path = normalised(name)
    for how, key in (("exact", name), ("normalised", path)):
        for index in indexes:
            if key in index.exact:
                return index, key, how
    for how, table, keys in _searches(name, path, indexes):
        for index in indexes:
            hits = sorted({hit for key in keys for hit in getattr(index, table).get(key.lower(), ())})
            if hits:
                return index, _only(name, hits, index), how
    return None


def _searches(
    name: str, path: str, indexes: Sequence[_Index]
) -> list[tuple[str, Literal["lowered", "base", "stem"], list[str]]]:
    searches: list[tuple[str, Literal["lowered", "base", "stem"], list[str]]]
    searches = [
        ("other case", "lowered", [path]),
        ("extension added", "lowered", [path + e for e in IMAGE_EXTENSIONS]),
    ]
    # An absolute path may name a file below a root, but its base name alone proves nothing.
    if not is_absolute(name):
        base = base_name(path)
        searches += [("base name", "base", [base]), ("base name, extension added", "stem", [base])]
        searches += [("stim-<id>_image", "stem", [f"stim-{base.removeprefix('stim-')}_image"])]
        searches += [("stim-<id>_part-<label>_image", "stem", _parts(base, indexes))]
    return searches


def _parts(base: str, indexes: Sequence[_Index]) -> list[str]:
    start = f"stim-{base.removeprefix('stim-')}_part-".lower()
    return [
        stem for index in indexes for stem in index.stem if stem.startswith(start) and stem.endswith("_image")
    ]


def _only(name: str, hits: Sequence[str], index: _Index) -> str:
    if len(hits) > 1:
        raise DataError(
            f"Stimulus {name} may be any of {', '.join(str(index.root / hit) for hit in hits[:4])}.",
            hint="name stimuli with their folders in the events, or keep one of these files",
        )
    return hits[0]


def _usable(index: _Index, relative: str, how: str) -> tuple[Path | None, str]:
    path = index.root / relative
    if _link_escapes(path, index.root):
        return None, "refused: a link that leads out of the folder of stimuli"
    if not path.name.lower().endswith(IMAGE_EXTENSIONS + MOVIE_EXTENSIONS):
        return None, f"neither an image nor a movie ({path.suffix or 'no extension'})"
    if not is_fetched(path):
        return None, f"not fetched: datalad get {path}"
    return path, how


def _link_escapes(path: Path, root: Path) -> bool:
    if not path.is_symlink():
        return False
    # Only for this check; names stay as they are written.
    target, top = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    into_annex = "annex" in target.parts and "objects" in target.parts
    return not (into_annex or target.is_relative_to(top))


def _index(root: Path) -> _Index:
    exact: set[str] = set()
    lowered: dict[str, list[str]] = defaultdict(list)
    base: dict[str, list[str]] = defaultdict(list)
    stem: dict[str, list[str]] = defaultdict(list)
    for relative in _files(root):
        exact.add(relative)
        lowered[relative.lower()].append(relative)
        name = base_name(relative).lower()
        base[name].append(relative)
        stem[without_extension(name)].append(relative)
    return _Index(root, frozenset(exact), dict(lowered), dict(base), dict(stem))


def _files(root: Path) -> Iterator[str]:
    # Links to folders are not followed: they may lead anywhere.
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        for name in sorted(files):
            if not name.startswith("."):
                yield (relative / name).as_posix()
