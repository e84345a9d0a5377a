"""Which regions a decoder's patches are made of: what ``--atlas`` names, or the default of the images' space."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clipmused_bids.dataset.atlases.atlas_files import (
    AtlasRequest,
    atlas_label,
    dseg_descs,
    dseg_of,
    parse_atlas,
    refuse_other_space,
)
from clipmused_bids.dataset.atlases.template_flow import Template, find_atlas, has_atlas
from clipmused_bids.dataset.files.contents import content_hash, require_contents
from clipmused_bids.dataset.images.masks import expand_pattern
from clipmused_bids.dataset.runs.spaces import is_common_space
from clipmused_bids.errors import MissingInputError, UsageError
from clipmused_bids.records import Run
from clipmused_bids.stages.plan import Plan

logger = logging.getLogger(__name__)

DEFAULT_COMMON = "Schaefer2018"
DEFAULT_NATIVE = "aparcaseg"


@dataclass(frozen=True)
class Atlas:
    """Regions of the decoder's patches.

    Parameters
    ----------
    kind : {"none", "clusters", "grid", "images"}
        ``none``: patches that know no regions.
    label : str or None
        What the decoder's configuration says; no place of this machine is in it.
    why : str
        What is used and why, for the log.
    images : mapping of str to tuple of Path
        Label images of each participant; several where they differ in resolution only.
    table : Path or None
        Names of the regions, where they do not lie beside the images.
    from_template : bool
        Whether the images are those of a template.
    """

    kind: Literal["none", "clusters", "grid", "images"]
    label: str | None
    why: str
    images: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    table: Path | None = None
    from_template: bool = False


def choose_atlas(plan: Plan) -> Atlas:
    """Settle the regions and look for their files; no image is read.

    Without ``--atlas`` it is Schaefer 2018 (400 parcels, 7 networks) for images in a template's space, where the
    archive on this machine has it, else clusters; in native space ``aparcaseg`` where every participant has one, else
    no regions. Patches that use no regions (``cnn``, ``aligned``) get none by default.

    Raises
    ------
    UsageError
        If an atlas is of another space than the images, or regions are to be made in native space.
    MissingInputError
        If a file is not there; where commands can fetch it, the hint holds them.
    """
    text = plan.config.inputs.atlas
    if text is None:
        return _default(plan)
    request = parse_atlas(text)
    label = atlas_label(text, n_regions=plan.hyperparameters.model.n_regions)
    if request.kind == "file":
        return Atlas("images", label, f"atlas {label}", _given(plan, text))
    if request.kind != "name":
        return _made(plan, request.kind, label)
    descs = dseg_descs(plan.derivatives, plan.participants)
    if request.text in descs and not request.details:
        return _from_derivative(plan, request.text, why=f"desc-{request.text}_dseg of the derivative")
    return _of_template(plan, request, label, descs)


def atlas_hash(atlas: Atlas, participants: Sequence[str]) -> str | None:
    """SHA-256 over the content of the label images of some participants.

    None where there are none, and for a template's atlas: its name says what it holds at whichever resolution.
    """
    if atlas.kind != "images" or atlas.from_template:
        return None
    digest = hashlib.sha256()
    contents: dict[Path, str] = {}
    for participant in participants:
        path = atlas.images[participant][0]
        if path not in contents:
            contents[path] = content_hash(path)
        digest.update(contents[path].encode())
    return digest.hexdigest()


def template_of(run: Run) -> Template | None:
    """Template that a run's image is in, by its name; None in native space."""
    if run.space is None or not is_common_space(run.space):
        return None
    return Template(run.space, run.entities.get("cohort"))


def _default(plan: Plan) -> Atlas:
    patches = plan.hyperparameters.model.patches
    if patches in {"cnn", "aligned"}:
        return Atlas("none", None, f"none (model.patches = {patches})")
    return _default_in_common_space(plan) if plan.common_space else _default_in_native_space(plan)


