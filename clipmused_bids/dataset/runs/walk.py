"""The part of a tree that was asked for: ``sub-X/[ses-Y/]func`` of some participants, and the folders above them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmused_bids.dataset.runs.names import BidsName, parse_name, run_index
from clipmused_bids.errors import MissingInputError


@dataclass(frozen=True)
class BidsFile:
    """A file of a dataset, with its parsed name; its content has not been read."""

    path: Path
    root: Path
    name: BidsName

    @property
    def entities(self) -> Mapping[str, str]:
        """Entities of the file's name."""
        return self.name.entities

    @property
    def depth(self) -> int:
        """Number of folders between the dataset's root and the file."""
        return len(self.path.parts) - len(self.root.parts)

    def uri(self, dataset: str) -> str:
        """BIDS URI of the file in a dataset of that name."""
        return f"bids:{dataset}:{self.path.relative_to(self.root).as_posix()}"


class Folders:
    """Names of the files in the folders of a request; each folder is listed once, when it is first asked for."""

    def __init__(self) -> None:
        self._names: dict[Path, Sequence[str]] = {}

    def names(self, folder: Path) -> Sequence[str]:
        """Names in a folder, sorted, without dot-files; none where there is no such folder."""
        if folder not in self._names:
            self._names[folder] = _listed(folder)
        return self._names[folder]

    def sessions(self, root: Path, participant: str) -> tuple[Path, ...]:
        """Folder of one participant and those of all sessions in it."""
        own = root / f"sub-{participant}"
        return (own, *(own / name for name in self.names(own) if name.startswith("ses-")))

    def func(self, root: Path, participant: str) -> tuple[Path, ...]:
        """``func`` folders of one participant, of all sessions; empty where there are none."""
        sessions = self.sessions(root, participant)
        return tuple(folder / "func" for folder in sessions if "func" in self.names(folder))


def functional_files(
    root: Path, participant: str, *, accept: Callable[[str], bool], folders: Folders
) -> tuple[BidsFile, ...]:
    """Files in a participant's ``func`` folders whose file name is accepted; dot-files and ``._*`` never are."""
    return tuple(
        file
        for folder in folders.func(root, participant)
        for file in list_folder(folder, root, accept=accept, folders=folders)
    )


def inherited_files(
    root: Path, participant: str, *, accept: Callable[[str], bool], folders: Folders
) -> tuple[BidsFile, ...]:
    """Files in the folders above ``func``, which serve everything below them (inheritance principle)."""
    own = root / f"sub-{participant}"
    sessions = [folder.parent for folder in folders.func(root, participant) if folder.parent != own]
    return tuple(
        file
        for folder in [root, own, *sessions]
        for file in list_folder(folder, root, accept=accept, folders=folders)
    )


class FileIndex:
    """Files by their entities: those that serve a target are found without a comparison with every file.

    Parameters
    ----------
    files : iterable of BidsFile
    ignore : iterable of str
        Entities that need not be those of a target.
    """

    def __init__(self, files: Iterable[BidsFile], *, ignore: Iterable[str] = ()) -> None:
        self._by_names: dict[tuple[str, ...], dict[tuple[str | int, ...], list[tuple[int, BidsFile]]]] = {}
        for place, file in enumerate(files):
            entities = {key: label for key, label in _comparable(file.entities).items() if key not in ignore}
            same_names = self._by_names.setdefault(tuple(entities), defaultdict(list))
            same_names[tuple(entities.values())].append((place, file))

    def serving(self, entities: Mapping[str, str]) -> list[BidsFile]:
        """Files all of whose entities are those of a target, in order; run labels are compared as numbers."""
        wanted = _comparable(entities)
        found = [
            hit
            for names, by_labels in self._by_names.items()
            if all(name in wanted for name in names)
            for hit in by_labels.get(tuple(wanted[name] for name in names), ())
        ]
        return [file for _, file in sorted(found, key=lambda hit: hit[0])]


def most_specific(serving: Iterable[BidsFile]) -> BidsFile | None:
    """The file with the most entities among those that serve a target, the deepest of equals; None for none."""
    return max(serving, key=lambda file: (len(file.entities), file.depth), default=None)


def _comparable(entities: Mapping[str, str]) -> dict[str, str | int]:
    """Labels, the run's as a number, so that ``run-01`` and ``run-1`` are one run."""
    labels: dict[str, str | int] = dict(entities)
    index = run_index(entities.get("run"))
    return labels if index is None else labels | {"run": index}


def list_folder(
    folder: Path, root: Path, *, accept: Callable[[str], bool], folders: Folders
) -> Iterator[BidsFile]:
    """Accepted files of one folder, by name."""
    for name in folders.names(folder):
        if accept(name):
            yield BidsFile(folder / name, root, parse_name(name))


def _listed(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise MissingInputError(
            f"{folder}: the folder cannot be listed ({error.strerror}).", hint="chmod +rx, or ask its owner"
        ) from error
