"""Folders of preprocessed data: what counts as an image, a mask, confounds; which folder is meant."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipmused_bids.dataset.runs.names import NIFTI
from clipmused_bids.dataset.runs.walk import BidsFile, Folders, functional_files
from clipmused_bids.errors import DatasetError, MissingInputError, UsageError

logger = logging.getLogger(__name__)

ImageKind = Literal["bold", "betas"]
_ENDINGS = {
    "bold": ("_desc-preproc_bold.nii", "_desc-preproc_bold.nii.gz", "_preproc.nii", "_preproc.nii.gz"),
    "betas": tuple(f"_{suffix}{extension}" for suffix in ("statmap", "betaseries") for extension in NIFTI),
    "mask": ("_mask.nii", "_mask.nii.gz", "_brainmask.nii", "_brainmask.nii.gz"),
    "confounds": ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv", "_bold_confounds.tsv"),
    "surface": (".dtseries.nii", ".ptseries.nii", ".dscalar.nii", ".func.gii", ".shape.gii"),
}


@dataclass(frozen=True)
class Derivative:
    """A folder of preprocessed data.

    Parameters
    ----------
    name : str
        Name in BIDS URIs (``bids:<name>:...``).
    path : Path
    described : bool
        Whether it has a ``dataset_description.json``.
    """

    name: str
    path: Path
    described: bool


def images_of(root: Path, participant: str, *, kind: ImageKind, folders: Folders) -> tuple[BidsFile, ...]:
    """Preprocessed BOLD or existing betas of one participant; single echoes and phase images are not among them."""
    files = _with_ending(root, participant, kind, folders)
    usable = [file for file in files if "task" in file.entities and _is_image(file, kind)]
    return tuple(
        file for file in usable if file.entities.get("part") != "phase" and "echo" not in file.entities
    )


def masks_of(root: Path, participant: str, *, folders: Folders) -> tuple[BidsFile, ...]:
    """Brain masks in the ``func`` folders of one participant."""
    files = _with_ending(root, participant, "mask", folders)
    return tuple(f for f in files if f.name.suffix == "brainmask" or f.entities.get("desc") == "brain")


def confounds_of(root: Path, participant: str, *, folders: Folders) -> tuple[BidsFile, ...]:
    """Confound tables of one participant, by fMRIPrep's names since 2017."""
    return _with_ending(root, participant, "confounds", folders)


def surfaces_of(root: Path, participant: str, *, folders: Folders) -> tuple[BidsFile, ...]:
    """Surface and CIFTI series of one participant, which cannot be read."""
    return _with_ending(root, participant, "surface", folders)


def find_derivatives(
    bids_dir: Path,
    derivatives: tuple[str, ...],
    *,
    participants: tuple[str, ...],
    image_kind: ImageKind | None,
) -> tuple[Derivative, ...]:
    """Find the folders of preprocessed data.

    Parameters
    ----------
    bids_dir : Path
    derivatives : tuple of str
        ``PATH`` or ``NAME=PATH``; empty: the one folder in ``<bids>/derivatives`` that holds images of these
        participants.
    participants : tuple of str
        Labels without prefix.
    image_kind : {"bold", "betas"} or None
        None: BOLD; where there is none, betas.

    Raises
    ------
    MissingInputError
        If a path that was given does not exist, or is an empty folder.
    DatasetError
        If nothing holds images of these participants, or several folders do and none was named.
    UsageError
        If two derivatives have one name.
    """
    folders = Folders()
    if not derivatives:
        return (_only_default(Path(bids_dir), participants, image_kind, folders),)
    found = tuple(_given(text, participants, image_kind, folders) for text in derivatives)
    names = [derivative.name for derivative in found]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Two derivatives are called {names}.", hint="name them: -d fmriprep=PATH -d masks=PATH"
        )
    if not any(_holds(d.path, participants, kind, folders) for d in found for kind in _kinds(image_kind)):
        raise _no_images([d.path for d in found], participants, image_kind, folders)
    return found


def _only_default(
    bids_dir: Path, participants: Sequence[str], image_kind: ImageKind | None, folders: Folders
) -> Derivative:
    parent = bids_dir / "derivatives"
    candidates = [parent, *_subfolders(parent)]
    for kind in _kinds(image_kind):
        holders = [path for path in candidates if _holds(path, participants, kind, folders)]
        if len(holders) > 1:
            raise _several(holders)
        if holders:
            return _describe(holders[0], name=holders[0].name)
    raise _no_images(candidates, participants, image_kind, folders)


