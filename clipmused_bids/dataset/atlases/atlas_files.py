"""What ``--atlas`` may say, and the label images of a derivative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.dataset.runs.names import natural_key, parse_name
from clipmused_bids.dataset.runs.spaces import is_common_space, same_space, space_of
from clipmused_bids.dataset.runs.walk import BidsFile, FileIndex, Folders, list_folder, most_specific
from clipmused_bids.errors import UsageError
from clipmused_bids.records import Run

DETAILS = ("desc", "res", "seg", "scale", "tpl")
# The variant that is meant where only the atlas is named.
USUAL_DETAILS: Mapping[str, Mapping[str, str]] = {"Schaefer2018": {"desc": "400Parcels7Networks"}}
_DSEG = ("_dseg.nii.gz", "_dseg.nii")


@dataclass(frozen=True)
class AtlasRequest:
    """``--atlas``, read.

    Parameters
    ----------
    kind : {"clusters", "grid", "file", "name"}
    text : str
        A path or pattern, or a name; for made regions their number or "".
    details : mapping
        Entities after a name (``desc``, ``res``, ``tpl``, ...).
    """

    kind: Literal["clusters", "grid", "file", "name"]
    text: str
    details: Mapping[str, str] = field(default_factory=dict)


def parse_atlas(text: str) -> AtlasRequest:
    """Read ``--atlas``: ``clusters[:M]``, ``grid[:M]``, a path or pattern, or a name with details.

    Raises
    ------
    UsageError
        If a detail is no pair of an entity and its label.
    """
    name, *details = text.split(":")
    if name == "clusters":
        return AtlasRequest("clusters", ":".join(details))
    if name == "grid":
        return AtlasRequest("grid", ":".join(details))
    if "/" in text or "{" in text or text.endswith((".nii", ".nii.gz", ".gii")) or Path(text).is_file():
        return AtlasRequest("file", text)
    pairs = [detail.partition("-") for detail in details]
    if any(key not in DETAILS or not label for key, _, label in pairs):
        raise UsageError(
            f"--atlas {text}: what follows the name must be entities with labels.",
            hint=f"for example --atlas Schaefer2018:desc-400Parcels7Networks; entities are {', '.join(DETAILS)}",
        )
    own = {key: label for key, _, label in pairs}
    return AtlasRequest("name", name, {**USUAL_DETAILS.get(name, {}), **own})


def atlas_label(text: str, *, n_regions: int) -> str:
    """Name of an atlas that is the same on every machine: no folder, details spelt out, regions counted.

    Parameters
    ----------
    text : str
        As ``--atlas`` takes it.
    n_regions : int
        Number of made regions where the text says none.
    """
    request = parse_atlas(text)
    if request.kind == "file":
        return Path(text).name
    if request.kind != "name":
        return f"{request.kind}:{request.text or n_regions}"
    # Of which template it is stands beside it as the space; which resolution follows from the grid.
    kept = [f"{key}-{label}" for key, label in sorted(request.details.items()) if key not in {"tpl", "res"}]
    return ":".join([request.text, *kept])


def refuse_other_space(path: Path, space: str | None) -> None:
    """Refuse a label image whose name says that it lies in another space than the images.

    Raises
    ------
    UsageError
        Names both spaces.
    """
    entities = parse_name(path).entities
    own = entities.get("tpl") or entities.get("space")
    # Native spaces have several names.
    common = is_common_space(own) or is_common_space(space)
    if own is not None and space is not None and own != space and common:
        raise UsageError(
            f"--atlas {path}: it lies in {own}, the images in {space}; equal grids do not make these one space.",
            hint=f"--space {own} reads images in its space, or give an atlas in {space}",
        )


def dseg_of(derivatives: Sequence[Derivative], run: Run, *, desc: str) -> Path | None:
    """Find a derivative's label image of one ``desc`` in the space of a run.

    Images beside the run go first, the one with the most entities in common; then those in ``anat``, where names
    without ``space-`` are in the participant's T1w space. The derivative of the run's own image goes first.

    Parameters
    ----------
    derivatives : sequence of Derivative
    run : Run
    desc : str
        Label after ``desc-`` (``aparcaseg``).
    """
    ordered = sorted(derivatives, key=lambda d: run.image is None or not run.image.is_relative_to(d.path))
    for derivative in ordered:
        files = [f for f in _dsegs(derivative.path, run.participant) if f.entities.get("desc") == desc]
        beside = [f for f in files if "func" in _folder(f) and space_of(f.entities) == space_of(run.entities)]
        serving = FileIndex(beside, ignore=("desc",)).serving(run.entities)
        best = most_specific(serving) or _in_anat(files, run)
        if best is not None:
            return best.path
    return None


def dseg_descs(derivatives: Sequence[Derivative], participants: Sequence[str]) -> tuple[str, ...]:
    """Which ``desc`` the label images of some participants have, in any space."""
    found = {
        file.entities["desc"]
        for derivative in derivatives
        for participant in participants
        for file in _dsegs(derivative.path, participant)
        if "desc" in file.entities
    }
    return tuple(sorted(found, key=natural_key))


def _dsegs(root: Path, participant: str) -> list[BidsFile]:
    folders = Folders()
    return [
        file
        for folder in folders.sessions(root, participant)
        for kind in ("func", "anat")
        for file in list_folder(
            folder / kind, root, accept=lambda name: name.endswith(_DSEG), folders=folders
        )
    ]


def _in_anat(files: Sequence[BidsFile], run: Run) -> BidsFile | None:
    fitting = [f for f in files if "anat" in _folder(f) and _is_in_space_of(f, run)]
    wanted = (run.session, run.entities.get("res"))
    return max(
        fitting,
        key=lambda f: sum(
            f.entities.get(key) == own for key, own in zip(("ses", "res"), wanted, strict=True)
        ),
        default=None,
    )


def _is_in_space_of(file: BidsFile, run: Run) -> bool:
    # Anatomical derivatives that name no space are in the space of the participant's T1w image.
    own = {"space": "T1w", **file.entities}
    return same_space(own, run.entities)


def _folder(file: BidsFile) -> str:
    return file.path.parent.name
