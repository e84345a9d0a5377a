"""Maps of one participant's voxels: temporal signal-to-noise ratio, noise ceiling, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.images.series import read_volume
from clipmused_bids.dataset.outputs.response_files import StoredResponses
from clipmused_bids.records import Run
from clipmused_bids.report.blocks import Block, Figure, Paragraph
from clipmused_bids.report.voxel_maps import VoxelMap, voxel_figure
from clipmused_bids.stages.assemble import voxels_with_signal
from clipmused_bids.stages.reporting.inputs.stored import StoredRun
from clipmused_bids.stages.reporting.view import ReportView

_ABOUT = {
    "tsnr": "It is the mean of a voxel over the standard deviation of its series without the linear trend, median over "
    "runs. It judges the scanner's signal, not how much a voxel tells of the stimuli; smoothing raises it.",
    "noiseceiling": "It is the share of a single response's variance that the stimulus explains, told from repeats of "
    "training stimuli. With few repeats it is itself noisy, and it does not bound what several voxels tell together.",
    "reliability": "It is the correlation of the mean response between random halves of the repeats of training "
    "stimuli, corrected to all repeats. It says that a voxel repeats itself, not what it repeats.",
}


@dataclass(frozen=True)
class _Kind:
    """A map by its ``desc-``, with its unit and the mark that the share of voxels is told for."""

    desc: str
    name: str
    unit: str
    mark: float
    mark_words: str


_KINDS = (
    _Kind("tsnr", "Temporal signal-to-noise ratio", "tSNR", 40.0, "40"),
    _Kind("noiseceiling", "Noise ceiling of a single response", "% of\nvariance", 10.0, "10 % of variance"),
    _Kind("reliability", "Split-half reliability", "r", 0.3, "r = 0.3"),
)


def voxel_blocks(view: ReportView, runs: Sequence[StoredRun]) -> list[Block]:
    """Each map that was measured, and of the others why there is none."""
    stored = [(one.run, one.responses) for one in runs if one.responses is not None]
    if not stored:
        return [Paragraph("Maps of the voxels: none, since no responses are stored.")]
    blocks: list[Block] = []
    for kind in _KINDS:
        drawn = _drawn(view, stored, kind)
        if drawn is not None:
            folder = view.tree.figures(stored[0][0].participant)
            write_bytes(folder / f"sub-{stored[0][0].participant}_desc-{kind.desc}_slices.png", drawn.image)
        blocks.append(Paragraph(_why_not(view, kind)) if drawn is None else drawn)
    return blocks


def _drawn(view: ReportView, stored: Sequence[tuple[Run, StoredResponses]], kind: _Kind) -> Figure | None:
    path = view.tree.voxel_map(stored[0][0], desc=kind.desc)
    if not path.exists():
        return None
    grid, values = read_volume(path)
    voxels = voxels_with_signal([file for _, file in stored])
    if len(voxels) == 0 or not grid.agrees_with(stored[0][1].grid):
        return None
    flat = np.asarray(values, dtype=float).ravel()[voxels]
    return voxel_figure(
        VoxelMap(
            kind.name, kind.unit, flat, voxels, grid, kind.mark, kind.mark_words, about=_ABOUT[kind.desc]
        )
    )


def _why_not(view: ReportView, kind: _Kind) -> str:
    if kind.desc != "tsnr":
        return (
            f"{kind.name}: not measured. It needs at least three training stimuli with repeats, and is measured when a "
            "decoder is trained or evaluated."
        )
    if view.plan.kind == "betas":
        return f"{kind.name}: not measured. The responses were given, and the series they come from was not read."
    return (
        f"{kind.name}: not measured. These responses were stored by a version that did not measure it; it is "
        "measured where they are estimated, as in a new output folder."
    )