def _given(
    text: str, participants: Sequence[str], image_kind: ImageKind | None, folders: Folders
) -> Derivative:
    name, path = _split_name(text)
    if not path.is_dir():
        raise MissingInputError(f"-d {text}: no such folder.", hint="-d PATH, or -d NAME=PATH")
    if not any(path.iterdir()):
        raise MissingInputError(
            f"-d {text}: the folder is empty; if it is a DataLad subdataset, it is not installed.",
            hint=f"datalad get --no-data {path}",
        )
    below = _subfolders(path)
    if any(folder.name.startswith("sub-") for folder in below):
        return _describe(path, name=name or path.name)
    kinds = _kinds(image_kind)
    holders = [
        folder for folder in below if any(_holds(folder, participants, kind, folders) for kind in kinds)
    ]
    if len(holders) > 1:
        raise _several(holders)
    if not holders:
        raise _no_images([path], participants, image_kind, folders)
    logger.warning("-d %s is one level too high; %s is used.", text, holders[0])
    return _describe(holders[0], name=name or holders[0].name)


def _split_name(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    if equals and re.fullmatch(r"[0-9A-Za-z._-]+", name) and not Path(text).exists():
        return name, Path(path)
    return None, Path(text)


def _describe(path: Path, *, name: str) -> Derivative:
    described = (path / "dataset_description.json").exists()
    if not described:
        logger.warning("%s has no dataset_description.json; it is read as a derivative all the same.", path)
    return Derivative(re.sub(r"[^0-9A-Za-z._-]+", "-", name) or "derivative", path, described)


def _kinds(image_kind: ImageKind | None) -> tuple[ImageKind, ...]:
    # BOLD is what responses are estimated from; betas count where there is none.
    return ("bold", "betas") if image_kind is None else (image_kind,)


def _holds(path: Path, participants: Sequence[str], kind: ImageKind, folders: Folders) -> bool:
    return any(images_of(path, label, kind=kind, folders=folders) for label in participants)


def _with_ending(root: Path, participant: str, what: str, folders: Folders) -> tuple[BidsFile, ...]:
    endings = _ENDINGS[what]
    return functional_files(root, participant, accept=lambda name: name.endswith(endings), folders=folders)


def _is_image(file: BidsFile, kind: ImageKind) -> bool:
    # Before fMRIPrep 1.2, and by other programs since: ..._bold_[space-X_]preproc.nii.gz
    return kind == "betas" or file.name.suffix == "bold" or "_bold_" in file.path.name


def _subfolders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(path / e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _several(holders: Sequence[Path]) -> DatasetError:
    return DatasetError(
        f"Several derivatives hold images for this request: {', '.join(str(path) for path in holders)}.",
        hint=f"choose one: -d {holders[0]}",
    )


def _no_images(
    searched: Sequence[Path], participants: Sequence[str], image_kind: ImageKind | None, folders: Folders
) -> DatasetError:
    for path in searched:
        for label in participants:
            surfaces = surfaces_of(path, label, folders=folders)
            if surfaces:
                return DatasetError(
                    f"{surfaces[0].path}: surface and CIFTI series cannot be read.",
                    hint="run fMRIPrep with a volume space, e.g. --output-spaces MNI152NLin2009cAsym:res-2",
                )
    # The folders inside <bids>/derivatives go without saying.
    shown = [path for path in searched if path.parent not in searched]
    what = {"bold": "preprocessed BOLD", "betas": "betas", None: "preprocessed BOLD or betas"}[image_kind]
    people = ", ".join(f"sub-{label}" for label in participants[:5]) + (
        ", ..." if len(participants) > 5 else ""
    )
    names = "*_statmap.nii.gz, *_betaseries.nii.gz" if image_kind == "betas" else "*_desc-preproc_bold.nii.gz"
    return DatasetError(
        f"No {what} ({names}) of {people} in {', '.join(str(path) for path in shown)}.",
        hint="-d PATH names the folder of preprocessed data, such as fMRIPrep's output",
    )
