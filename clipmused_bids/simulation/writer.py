"""A simulated study as a BIDS dataset: raw data, stimuli, an fMRIPrep-named derivative, and the truth.

The truth lies in ``sourcedata/simulation``, which no analysis reads.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.simulation.anatomy import REGION_NAMES
from clipmused_bids.simulation.files import make_folder, write_json, write_png, write_tsv
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.run_files import (
    participant_label,
    raw_file,
    write_derivative,
    write_derivative_top,
    write_raw_bold,
    write_raw_top,
)
from clipmused_bids.simulation.scenes import CATEGORIES, captions
from clipmused_bids.simulation.study import (
    SimulatedParticipant,
    Study,
    make_participant,
    make_study,
)

_log = logging.getLogger(__name__)
TASK = "scenes"
_NAME = "Simulated scenes"
_README = """# Simulated scenes

Nobody was scanned. {n_participants} simulated participants saw procedural scenes ({n_trials} trials each, {n_shared}
stimuli seen by all, {n_repeats} times each); seed {seed}. Early areas follow local image energy, late areas the
meaning of the scenes. The raw images equal the preprocessed ones: the simulator moves no voxels, only signals.
`sourcedata/simulation` holds the answer: parameters, true noise ceilings, and the score of the best possible decoder.
"""


def write_dataset(root: Path, parameters: SimulationParameters) -> Study:
    """Simulate a study and write it.

    Parameters
    ----------
    root : Path
        An empty or new folder.
    parameters : SimulationParameters

    Raises
    ------
    CannotCreateError
        If the folder holds anything, or cannot be written.
    """
    make_folder(root)
    study = make_study(parameters)
    _write_top(root, parameters)
    _write_stimuli(root / "stimuli", study)
    derivative = root / "derivatives" / "fmriprep"
    write_derivative_top(derivative, name=_NAME)
    truth: dict[str, Any] = {}
    for number in range(parameters.n_participants):
        label = participant_label(number)
        participant = make_participant(study, number)
        _write_events(root, participant, label=label, parameters=parameters)
        write_raw_bold(root, participant, label=label, parameters=parameters, task=TASK)
        write_derivative(derivative, participant, label=label, parameters=parameters, task=TASK)
        truth[label] = _write_voxels(root, participant, label=label)
        _log.info("sub-%s written: %s", label, truth[label])
    _write_truth(root, study, truth)
    return study


def stimulus_name(number: int) -> str:
    """Identifier of a stimulus (from 0): ``stim-0001``."""
    return f"stim-{number + 1:04d}"


def _write_top(root: Path, parameters: SimulationParameters) -> None:
    write_raw_top(
        root,
        name=_NAME,
        readme=_README.format(**asdict(parameters)),
        n_participants=parameters.n_participants,
        task=TASK,
        sidecar={"RepetitionTime": parameters.repetition_time, "Instructions": "Look at the pictures."},
    )
    write_json(
        root / f"task-{TASK}_events.json",
        {
            "trial_type": {"Description": "Kind of event", "Levels": {"scene": "A picture of a scene"}},
            "stim_id": {"Description": "Row of stimuli/stimuli.tsv"},
            "stim_file": {"Description": "Picture, relative to the stimuli folder"},
        },
    )


def _write_stimuli(folder: Path, study: Study) -> None:
    numbers = range(len(study.stimuli.scene))
    scenes = [study.bank.scenes[k] for k in study.stimuli.scene]
    sentences = [captions(scene) for scene in scenes]
    for number, scene in zip(numbers, study.stimuli.scene, strict=True):
        write_png(folder / picture_name(number), study.bank.images[scene])
    labels = study.bank.labels[study.stimuli.scene]
    table: dict[str, Any] = {
        "stimulus_id": [stimulus_name(k) for k in numbers],
        "type": ["image" for _ in numbers],
        "filename": [picture_name(k) for k in numbers],
        "present": ["true" for _ in numbers],
        "description": [several[0] for several in sentences],
    }
    write_tsv(folder / "stimuli.tsv", table | {name: labels[:, c] for c, name in enumerate(CATEGORIES)})
    described = {
        "description": {"Description": "What the picture shows, in a sentence"},
        **{
            name: {"Description": f"Whether the picture shows a {name} (1) or not (0)"} for name in CATEGORIES
        },
    }
    write_json(folder / "stimuli.json", described)
    rows = [
        (stimulus_name(k), sentence)
        for k, several in zip(numbers, sentences, strict=True)
        for sentence in several
    ]
    write_tsv(folder / "captions.tsv", {"stimulus_id": [r[0] for r in rows], "caption": [r[1] for r in rows]})


def picture_name(number: int) -> str:
    """File of a stimulus (from 0), by which events name it."""
    return f"{stimulus_name(number)}_image.png"


def _write_events(
    root: Path, participant: SimulatedParticipant, *, label: str, parameters: SimulationParameters
) -> None:
    for number, run in enumerate(participant.runs, start=1):
        shown = run.schedule.stimulus.tolist()
        write_tsv(
            raw_file(root, "events.tsv", label=label, task=TASK, number=number),
            {
                "onset": run.schedule.onset,
                "duration": [parameters.duration] * len(shown),
                "trial_type": ["scene"] * len(shown),
                "stim_file": [picture_name(k) for k in shown],
                "stim_id": [stimulus_name(k) for k in shown],
            },
        )


def _write_voxels(root: Path, participant: SimulatedParticipant, *, label: str) -> dict[str, Any]:
    anatomy, truth = participant.brain.anatomy, participant.truth
    index = np.argwhere(anatomy.mask)
    names = [REGION_NAMES[k] if k >= 0 else "n/a" for k in anatomy.region]
    write_tsv(
        root / "sourcedata" / "simulation" / f"sub-{label}_voxels.tsv",
        {
            **{axis: index[:, k] for k, axis in enumerate("ijk")},
            "region": names,
            "ncsnr": truth.ncsnr,
            "noise_ceiling": truth.noise_ceiling,
        },
    )
    responsive = anatomy.region >= 0
    return {
        "n_voxels": len(index),
        "n_voxels_in_regions": int(responsive.sum()),
        "median_ncsnr": round(float(np.median(truth.ncsnr[responsive])), 4),
        "median_noise_ceiling": round(float(np.median(truth.noise_ceiling[responsive])), 4),
        "oracle_map_single_trials": truth.oracle_single,
        "oracle_map_repeats_averaged": truth.oracle_averaged,
    }


def _write_truth(root: Path, study: Study, participants: dict[str, Any]) -> None:
    content = {
        "parameters": asdict(study.parameters),
        "shared_stimuli": [stimulus_name(int(k)) for k in study.stimuli.shared],
        "participants": participants,
    }
    write_json(root / "sourcedata" / "simulation" / "truth.json", content)
