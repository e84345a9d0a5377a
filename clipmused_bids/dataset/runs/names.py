"""BIDS file names: entities, labels, order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

# Pieces of names that are remembered; a dataset of thousands of files has a few hundred.
NIFTI = (".nii", ".nii.gz")
_REMEMBERED = 65536
# pybids spells entities out; file names do not.
ENTITY_NAMES = {
    "subject": "sub", "session": "ses", "task": "task", "acquisition": "acq", "ceagent": "ce",
    "reconstruction": "rec", "direction": "dir", "run": "run", "echo": "echo", "part": "part", "hemi": "hemi",
    "space": "space", "cohort": "cohort", "res": "res", "den": "den", "label": "label", "desc": "desc",
}  # fmt: skip
_ORDER = tuple(ENTITY_NAMES.values())


@dataclass(frozen=True)
class BidsName:
    """One parsed file name.

    Parameters
    ----------
    entities : mapping of str to str
        Short entity names and their labels as written (``{"sub": "01", "run": "01"}``), in order of the name.
    suffix, extension : str
        ``bold`` and ``.nii.gz``; "" where there is none.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str


def parse_name(path: Path | str) -> BidsName:
    """Parse the entities of a file name with pybids; entities it does not know are kept as well.

    Only the name counts, not the folders. fMRIPrep names before 1.2 (``..._bold_space-X_preproc.nii.gz``) have
    the suffix ``preproc``.
    """
    stem, dot, extension = str(path).rpartition("/")[2].partition(".")
    pieces = stem.split("_")
    entities: dict[str, str] = {}
    for key, label in filter(None, map(_entity, pieces)):
        entities.setdefault(key, label)
    suffix = "" if "-" in pieces[-1] else pieces[-1]
    return BidsName(entities, suffix, dot + extension)


def entities_of(path: Path | str) -> dict[str, str]:
    """Entities of a file name by their short names, labels as written (``run-01`` stays ``"01"``)."""
    return dict(parse_name(path).entities)


def file_stem(entities: Mapping[str, str], *, desc: str | None, suffix: str) -> str:
    """Join entities in BIDS order: ``sub-01_ses-a_task-x_run-1_space-T1w_desc-lss_responses``.

    Parameters
    ----------
    entities : mapping
        Short entity names and labels. Names BIDS does not know keep their order and stand before ``desc``.
    desc : str or None
        Replaces a ``desc`` among the entities; None for a name without one.
    suffix : str
    """
    rest = {key: label for key, label in entities.items() if key != "desc"}
    ordered = [key for key in _ORDER if key in rest] + [key for key in rest if key not in _ORDER]
    parts = [f"{key}-{rest[key]}" for key in ordered]
    if desc is not None:
        parts.append(f"desc-{desc}")
    return "_".join([*parts, suffix])


def strip_prefix(label: str, prefix: str) -> str:
    """Remove ``sub-`` (or another entity's name) from a label: ``sub-01`` and ``01`` are the same."""
    return label.strip().removeprefix(f"{prefix}-")


def expand_labels(values: Iterable[str], *, prefix: str) -> tuple[str, ...]:
    """Labels without prefix; a value that is a file's path stands for the labels in it, one a line."""
    labels: list[str] = []
    for value in values:
        path = Path(value)
        lines = path.read_text("utf-8-sig").splitlines() if path.is_file() else [value]
        labels += [strip_prefix(line, prefix) for line in lines if line.strip() and not line.startswith("#")]
    return tuple(dict.fromkeys(labels))


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``run-2`` comes before ``run-10``."""
    pieces = re.findall(r"\d+|\D+", text)
    return tuple((0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces)


def run_index(label: str | None) -> int | None:
    """Run label as an integer, so that ``01`` and ``1`` are one run; None for no label or one without digits."""
    return int(label) if label is not None and label.isdecimal() else None


def is_nifti(name: str) -> bool:
    """Whether a file is a NIfTI image by the end of its name."""
    return name.endswith(NIFTI)


@lru_cache(maxsize=_REMEMBERED)
def _entity(piece: str) -> tuple[str, str] | None:
    """Entity and label of one piece of a name (``run-01``); None for a piece without a label.

    pybids reads each piece once: its patterns look at one entity each, and names share most of their pieces.
    """
    from bids.layout import parse_file_entities

    key, dash, label = piece.partition("-")
    if not dash or not key:
        return None
    alone = f"/{piece}" if key == "sub" else f"/_{piece}"
    known: dict[str, Any] = parse_file_entities(alone, config=list(_configs()))
    found = {ENTITY_NAMES[name]: str(value) for name, value in known.items() if name in ENTITY_NAMES}
    return key, found.get(key, label)


@cache
def _configs() -> tuple[Any, ...]:
    from bids.layout import Config

    return tuple(Config.load(name) for name in ("bids", "derivatives"))
