"""TemplateFlow's archive on this machine: atlases and grids of templates.

The archive is listed by its file names, without the templateflow client: importing the client fills an archive that is
not there with thousands of empty files. Only where fetching is allowed the client is imported, and it fetches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.contents import is_fetched
from clipmused_bids.dataset.images.series import read_grid
from clipmused_bids.dataset.runs.names import run_index
from clipmused_bids.dataset.runs.walk import BidsFile, FileIndex, Folders, list_folder, most_specific
from clipmused_bids.errors import MissingInputError, UsageError
from clipmused_bids.records import Grid

logger = logging.getLogger(__name__)

# Entities that are numbers: res-2 and res-02 are one resolution.
_NUMBERS = frozenset({"res", "cohort"})
_CLIENT_NAMES = {"res": "resolution", "seg": "segmentation"}


@dataclass(frozen=True)
class Template:
    """A template by TemplateFlow's name, with the cohort where it has some."""

    name: str
    cohort: str | None = None

    @property
    def label(self) -> str:
        """Name as ``--space`` takes it."""
        return self.name if self.cohort is None else f"{self.name}:cohort-{self.cohort}"


@dataclass(frozen=True)
class TemplateAtlas:
    """One variant of a template's atlas as far as it is on this machine.

    Parameters
    ----------
    images : tuple of Path
        Label images, one for each resolution that is here.
    table : Path or None
        Names of the regions; None where the archive has no table.
    """

    images: tuple[Path, ...]
    table: Path | None


@dataclass(frozen=True)
class _Variants:
    """What the archive lists of an atlas: images and tables of each variant, by the variant's details."""

    images: Mapping[str, tuple[BidsFile, ...]] = field(default_factory=dict)
    tables: tuple[BidsFile, ...] = ()


