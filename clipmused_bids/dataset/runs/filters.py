"""``--bids-filter-file``: which entities files must have, by kind of file, as fMRIPrep and pybids take it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.runs.names import ENTITY_NAMES, strip_prefix
from clipmused_bids.dataset.runs.walk import BidsFile
from clipmused_bids.errors import ClipMusedError, SelectionError, UsageError
from clipmused_bids.records import RUN_ENTITIES

logger = logging.getLogger(__name__)

KINDS = ("bold", "betas", "events", "mask", "confounds")
_FILE_PARTS = ("suffix", "extension", "datatype")
_ANY, _NONE, _OPTIONAL = "any", "none", "optional"
_QUERIES = {
    "*": _ANY,
    "Query.ANY": _ANY,
    "Query.REQUIRED": _ANY,
    "Query.NONE": _NONE,
    "Query.OPTIONAL": _OPTIONAL,
}

# What one entity may be: a query, or labels; numbers stand for labels with any zeros before them.
_Wanted = str | tuple[str | int, ...]


class FileFilters:
    """Entities that files must have, and a record of what they kept out.

    Parameters
    ----------
    wanted : mapping of str to mapping
        By kind of file and short name of the entity.
    name : str
        Of the file they were read from, for messages.
    """

    def __init__(self, wanted: Mapping[str, Mapping[str, _Wanted]], *, name: str = "") -> None:
        self._wanted = wanted
        self._name = name
        self._removed: dict[str, set[str]] = defaultdict(set)

    def keep(self, kind: str, files: Iterable[BidsFile]) -> tuple[BidsFile, ...]:
        """Files of one kind that have the entities; the others are remembered."""
        wanted = self._wanted.get(kind, {})
        kept = []
        for file in files:
            if all(_fits(_part(file, key), value, key=key) for key, value in wanted.items()):
                kept.append(file)
            else:
                self._removed[f"{kind} file(s)"].add(str(file.path))
        return tuple(kept)

    def keeps_run(self, kind: str, entities: Mapping[str, str]) -> bool:
        """Whether a run has the entities by which its images are filtered; for runs whose images are not listed."""
        wanted = self._wanted.get(kind, {})
        fits = all(
            _fits(entities.get(key), value, key=key) for key, value in wanted.items() if key in RUN_ENTITIES
        )
        if not fits:
            self._removed["run(s)"].add(" ".join(f"{key}-{label}" for key, label in entities.items()))
        return fits

    @property
    def removed(self) -> str:
        """What was kept out, in words; "" for nothing."""
        return ", ".join(f"{len(names)} {what}" for what, names in sorted(self._removed.items()))

    def say(self) -> None:
        """Log what was kept out."""
        if self._removed:
            logger.info("--bids-filter-file %s leaves out %s.", self._name, self.removed)

    def nothing_left(self, error: ClipMusedError) -> ClipMusedError:
        """Turn the error of an empty request into one that says what the filters kept out, if they did."""
        if not self._removed:
            return error
        return SelectionError(
            f"--bids-filter-file {self._name} leaves nothing: it keeps out {self.removed}. {error.args[0]}",
            hint="entities are compared with those in the files' names; null stands for an entity that must be absent",
        )


def read_filters(path: str | None) -> FileFilters:
    """Read a filter file; None keeps every file.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    DataError
        If it is not JSON.
    UsageError
        If it names a kind of file or an entity that does not exist, or a value has no meaning; lists the known.
    """
    if path is None:
        return FileFilters({})
    content = read_json(Path(path))
    for kind, entities in content.items():
        if kind not in KINDS:
            raise UsageError(
                f"--bids-filter-file {path}: unknown kind of file {kind}.",
                hint=f"kinds are {', '.join(KINDS)}",
            )
        if not isinstance(entities, dict):
            raise UsageError(
                f"--bids-filter-file {path}: {kind} must be an object of entities.",
                hint='for example {"bold": {"session": "01", "acquisition": null}}',
            )
    wanted = {
        kind: {_short(key, path=path): _value(value, key=key, path=path) for key, value in entities.items()}
        for kind, entities in content.items()
    }
    return FileFilters(wanted, name=Path(path).name)


def _short(entity: str, *, path: str) -> str:
    if entity in ENTITY_NAMES.values() or entity in _FILE_PARTS:
        return entity
    if entity not in ENTITY_NAMES:
        raise UsageError(
            f"--bids-filter-file {path}: unknown entity {entity}.",
            hint=f"entities are {', '.join([*ENTITY_NAMES, *_FILE_PARTS])}",
        )
    return ENTITY_NAMES[entity]


def _value(value: Any, *, key: str, path: str) -> _Wanted:
    if value is None:
        return _NONE
    if isinstance(value, str) and value in _QUERIES:
        return _QUERIES[value]
    values = value if isinstance(value, list) else [value]
    plain = [one for one in values if isinstance(one, str | int) and not isinstance(one, bool)]
    if not values or len(plain) < len(values) or any(str(one).startswith("Query.") for one in plain):
        raise UsageError(
            f"--bids-filter-file {path}: {key} = {value!r} has no meaning.",
            hint="a label, a number, a list of them, null (must be absent), "
            f"or {', '.join(query for query in _QUERIES)}",
        )
    return tuple(plain)


def _part(file: BidsFile, key: str) -> str | None:
    if key == "suffix":
        # Names before fMRIPrep 1.2 end in preproc where later ones end in bold.
        return "bold" if file.name.suffix == "preproc" else file.name.suffix
    if key == "extension":
        return file.name.extension
    if key == "datatype":
        return "func"  # other folders are not listed
    return file.entities.get(key)


def _fits(label: str | None, wanted: _Wanted, *, key: str) -> bool:
    if isinstance(wanted, str):
        return wanted == _OPTIONAL or (label is None) == (wanted == _NONE)
    return label is not None and any(_equal(label, one, key=key) for one in wanted)


def _equal(label: str, wanted: str | int, *, key: str) -> bool:
    numbers = isinstance(wanted, int) or (key in {"run", "echo"} and wanted.isdecimal())
    if numbers and label.isdecimal():
        return int(label) == int(wanted)
    text = strip_prefix(str(wanted), key)
    return label == text or (key == "extension" and label == f".{text}")
