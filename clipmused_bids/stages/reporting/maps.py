"""Where a decoder looks: stored maps of one participant, read for the page."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any, get_args

import numpy as np

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.images.maps import sidecar_path
from clipmused_bids.dataset.outputs.map_files import read_map, read_map_table
from clipmused_bids.dataset.outputs.tree import MapKind
from clipmused_bids.errors import MissingInputError
from clipmused_bids.methods.network_kinds import MS_EMB
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.records import BoolArray, Run
from clipmused_bids.report.blocks import Paragraph, Section
from clipmused_bids.report.brain_maps import BrainMap, relative
from clipmused_bids.report.map_section import (
    ANCHOR,
    TITLE,
    AttentionView,
    OcclusionView,
    map_figures,
    maps_section,
)
from clipmused_bids.report.map_words import MapTrust
from clipmused_bids.stages.contenders import label_beside
from clipmused_bids.stages.decoder_choice import find_decoder
from clipmused_bids.stages.reporting.view import ReportView

_TITLES: Mapping[str, str] = {"Low": "Low level", "High": "High level", "Class": "Class token"}


def maps_of_participant(view: ReportView, participant: str) -> Section | None:
    """Show the maps of a participant, and write their figures; None where there is no decoder.

    Raises
    ------
    DataError
        If a stored map cannot be read.
    CannotCreateError, OutputWriteError
        If a figure cannot be written.
    """
    runs = view.plan.runs_of(participant)
    try:
        current = find_decoder(view.tree, participant, model_label=view.model_label).weights_hash
    except MissingInputError:
        return None
    if not runs:
        return None
    reader = _Reader(view, runs[0])
    table = view.tree.map_table(runs[0], model_label=view.model_label)
    if not (table.exists() and reader.has("Regions") and reader.has("Occlusion")):
        return Section(ANCHOR, TITLE, [Paragraph(_why_missing(view), tone="note")])
    if reader.sidecar(view.model_label, "Occlusion")["WeightsHash"] != current:
        stale = "The stored maps are of an earlier decoder of this label; --evaluate makes those of this one."
        return Section(ANCHOR, TITLE, [Paragraph(stale, tone="warning")])
    occlusion = reader.occlusion()
    attention = reader.attention(rollout=False)
    rollout = reader.attention(rollout=True)
    figures = map_figures(occlusion, attention, rollout)
    for name, image in figures.items():
        file = f"sub-{participant}_desc-{view.model_label}_{name}.png"
        write_bytes(view.tree.figures(participant) / file, image)
    return maps_section(occlusion, attention, rollout, figures=figures)


def _why_missing(view: ReportView) -> str:
    if not view.plan.hyperparameters.maps.enabled:
        return "No maps: they are switched off (maps.enabled = false)."
    return (
        "No maps are stored: they are made by --evaluate, from labelled test trials of this participant with at least "
        "one label that some of them have and some have not."
    )


class _Reader:
    """Reads the maps of one participant on one grid."""

    def __init__(self, view: ReportView, run: Run) -> None:
        self._view, self._run = view, run

    def path(self, label: str, kind: MapKind) -> Path:
        return self._view.tree.statmap(self._run, model_label=label, kind=kind)

    def has(self, kind: MapKind) -> bool:
        return self.path(self._view.model_label, kind).exists()

    def sidecar(self, label: str, kind: MapKind) -> dict[str, Any]:
        return read_json(sidecar_path(self.path(label, kind)))

    def occlusion(self) -> OcclusionView:
        label = self._view.model_label
        table, about = read_map_table(self._view.tree.map_table(self._run, model_label=label))
        return OcclusionView(
            brain=self._brain(label, "Occlusion", title="Occlusion", inside=self._inside(whole=True)),
            intact=float(about["IntactMeanAveragePrecision"]),
            floor=float(about["FloorOfMeanAveragePrecision"]),
            names=table.names,
            regions=about["Regions"],
            n_voxels=table.n_voxels,
            centre=table.centre,
            drop=table.drop,
            randomised=table.randomised,
            strongest=table.strongest(),
            n_trials=int(about["NumberOfTrials"]),
            n_stimuli=int(about["NumberOfStimuli"]),
            n_labels=int(about["NumberOfScorableLabels"]),
            decoded_by="" if about["DecodedBy"] == "the decoder" else f", {about['DecodedBy']}",
            trust=_trust(about),
        )

    def attention(self, *, rollout: bool) -> list[AttentionView]:
        """Low, high or class token of the decoder, then the class token of ``ms-emb`` where it was trained too."""
        main = self._view.model_label
        beside = label_beside(main, VARIANTS[MS_EMB.name])
        views = []
        for label, token in ((main, "Low"), (main, "High"), (main, "Class"), (beside, "Class")):
            kind = next(one for one in get_args(MapKind) if one == token + ("Rollout" if rollout else ""))
            if self.path(label, kind).exists():
                views.append(self._attention(label, kind, "MS-EMB" if label == beside else _TITLES[token]))
        return views

    def _attention(self, label: str, kind: MapKind, title: str) -> AttentionView:
        about = self.sidecar(label, kind)
        inside = self._inside(whole=False)
        brain = self._brain(label, kind, title=title, inside=inside)
        brain = BrainMap(title, relative(brain.values, inside), inside, brain.affine, brain.on_template)
        return AttentionView(
            title=title,
            brain=brain,
            local=bool(about["PatchesAreLocal"]),
            places=about["PatchesToVoxels"],
            depth=int(about["NumberOfBlocks"]),
            n_trials=int(about["NumberOfTrials"]),
            trust=_trust(about),
        )

    def _inside(self, *, whole: bool) -> BoolArray:
        """Voxels in regions; without those outside of the decoder's unless ``whole``."""
        label = self._view.model_label
        numbers, _ = read_map(self.path(label, "Regions"))
        names = self.sidecar(label, "Regions")["RegionNames"]
        inside = numbers > 0
        if not whole and names[-1] == "outside":
            inside &= numbers < len(names)
        return np.asarray(inside)

    def _brain(self, label: str, kind: MapKind, *, title: str, inside: BoolArray) -> BrainMap:
        values, affine = read_map(self.path(label, kind))
        on_template = (self._run.space or "").startswith("MNI")
        return BrainMap(title, values.astype(float), inside, affine, on_template)


def _trust(about: Mapping[str, Any]) -> MapTrust:
    def number(name: str) -> float:
        value = about.get(name)
        return nan if value is None else float(value)

    return MapTrust(
        number("SplitHalfReliability"),
        number("RandomisedWeightsCorrelation"),
        number("UniformAttentionCorrelation"),
    )