def template_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of the archive: ``TEMPLATEFLOW_HOME``, else where the templateflow client has it."""
    stated = environ.get("TEMPLATEFLOW_HOME")
    if stated:
        return Path(stated).absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("templateflow")).absolute()


def atlases_of(template: Template) -> tuple[str, ...]:
    """Names of the volumetric atlases that the archive on this machine lists for a template."""
    files = _listed(template, suffix="dseg")
    return tuple(sorted({f.entities["atlas"] for f in files if "atlas" in f.entities and _is_image(f)}))


def has_atlas(template: Template, name: str, *, details: Mapping[str, str], offline: bool) -> bool:
    """Whether `find_atlas` can find one variant of an atlas: here, or (unless offline) in TemplateFlow's own list.

    Raises
    ------
    MissingInputError
        If the list cannot be brought into the archive on this machine.
    """
    variants = _variants(template, name, details=details)
    if _here(variants) is None and not offline:
        with _client(template, {"atlas": name, **details, "suffix": "dseg"}):
            pass
        return len(_variants(template, name, details=details).images) == 1
    return len(variants.images) == 1 and _here(variants) is not None


def find_atlas(template: Template, name: str, *, details: Mapping[str, str], offline: bool) -> TemplateAtlas:
    """Find an atlas of a template.

    Parameters
    ----------
    template : Template
    name : str
        Label after ``atlas-`` in TemplateFlow's names (``Schaefer2018``).
    details : mapping
        Further entities that the image must have (``desc``, ``res``, ...).
    offline : bool
        Whether files that are not here may not be fetched.

    Raises
    ------
    UsageError
        If the atlas has several variants; names them.
    MissingInputError
        If it is not here, or fetching fails; the hint holds the commands that fetch it.
    """
    asked = {"atlas": name, **{key: label for key, label in details.items() if key != "res"}}
    found = _here(_one_variant(_variants(template, name, details=details), template, name))
    if found is None and not offline:
        _fetch(template, {**asked, "suffix": "dseg"})
        found = _here(_one_variant(_variants(template, name, details=details), template, name))
    if found is None:
        shown = ":".join([name, *(f"{key}-{label}" for key, label in details.items())])
        known = atlases_of(template)
        listed = f"; atlases listed there: {', '.join(known)}" if known and name not in known else ""
        raise MissingInputError(
            f"atlas {shown} of {template.label} is not in TemplateFlow's archive on this machine "
            f"({template_home()}){listed}.",
            hint=_commands(template, {**asked, "suffix": "dseg"}),
        )
    return found


def nearest_resolution(images: Sequence[Path], grid: Grid) -> Path:
    """Choose the image whose voxels are nearest in size to those of a grid; the finer one of equals."""

    def distance(path: Path) -> tuple[float, float]:
        size = read_grid(path).voxel_volume
        larger, smaller = max(size, grid.voxel_volume), min(size, grid.voxel_volume)
        return round(larger / smaller, 3), size

    return min(images, key=distance)


def template_grid(template: Template, *, resolution: str, offline: bool) -> Grid:
    """Read the voxel grid of a template at one of its resolutions from the header of an image.

    Parameters
    ----------
    template : Template
    resolution : str
        Label after ``res-``; ``2`` and ``02`` are the same.
    offline : bool

    Raises
    ------
    MissingInputError
        If no image of this resolution is here, or fetching fails; the hint holds the commands that fetch one.
    """
    path = _reference(template, resolution)
    wanted = {"res": resolution, "suffix": "T1w", "desc": None}
    if path is None and not offline:
        _fetch(template, wanted)
        path = _reference(template, resolution)
    if path is None:
        known = sorted({str(int(f.entities["res"])) for f in _listed(template, suffix="T1w") if _numbered(f)})
        listed = f" (resolutions listed there: {', '.join(known)})" if known else ""
        raise MissingInputError(
            f"the grid {template.label}:res-{resolution} is not in TemplateFlow's archive on this machine "
            f"({template_home()}){listed}.",
            hint=_commands(template, wanted),
        )
    logger.info("Grid %s:res-%s: that of %s.", template.label, resolution, path.name)
    return read_grid(path)


def _reference(template: Template, resolution: str) -> Path | None:
    plain = [f for f in _listed(template, suffix="T1w") if "desc" not in f.entities]
    brain = [f for f in _listed(template, suffix="mask") if f.entities.get("desc") == "brain"]
    fitting = [f for f in (*plain, *brain) if _is_image(f) and _has(f, "res", resolution) and _filled(f)]
    return fitting[0].path if fitting else None


def _variants(template: Template, name: str, *, details: Mapping[str, str]) -> _Variants:
    files = [f for f in _listed(template, suffix="dseg") if f.entities.get("atlas") == name]
    images: dict[str, tuple[BidsFile, ...]] = {}
    for file in files:
        if _is_image(file) and all(_has(file, key, label) for key, label in details.items()):
            key = ":".join(
                f"{k}-{v}" for k, v in file.entities.items() if k not in {"tpl", "atlas", *_NUMBERS}
            )
            images[key] = (*images.get(key, ()), file)
    return _Variants(images, tuple(file for file in files if file.name.extension == ".tsv"))


def _one_variant(variants: _Variants, template: Template, name: str) -> _Variants:
    if len(variants.images) > 1:
        raise UsageError(
            f"--atlas {name}: {template.label} has several variants of it: {', '.join(sorted(variants.images))}.",
            hint=f"choose one: --atlas {name}:{min(variants.images)}",
        )
    return variants


def _here(variants: _Variants) -> TemplateAtlas | None:
    images = [file for files in variants.images.values() for file in files]
    table = most_specific(FileIndex(variants.tables).serving(images[0].entities)) if images else None
    filled = tuple(file.path for file in images if _filled(file))
    if not filled or (table is not None and not _filled(table)):
        return None
    return TemplateAtlas(filled, None if table is None else table.path)


def _listed(template: Template, *, suffix: str) -> list[BidsFile]:
    home = template_home()
    folder = home / f"tpl-{template.name}"
    if template.cohort is not None:
        folder /= f"cohort-{template.cohort}"
    endings = (f"_{suffix}.nii.gz", f"_{suffix}.nii", f"_{suffix}.tsv")
    return list(list_folder(folder, home, accept=lambda name: name.endswith(endings), folders=Folders()))


def _is_image(file: BidsFile) -> bool:
    return file.name.extension in {".nii", ".nii.gz"}


def _has(file: BidsFile, key: str, label: str) -> bool:
    own = file.entities.get(key)
    return own == label or (key in _NUMBERS and own is not None and run_index(own) == run_index(label))


def _numbered(file: BidsFile) -> bool:
    return run_index(file.entities.get("res")) is not None


def _filled(file: BidsFile) -> bool:
    # The archive's skeleton holds an empty file for each one that was not fetched.
    return is_fetched(file.path) and file.path.stat().st_size > 0


def _fetch(template: Template, entities: Mapping[str, str | None]) -> None:
    logger.info("Fetching %s from TemplateFlow into %s.", template.label, template_home())
    wanted: dict[str, Any] = {_CLIENT_NAMES.get(key, key): label for key, label in entities.items()}
    if template.cohort is not None:
        wanted["cohort"] = template.cohort
    with _client(template, entities) as api:
        api.get(template.name, raise_empty=True, **wanted)


@contextmanager
def _client(template: Template, entities: Mapping[str, str | None]) -> Iterator[Any]:
    """Import the templateflow client and let it list what it knows; what it raises becomes an error that helps."""
    import warnings

    try:
        with warnings.catch_warnings():
            # It warns that it makes an archive where there is none; that is what it is asked for.
            warnings.simplefilter("ignore")
            from templateflow import api, conf

            # An archive that was filled by hand does not list what it lacks; the client's skeleton does.
            conf.update(local=True, overwrite=False, silent=True)
            yield api
    except Exception as error:
        raise MissingInputError(
            f"{template.label} cannot be fetched from TemplateFlow: {_first_line(error)}.",
            hint=_commands(template, entities),
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def _commands(template: Template, entities: Mapping[str, str | None]) -> str:
    filters = {**({} if template.cohort is None else {"cohort": template.cohort}), **entities}
    # The command cannot ask for the absence of an entity, so it fetches a little more.
    words = " ".join(
        f"--{_CLIENT_NAMES.get(key, key)} {label}" for key, label in filters.items() if label is not None
    )
    command = f"templateflow get {template.name} {words}"
    return (
        f"TEMPLATEFLOW_HOME=FOLDER {command} (anywhere with network; then set TEMPLATEFLOW_HOME to that folder here), "
        f"or into this machine's archive: {command}, or --no-offline"
    )
