"""The part of a tree that was asked for: ``sub-X/[ses-Y/]func`` of some participants, and the folders above them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipmused_bids.dataset.names import BidsName, parse_name, run_index


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
        return len(self.path.relative_to(self.root).parts)

    def uri(self, dataset: str) -> str:
        """BIDS URI of the file in a dataset of that name."""
        return f"bids:{dataset}:{self.path.relative_to(self.root).as_posix()}"


def session_folders(root: Path, participant: str) -> tuple[Path, ...]:
    """Folder of one participant and those of all sessions in it."""
    own = root / f"sub-{participant}"
    return (own, *(own / name for name in _names(own) if name.startswith("ses-")))


def func_folders(root: Path, participant: str) -> tuple[Path, ...]:
    """``func`` folders of one participant, of all sessions; empty where there are none."""
    folders = session_folders(root, participant)
    return tuple(folder / "func" for folder in folders if (folder / "func").is_dir())


def functional_files(root: Path, participant: str, *, accept: Callable[[str], bool]) -> tuple[BidsFile, ...]:
    """Files in a participant's ``func`` folders whose file name is accepted; dot-files and ``._*`` never are."""
    return tuple(
        file
        for folder in func_folders(root, participant)
        for file in list_folder(folder, root, accept=accept)
    )


def inherited_files(root: Path, participant: str, *, accept: Callable[[str], bool]) -> tuple[BidsFile, ...]:
    """Files in the folders above ``func``, which serve everything below them (inheritance principle)."""
    own = root / f"sub-{participant}"
    above = [
        root,
        own,
        *(folder.parent for folder in func_folders(root, participant) if folder.parent != own),
    ]
    return tuple(file for folder in above for file in list_folder(folder, root, accept=accept))


def list_folder(folder: Path, root: Path, *, accept: Callable[[str], bool]) -> Iterator[BidsFile]:
    """Accepted files of one folder, by name."""
    for name in _names(folder):
        if accept(name):
            yield BidsFile(folder / name, root, parse_name(name))


def serves(file: BidsFile, entities: Mapping[str, str], *, ignore: Iterable[str] = ()) -> bool:
    """Whether all entities of a file are those of a target; run labels are compared as numbers."""
    return all(
        _same(key, label, entities.get(key)) for key, label in file.entities.items() if key not in ignore
    )


def most_specific(
    files: Iterable[BidsFile], entities: Mapping[str, str], *, ignore: Iterable[str] = ()
) -> BidsFile | None:
    """The file that serves a target with the most entities, the deepest of equals; None if none serves it."""
    fitting = [file for file in files if serves(file, entities, ignore=ignore)]
    return max(fitting, key=lambda file: (len(file.entities), file.depth), default=None)


def _same(key: str, label: str, other: str | None) -> bool:
    if label == other:
        return True
    return key == "run" and run_index(label) is not None and run_index(label) == run_index(other)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
