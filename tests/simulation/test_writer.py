from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from nilearn.interfaces.fmriprep import load_confounds
from PIL import Image

from clipmused_bids.errors import CannotCreateError
from clipmused_bids.simulation.anatomy import REGION_NAMES
from clipmused_bids.simulation.demo import main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.scenes import CATEGORIES
from clipmused_bids.simulation.study import Study, make_participant
from clipmused_bids.simulation.writer import write_dataset

STEM = "sub-02_task-scenes_run-01"
SPACE = "space-MNI152NLin2009cAsym"


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("part", [".", "derivatives/fmriprep"])
def test_validator_finds_no_errors(dataset: tuple[Path, Study], part: str) -> None:
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    assert validator is not None
    command = [validator, str(dataset[0] / part), "--format", "json"]
    report = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    assert [issue for issue in report["issues"]["issues"] if issue["severity"] == "error"] == []
    assert report["summary"]["totalFiles"] > 10


def test_the_seed_fixes_every_byte(
    dataset: tuple[Path, Study], small: SimulationParameters, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "again", small)
    assert hashes(tmp_path / "again") == hashes(dataset[0])
    write_dataset(tmp_path / "other", replace(small, seed=4))
    first, other = hashes(dataset[0]), hashes(tmp_path / "other")
    assert first["stimuli/stim-0001_image.png"] != other["stimuli/stim-0001_image.png"]


def test_events_stimuli_and_labels_belong_together(dataset: tuple[Path, Study]) -> None:
    root, study = dataset
    table = pd.read_csv(root / "stimuli" / "stimuli.tsv", sep="\t").set_index("stimulus_id")
    assert list(table.columns[:4]) == ["type", "filename", "present", "description"]
    assert len(table) == study.parameters.n_stimuli
    events = pd.read_csv(root / "sub-02" / "func" / f"{STEM}_events.tsv", sep="\t")
    assert list(events.columns) == ["onset", "duration", "trial_type", "stim_file", "stim_id"]
    assert (table.loc[events["stim_id"], "filename"].to_numpy() == events["stim_file"].to_numpy()).all()
    run = make_participant(study, 1).runs[0]
    labels = study.bank.labels[study.stimuli.scene[run.schedule.stimulus]]
    np.testing.assert_array_equal(table.loc[events["stim_id"], list(CATEGORIES)].to_numpy(), labels)
    for _, row in table.iterrows():
        said = {word for word in row["description"].replace(",", "").split() if word in CATEGORIES}
        assert said == {name for name in CATEGORIES if row[name] == 1}
        with Image.open(root / "stimuli" / row["filename"]) as picture:
            assert picture.size == (64, 64)
    sentences = pd.read_csv(root / "stimuli" / "captions.tsv", sep="\t")
    assert sentences.groupby("stimulus_id").size().eq(2).all()


def test_images_are_those_of_the_simulation(dataset: tuple[Path, Study]) -> None:
    root, study = dataset
    func = root / "derivatives" / "fmriprep" / "sub-02" / "func"
    image = nib.load(func / f"{STEM}_{SPACE}_desc-preproc_bold.nii.gz")
    mask = np.asarray(nib.load(func / f"{STEM}_{SPACE}_desc-brain_mask.nii.gz").dataobj).astype(bool)
    participant = make_participant(study, 1)
    np.testing.assert_array_equal(mask, participant.brain.anatomy.mask)
    values = np.asarray(image.dataobj)
    assert not values[~mask].any()
    series = values[mask].T.astype(float)
    percent = 100 * (series / series.mean(axis=0) - 1)
    truth = participant.runs[0].series
    np.testing.assert_allclose(percent, (100 + truth) / (100 + truth.mean(axis=0)) * 100 - 100, atol=0.02)
    assert image.header.get_zooms()[3] == 2.0
    sidecar = json.loads((func / f"{STEM}_{SPACE}_desc-preproc_bold.json").read_text())
    assert {key: sidecar[key] for key in ("RepetitionTime", "StartTime", "SkullStripped")} == {
        "RepetitionTime": 2.0, "StartTime": 1.0, "SkullStripped": False
    }  # fmt: skip


