"""Runs on disk: raw BOLD, and the derivative that a preprocessing pipeline would have made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids import __version__
from clipmused_bids.simulation.anatomy import REGION_NAMES, Anatomy, smooth_fields
from clipmused_bids.simulation.files import write_bytes, write_json, write_nifti, write_tsv
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.study import SimulatedParticipant, SimulatedRun

_BIDS_VERSION = "1.10.0"
# Arbitrary units of a voxel at rest, in steps of which 1 % signal change is 100.
_BASELINE = 10_000


def participant_label(number: int) -> str:
    """Label of participant ``number`` (from 0): ``01``."""
    return f"{number + 1:02d}"


def raw_file(root: Path, ending: str, *, label: str, task: str, number: int) -> Path:
    """Path of one raw file of a run: ``ending`` is ``bold.nii.gz`` or ``events.tsv``."""
    return root / f"sub-{label}" / "func" / f"sub-{label}_task-{task}_run-{number:02d}_{ending}"


def write_raw_bold(
    root: Path,
    participant: SimulatedParticipant,
    *,
    label: str,
    parameters: SimulationParameters,
    task: str,
) -> None:
    """Write one participant's raw images."""
    anatomy = participant.brain.anatomy
    for number, run in enumerate(participant.runs, start=1):
        write_nifti(
            raw_file(root, "bold.nii.gz", label=label, task=task, number=number),
            _volume(run, anatomy),
            grid=anatomy.grid,
            repetition_time=parameters.repetition_time,
            template=False,
        )


def write_raw_top(
    root: Path,
    *,
    name: str,
    readme: str,
    n_participants: int,
    task: str,
    sidecar: dict[str, Any],
) -> None:
    """Write what stands at the top of a raw dataset, ``sidecar`` being what its BOLD images share."""
    write_json(
        root / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": ["The clipmused-bids developers"],
            "GeneratedBy": [{"Name": "clipmused-bids simulator", "Version": __version__}],
        },
    )
    write_bytes(root / "README.md", readme.encode())
    labels = [f"sub-{participant_label(k)}" for k in range(n_participants)]
    write_tsv(root / "participants.tsv", {"participant_id": labels})
    write_json(root / f"task-{task}_bold.json", {"TaskName": task, **sidecar})


def write_derivative_top(folder: Path, *, name: str) -> None:
    """Write what stands at the top of a derivative: its description and the names of the regions."""
    write_json(
        folder / "dataset_description.json",
        {
            "Name": f"{name}, as fMRIPrep would name them",
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "clipmused-bids simulator", "Version": __version__}],
        },
    )
    # As fMRIPrep does: BIDS has no confounds files yet.
    write_bytes(folder / ".bidsignore", b"*_timeseries.*\n")
    lookup = {"index": range(1, len(REGION_NAMES) + 1), "name": REGION_NAMES}
    write_tsv(folder / "desc-regions_dseg.tsv", lookup)


def write_derivative(
    folder: Path,
    participant: SimulatedParticipant,
    *,
    label: str,
    parameters: SimulationParameters,
    task: str,
) -> None:
    """Write one participant's preprocessed images, masks, confounds and regions."""
    anatomy = participant.brain.anatomy
    template = not parameters.native
    space = "MNI152NLin2009cAsym" if template else "T1w"
    regions = folder / f"sub-{label}" / "anat" / f"sub-{label}_space-{space}_desc-regions_dseg.nii.gz"
    write_nifti(regions, anatomy.dseg(), grid=anatomy.grid, template=template)
    sidecar = {
        "TaskName": task,
        "RepetitionTime": parameters.repetition_time,
        "StartTime": parameters.start_time,
        "SliceTimingCorrected": True,
        "SkullStripped": False,
    }
    for number, run in enumerate(participant.runs, start=1):
        stem = f"sub-{label}_task-{task}_run-{number:02d}"
        func = folder / f"sub-{label}" / "func"
        bold = func / f"{stem}_space-{space}_desc-preproc_bold.nii.gz"
        write_nifti(
            bold,
            _volume(run, anatomy),
            grid=anatomy.grid,
            repetition_time=parameters.repetition_time,
            template=template,
        )
        sources = [f"bids:raw:sub-{label}/func/{stem}_bold.nii.gz"]
        write_json(bold.with_name(bold.name.replace(".nii.gz", ".json")), sidecar | {"Sources": sources})
        mask = func / f"{stem}_space-{space}_desc-brain_mask.nii.gz"
        write_nifti(mask, anatomy.mask.astype(np.uint8), grid=anatomy.grid, template=template)
        write_json(
            mask.with_name(mask.name.replace(".nii.gz", ".json")), {"Type": "Brain", "Sources": sources}
        )
        write_tsv(func / f"{stem}_desc-confounds_timeseries.tsv", run.confounds)
        write_json(func / f"{stem}_desc-confounds_timeseries.json", _confounds_sidecar(run))


def _confounds_sidecar(run: SimulatedRun) -> dict[str, Any]:
    components = [name for name in run.confounds if name.startswith("a_comp_cor")]
    return {
        name: {
            "Method": "aCompCor",
            "Mask": "combined",
            "Retained": True,
            "VarianceExplained": 1 / len(components),
        }
        for name in components
    }


def stored_series(run: SimulatedRun, anatomy: Anatomy) -> NDArray[np.int16]:
    """Percent signal change around a baseline that differs from voxel to voxel, as the integers of the images.

    Returns
    -------
    ndarray of shape (n_scans, n_voxels)
    """
    rng = np.random.default_rng(60)
    tissue = smooth_fields(anatomy.place, n_fields=1, length=30.0, rng=rng)[:, 0]
    baseline = _BASELINE * (1 + 0.15 * np.tanh(tissue))
    values = np.clip(np.round(baseline * (1 + run.series / 100)), 1, np.iinfo(np.int16).max)
    return values.astype(np.int16)


def _volume(run: SimulatedRun, anatomy: Anatomy) -> NDArray[np.int16]:
    """Signal on the grid, 0 outside the brain."""
    values = stored_series(run, anatomy)
    volume = np.zeros((*anatomy.grid.shape, len(values)), dtype=np.int16)
    volume[anatomy.mask] = values.T
    return volume
