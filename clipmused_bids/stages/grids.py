"""Voxel grids of the participants: the one that ``--resample`` names, or those of the images where these must agree."""

from __future__ import annotations

from clipmused_bids.dataset.atlases.template_flow import Template, template_grid
from clipmused_bids.dataset.images.series import check_grid, image_path, read_grid
from clipmused_bids.errors import ClipMusedError, UsageError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import Grid
from clipmused_bids.stages.atlas import template_of
from clipmused_bids.stages.plan import Plan

OTHER_GRID = (
    "voxels of a common space must be the same in all participants: --resample TEMPLATE:res-R brings them to a grid of "
    "their template, --space may choose one resolution, --native-space reads a map of each participant"
)


def reference_grid(plan: Plan) -> Grid | None:
    """Grid that all images are brought to; None without ``--resample``.

    Raises
    ------
    UsageError
        If the images are in native space, or in another template.
    MissingInputError
        If the template is not on this machine.
    """
    text = plan.config.inputs.resample
    if text is None:
        return None
    template, resolution = parse_resample(text)
    for run in plan.runs:
        own = template_of(run)
        if own != template:
            shown = (
                f"in {own.label}" if own else "in native space" if run.space is None else f"in {run.space}"
            )
            raise UsageError(
                f"--resample {text}: {run.label} is {shown}; a grid fits images of its own space only.",
                hint=f"--space {template.label} reads images in its space"
                if own is None
                else f"--resample {own.label}:res-{resolution}",
            )
    return template_grid(template, resolution=resolution, offline=plan.config.offline)


def parse_resample(text: str) -> tuple[Template, str]:
    """Read ``TEMPLATE[:cohort-C]:res-R`` as the template and the label of its resolution."""
    name, *details = text.split(":")
    labels = {key: label for key, _, label in (detail.partition("-") for detail in details)}
    return Template(name, labels.get("cohort")), labels["res"]


def require_one_grid(plan: Plan) -> None:
    """Refuse a decoder for all participants whose grids differ in a common space, before anything is computed.

    Only headers are read. An image that cannot be opened is left to the stage that reads it.

    Raises
    ------
    DataError
        Shows both grids.
    """
    joint = plan.config.level == "group" and not METHODS[plan.config.method].per_participant
    if not (joint and plan.common_space and "train" in plan.config.actions) or plan.config.inputs.resample:
        return
    first: tuple[Grid, str] | None = None
    for participant in plan.participants:
        try:
            path = image_path(plan.runs_of(participant)[0])
            grid = read_grid(path)
        except ClipMusedError:
            continue
        if first is None:
            first = grid, path.name
        else:
            check_grid(grid, first[0], path=path, other=first[1], hint=OTHER_GRID)