def test_regions_have_a_lookup(dataset: tuple[Path, Study]) -> None:
    folder = dataset[0] / "derivatives" / "fmriprep"
    lookup = pd.read_csv(folder / "desc-regions_dseg.tsv", sep="\t").set_index("index")["name"]
    assert tuple(lookup) == REGION_NAMES
    dseg = nib.load(folder / "sub-01" / "anat" / f"sub-01_{SPACE}_desc-regions_dseg.nii.gz")
    values = np.asarray(dseg.dataobj)
    assert set(np.unique(values)) == {0, *lookup.index}
    x = nib.affines.apply_affine(dseg.affine, np.argwhere(values == lookup[lookup == "LV1"].index[0]))[:, 0]
    assert x.max() <= 0  # RAS+: left is negative


@pytest.mark.parametrize(
    "strategy", [("motion", "wm_csf", "high_pass"), ("compcor", "high_pass"), ("scrub", "motion")]
)
def test_nilearn_reads_the_confounds(dataset: tuple[Path, Study], strategy: tuple[str, ...]) -> None:
    func = dataset[0] / "derivatives" / "fmriprep" / "sub-02" / "func"
    image = func / f"{STEM}_{SPACE}_desc-preproc_bold.nii.gz"
    confounds, _ = load_confounds(str(image), strategy=strategy)
    assert len(confounds) == nib.load(image).shape[3]
    assert not confounds.isna().to_numpy().any()
    if "motion" in strategy:
        assert sum(name.startswith(("trans", "rot")) for name in confounds) == 24


def test_truth_is_written_beside(dataset: tuple[Path, Study]) -> None:
    root, study = dataset
    truth = json.loads((root / "sourcedata" / "simulation" / "truth.json").read_text())
    assert truth["parameters"]["seed"] == 3
    assert truth["shared_stimuli"] == ["stim-0001", "stim-0002", "stim-0003", "stim-0004"]
    expected = make_participant(study, 0)
    assert truth["participants"]["01"]["n_voxels"] == len(expected.brain.anatomy.place)
    assert 0 < truth["participants"]["01"]["oracle_map_single_trials"] <= 1
    voxels = pd.read_csv(
        root / "sourcedata" / "simulation" / "sub-01_voxels.tsv", sep="\t", keep_default_na=False
    )
    np.testing.assert_allclose(voxels["noise_ceiling"], expected.truth.noise_ceiling, rtol=1e-5)
    place = voxels[["i", "j", "k"]].to_numpy()
    np.testing.assert_array_equal(place, np.argwhere(expected.brain.anatomy.mask))
    assert set(voxels["region"]) == {"n/a", *REGION_NAMES}


def test_native_participants_have_their_own_grids(small: SimulationParameters, tmp_path: Path) -> None:
    write_dataset(tmp_path / "native", replace(small, native=True))
    images = sorted((tmp_path / "native" / "derivatives").rglob("*run-01_space-T1w_desc-preproc_bold.nii.gz"))
    first, second = (nib.load(path) for path in images)
    assert first.shape[:3] != second.shape[:3] or not np.allclose(first.affine, second.affine)


def test_copies_are_the_same_bytes_under_other_names(small: SimulationParameters, tmp_path: Path) -> None:
    write_dataset(tmp_path / "leak", replace(small, leak="copies"))
    pictures = hashes(tmp_path / "leak" / "stimuli")
    content = [pictures[name] for name in sorted(pictures) if name.endswith(".png")]
    assert len(set(content)) == len(content) - 2 * small.n_shared


def test_a_folder_with_content_is_not_touched(small: SimulationParameters, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CannotCreateError, match="not empty"):
        write_dataset(tmp_path, small)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_command(tmp_path: Path) -> None:
    arguments = ["--participants=1", "--trials=12", "--runs=2", "--shared=2", "--repeated-own=1", "--seed=5"]
    done = CliRunner().invoke(main, [str(tmp_path / "demo"), *arguments])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "demo").glob("sub-01/func/*_events.tsv"))) == 2
    refused = CliRunner().invoke(main, [str(tmp_path / "demo"), *arguments])
    assert refused.exit_code == 73
    assert "not empty" in refused.output
    assert CliRunner().invoke(main, [str(tmp_path / "x"), "--trials", "7"]).exit_code == 64