def _default_in_common_space(plan: Plan) -> Atlas:
    template = template_of(plan.runs[0])
    request = parse_atlas(DEFAULT_COMMON)
    label = atlas_label(DEFAULT_COMMON, n_regions=0)
    made = f"clusters:{plan.hyperparameters.model.n_regions}"
    if template is None:
        return Atlas("clusters", made, f"{made} (the images are in no template's space)")
    if not has_atlas(template, request.text, details=request.details, offline=plan.config.offline):
        return Atlas(
            "clusters",
            made,
            f"{made}, since TemplateFlow's archive on this machine has no {label} of {template.label}, the default "
            f"(templateflow get {template.name} --atlas {request.text} --desc {request.details['desc']} --suffix dseg "
            "fetches it)",
        )
    found = find_atlas(template, request.text, details=request.details, offline=plan.config.offline)
    return Atlas(
        "images",
        label,
        f"atlas {label} of {template.label}, the default where TemplateFlow's archive has it "
        f"(--atlas chooses others, such as {made})",
        dict.fromkeys(plan.participants, found.images),
        found.table,
        from_template=True,
    )


def _default_in_native_space(plan: Plan) -> Atlas:
    lacking = [
        p
        for p in plan.participants
        if dseg_of(plan.derivatives, _first(plan, p), desc=DEFAULT_NATIVE) is None
    ]
    if not lacking:
        why = (
            f"desc-{DEFAULT_NATIVE}_dseg of the derivative, the default in native space where everyone has it"
        )
        return _from_derivative(plan, DEFAULT_NATIVE, why=why)
    return Atlas(
        "none", None, f"none (native space, and no desc-{DEFAULT_NATIVE}_dseg of {_people(lacking)})"
    )


def _made(plan: Plan, kind: Literal["clusters", "grid"], label: str) -> Atlas:
    if not plan.common_space:
        raise UsageError(
            f"--atlas {plan.config.inputs.atlas}: voxels are in native space, where made regions of two people do "
            "not correspond.",
            hint="give a label image for each participant (with {participant}), or leave --atlas out",
        )
    return Atlas(kind, label, label)


def _given(plan: Plan, pattern: str) -> dict[str, tuple[Path, ...]]:
    images: dict[str, tuple[Path, ...]] = {}
    for participant in plan.participants:
        run = _first(plan, participant)
        path = expand_pattern(pattern, participant=participant, session=run.session, flag="--atlas")
        refuse_other_space(path, run.space)
        images[participant] = (path,)
    require_contents(path for paths in images.values() for path in paths)
    return images


def _from_derivative(plan: Plan, desc: str, *, why: str) -> Atlas:
    found = {p: dseg_of(plan.derivatives, _first(plan, p), desc=desc) for p in plan.participants}
    images: dict[str, tuple[Path, ...]] = {p: (path,) for p, path in found.items() if path is not None}
    lacking = [p for p in plan.participants if p not in images]
    if lacking:
        space = _first(plan, lacking[0]).space or "the space of the images"
        raise MissingInputError(
            f"--atlas {desc}: no desc-{desc}_dseg image in {space} of {_people(lacking)}.",
            hint="leave --atlas out, or give a label image for each participant (with {participant})",
        )
    require_contents(path for paths in images.values() for path in paths)
    return Atlas("images", desc, why, images)


def _of_template(plan: Plan, request: AtlasRequest, label: str, descs: Sequence[str]) -> Atlas:
    template = template_of(plan.runs[0])
    known = f"there are {', '.join(descs)}" if descs else "there are none"
    if template is None:
        raise UsageError(
            f"--atlas {plan.config.inputs.atlas}: no derivative has desc-{request.text}_dseg images ({known}), and an "
            f"atlas of a template does not fit images in {plan.runs[0].space or 'native space'}.",
            hint="--space MNI152NLin2009cAsym reads images in a template's space, if there are some; in native space "
            "give a label image for each participant (with {participant})",
        )
    named = request.details.get("tpl", template.name)
    if named != template.name:
        raise UsageError(
            f"--atlas {plan.config.inputs.atlas}: the images are in {template.label}; an atlas of {named} does not "
            "fit them.",
            hint=f"--atlas {label}, or --space {named} if there are images in its space",
        )
    details = {key: value for key, value in request.details.items() if key != "tpl"}
    found = find_atlas(template, request.text, details=details, offline=plan.config.offline)
    return Atlas(
        "images",
        label,
        f"atlas {label} of {template.label}",
        dict.fromkeys(plan.participants, found.images),
        found.table,
        from_template=True,
    )


def _first(plan: Plan, participant: str) -> Run:
    return plan.runs_of(participant)[0]


def _people(participants: Sequence[str]) -> str:
    return ", ".join(f"sub-{p}" for p in participants[:5]) + (", ..." if len(participants) > 5 else "")
