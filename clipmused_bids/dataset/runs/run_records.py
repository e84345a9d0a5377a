"""The record of one run: its image with the mask, confounds, events and metadata that belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.runs.derivatives import Derivative, ImageKind, confounds_of, masks_of
from clipmused_bids.dataset.runs.filters import FileFilters
from clipmused_bids.dataset.runs.names import run_index
from clipmused_bids.dataset.runs.sidecars import merged_metadata
from clipmused_bids.dataset.runs.spaces import space_of
from clipmused_bids.dataset.runs.walk import (
    BidsFile,
    FileIndex,
    Folders,
    functional_files,
    inherited_files,
    most_specific,
)  # fmt: skip
from clipmused_bids.records import Run

# Masks and confounds have a desc- of their own; a sidecar has that of its image.
_FREE = {"mask": ("desc",), "confounds": ("desc",), "json": ()}


@dataclass(frozen=True)
class DerivedImage:
    """An image, and the derivative it lies in."""

    file: BidsFile
    derivative: Derivative


@dataclass(frozen=True)
class FoundRun:
    """What exists for one run."""

    entities: Mapping[str, str]
    events: BidsFile | None
    images: tuple[DerivedImage, ...]


class RunBuilder:
    """Adds masks, confounds and metadata to runs; every folder is listed and every sidecar read once."""

    def __init__(
        self,
        bids_dir: Path,
        derivatives: Sequence[Derivative],
        kind: ImageKind,
        folders: Folders,
        filters: FileFilters,
    ) -> None:
        self._bids_dir = bids_dir
        self._derivatives = derivatives
        self._kind = kind
        self._folders = folders
        self._filters = filters
        self._indexed: dict[tuple[Path, str, str], FileIndex] = {}
        self._read_json = cache(read_json)

    def build(self, item: FoundRun) -> Run:
        """Make the record of one run."""
        entities = item.entities
        image = item.images[0] if item.images else None
        mask = self._companion("mask", image) if image else None
        confounds = self._companion("confounds", image) if image and self._kind == "bold" else None
        links = {"image": _link(image), "mask": _link(mask), "confounds": _link(confounds)}
        links["events"] = item.events.uri("raw") if item.events else None
        return Run(
            participant=entities["sub"],
            session=entities.get("ses"),
            task=entities["task"],
            run=run_index(entities.get("run")),
            entities={key: label for key, label in entities.items() if key != "desc"},
            events=item.events.path if item.events else None,
            image=image.file.path if image else None,
            image_kind=self._kind,
            mask=mask.file.path if mask else None,
            confounds=confounds.file.path if confounds else None,
            space=entities.get("space"),
            metadata=self._metadata(entities, image),
            sources={name: uri for name, uri in links.items() if uri is not None},
        )

    def _companion(self, what: Literal["mask", "confounds"], image: DerivedImage) -> DerivedImage | None:
        """Nearest mask or confounds of an image: its own derivative first, the most entities in common."""
        target = image.file.entities
        others = [derivative for derivative in self._derivatives if derivative != image.derivative]
        for derivative in [image.derivative, *others]:
            serving = self._index(derivative.path, target["sub"], what).serving(target)
            if what == "mask":
                serving = [file for file in serving if space_of(file.entities) == space_of(target)]
            best = most_specific(serving)
            if best is not None:
                return DerivedImage(best, derivative)
        return None

    def _metadata(self, entities: Mapping[str, str], image: DerivedImage | None) -> dict[str, Any]:
        raw = self._merged(self._bids_dir, entities, suffix="bold")
        if image is None:
            return raw
        name = image.file.name
        return raw | self._merged(image.derivative.path, name.entities, suffix=name.suffix)

    def _merged(self, root: Path, entities: Mapping[str, str], *, suffix: str) -> dict[str, Any]:
        serving = self._index(root, entities["sub"], "json").serving(entities)
        return merged_metadata(serving, suffix=suffix, read=self._read_json)

    def _index(self, root: Path, participant: str, what: Literal["mask", "confounds", "json"]) -> FileIndex:
        key = (root, participant, what)
        if key not in self._indexed:
            files = _companions(root, participant, what, self._folders)
            kept = files if what == "json" else self._filters.keep(what, files)
            self._indexed[key] = FileIndex(kept, ignore=_FREE[what])
        return self._indexed[key]


def _companions(
    root: Path, participant: str, what: Literal["mask", "confounds", "json"], folders: Folders
) -> tuple[BidsFile, ...]:
    if what == "mask":
        return masks_of(root, participant, folders=folders)
    if what == "confounds":
        return confounds_of(root, participant, folders=folders)

    def accept(name: str) -> bool:
        return name.endswith(("_bold.json", "_preproc.json", "_statmap.json", "_betaseries.json"))

    return (
        *inherited_files(root, participant, accept=accept, folders=folders),
        *functional_files(root, participant, accept=accept, folders=folders),
    )


def _link(image: DerivedImage | None) -> str | None:
    return image.file.uri(image.derivative.name) if image else None
