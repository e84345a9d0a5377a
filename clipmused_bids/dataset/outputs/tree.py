"""The output tree: where every file lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipmused_bids.dataset.runs.names import file_stem
from clipmused_bids.records import Run

# What tells the grids of two images of one participant apart.
_GRID_ENTITIES = ("space", "cohort", "res", "den")


@dataclass(frozen=True)
class OutputTree:
    """Names of everything in an output folder; makes no file by itself.

    Parameters
    ----------
    root : Path
        OUTPUT_DIR.
    """

    root: Path

    def func_folder(self, run: Run) -> Path:
        """Folder of one run's files: ``sub-01/[ses-02/]func``."""
        folder = self.participant_folder(run.participant)
        return (folder / f"ses-{run.session}" if run.session is not None else folder) / "func"

    def participant_folder(self, participant: str) -> Path:
        """Folder of one participant."""
        return self.root / f"sub-{participant}"

    def responses(self, run: Run, *, kind: str) -> Path:
        """Array file of one run's responses; the ``.json`` and ``.tsv`` of the same stem belong to it."""
        return self._run_file(run, desc=kind, suffix="responses", extension=".safetensors")

    def response_image(self, run: Run, *, kind: str) -> Path:
        """Exported responses of one run."""
        return self._run_file(run, desc=kind, suffix="statmap", extension=".nii.gz")

    def response_trials(self, run: Run, *, kind: str) -> Path:
        """Table of the trials of exported responses."""
        return self._run_file(run, desc=kind, suffix="trials", extension=".tsv")

    def response_mask(self, run: Run) -> Path:
        """Mask of the voxels of exported responses."""
        return self._run_file(run, desc="brain", suffix="mask", extension=".nii.gz")

    def predictions(self, run: Run, *, model_label: str) -> Path:
        """Table of one run's predictions."""
        return self._run_file(run, desc=model_label, suffix="predictions", extension=".tsv")

    def run_metrics(self, run: Run, *, model_label: str) -> Path:
        """Table of one run's scores."""
        return self._run_file(run, desc=model_label, suffix="metrics", extension=".tsv")

    def group_metrics(self, *, model_label: str) -> Path:
        """Table of the scores of all participants."""
        return self.root / f"group_desc-{model_label}_metrics.tsv"

    def group_table(
        self, *, model_label: str, kind: Literal["comparison", "labels", "folds", "timing"]
    ) -> Path:
        """Table of what is told beside the scores: rivals, single labels, folds, seconds."""
        return self.root / f"group_desc-{model_label}_{kind}.tsv"

    def statmap(
        self, participant: str, *, space: str | None, model_label: str, level: Literal["Low", "High"]
    ) -> Path:
        """Brain map of one participant and level."""
        entities = {"sub": participant} if space is None else {"sub": participant, "space": space}
        stem = file_stem(entities, desc=f"{model_label}{level}", suffix="statmap")
        return self.participant_folder(participant) / "func" / f"{stem}.nii.gz"

    def voxel_map(self, run: Run, *, desc: str) -> Path:
        """Brain map of one participant on the grid of his runs, whatever the decoder."""
        return self._participant_file(run, desc=desc, suffix="statmap", extension=".nii.gz")

    def voxel_summary(self, run: Run, *, desc: str) -> Path:
        """Table of what such a map says, in one row."""
        return self._participant_file(run, desc=desc, suffix="metrics", extension=".tsv")

    def tokens(self, run: Run, *, model_label: str) -> Path:
        """Array file of what a decoder's tokens become for one participant's test stimuli."""
        return self._participant_file(run, desc=model_label, suffix="tokens", extension=".safetensors")

    def figures(self, participant: str) -> Path:
        """Folder of one participant's figures."""
        return self.participant_folder(participant) / "figures"

    def report(self, participant: str | None) -> Path:
        """HTML report of one participant, or of the group (None)."""
        return self.root / ("group.html" if participant is None else f"sub-{participant}.html")

    @property
    def split(self) -> Path:
        """Table of the sets."""
        return self.root / "split.tsv"

    @property
    def stimuli(self) -> Path:
        """Catalogue of the stimuli."""
        return self.root / "stimuli" / "stimuli.tsv"

    def embeddings(self, clip_model: str) -> Path:
        """Folder of the CLIP features of one model; its name keeps letters, digits and ``+`` only."""
        return self.root / "stimuli" / f"desc-{bids_label(clip_model)}_embeddings"

    def model_folder(self, model_label: str, *, fold: int | None = None) -> Path:
        """Folder of one decoder, or of one for each participant; ``fold``: of those of a fold of a cross-validation."""
        folder = self.root / "models" / model_label
        return folder if fold is None else folder / "folds" / str(fold)

    def log_folder(self, run_uuid: str) -> Path:
        """Folder of the configuration and log of one run of the program."""
        return self.root / "logs" / run_uuid

    @property
    def citation(self) -> Path:
        """Methods text with references."""
        return self.root / "logs" / "CITATION.md"

    def uri(self, path: Path) -> str:
        """BIDS URI of a file in this tree: ``bids::sub-01/func/...``."""
        return f"bids::{path.relative_to(self.root).as_posix()}"

    def _participant_file(self, run: Run, *, desc: str, suffix: str, extension: str) -> Path:
        entities = {name: label for name, label in run.entities.items() if name in _GRID_ENTITIES}
        stem = file_stem({"sub": run.participant, **entities}, desc=desc, suffix=suffix)
        return self.participant_folder(run.participant) / "func" / f"{stem}{extension}"

    def _run_file(self, run: Run, *, desc: str, suffix: str, extension: str) -> Path:
        return self.func_folder(run) / f"{file_stem(run.entities, desc=desc, suffix=suffix)}{extension}"


def bids_label(text: str) -> str:
    """Keep what a BIDS label may hold: ``ViT-B-16`` becomes ``ViTB16``."""
    return re.sub(r"[^0-9a-zA-Z+]", "", text)
