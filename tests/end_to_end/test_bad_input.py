"""Bad input through the command: one screen, the right code, a hint, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from tests.end_to_end.conftest import Command

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
real_data = [
    pytest.mark.real_data,
    pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set"),
]


def derivative(study: Path) -> Path:
    return study / "derivatives" / "fmriprep"


def bold_of(study: Path, participant: str, run: int) -> Path:
    (found,) = derivative(study).glob(f"sub-{participant}/func/*run-{run:02d}_*desc-preproc_bold.nii.gz")
    return found


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], *, shift: float = 0.0) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    changed = nibabel.Nifti1Image(change(image.get_fdata(dtype=np.float32)), affine, image.header)
    changed.set_data_dtype(np.float32)
    nibabel.save(changed, path)


def no_derivative(study: Path) -> None:
    shutil.rmtree(study / "derivatives")


def no_events(study: Path) -> None:
    for path in study.glob("sub-*/func/*_events.tsv"):
        path.unlink()


def nothing_named(study: Path) -> None:
    for path in study.glob("sub-*/func/*_events.tsv"):
        pd.read_csv(path, sep="\t")[["onset", "duration"]].to_csv(path, sep="\t", index=False)


def empty_events(study: Path) -> None:
    for path in study.glob("sub-*/func/*_events.tsv"):
        path.write_text(path.read_text().splitlines()[0] + "\n")


def truncated(study: Path) -> None:
    for participant in ("01", "02"):
        path = bold_of(study, participant, 2)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def all_zero(study: Path) -> None:
    for participant in ("01", "02"):
        rewrite(bold_of(study, participant, 2), np.zeros_like)


def nan_in_mask(study: Path) -> None:
    def half(values: np.ndarray) -> np.ndarray:
        holes = values.astype(np.float32)
        holes[: len(values) // 2] = np.nan
        return holes

    for participant in ("01", "02"):
        rewrite(bold_of(study, participant, 2), half)


def other_grid(study: Path) -> None:
    for participant in ("01", "02"):
        rewrite(bold_of(study, participant, 2), lambda values: values, shift=3.0)


def not_labelled(study: Path) -> None:
    path = study / "stimuli" / "stimuli.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str)
    table["stimulus_id"] = "another-" + table["stimulus_id"]
    table["filename"] = "n/a"
    table.to_csv(path, sep="\t", index=False)


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (no_derivative, 16, "-d"),
        (no_events, 16, "events"),
        (nothing_named, 65, "--stimulus-column"),
        (empty_events, 65, "no rows"),
        (truncated, 65, "run-02"),
        (all_zero, 65, "constant"),
        (nan_in_mask, 65, "NaN"),
        (other_grid, 65, "grid"),
        (not_labelled, 65, "no label"),
    ],
)
def test_damaged_datasets(
    own_study: Path, quick: Path, command: Command, tmp_path: Path,
    damage: Callable[[Path], None], code: int, message: str,
) -> None:  # fmt: skip
    damage(own_study)
    out = tmp_path / "out"
    done = command(own_study, out, "group", "--train", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 40
    assert not list(out.rglob("*.tmp")) if out.exists() else True
    assert not list(out.glob("models/*/*.safetensors"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--participant-label", "07"), 18, "02"),
        (("-t", "rest"), 18, "scenes"),
        (("--run-id", "9"), 18, "--run-id"),
        (("--space", "T1w"), 18, "MNI152NLin2009cAsym"),
        (("-d", "/no/such/folder"), 66, "/no/such/folder"),
        (("--labels", "/no/such/labels.tsv"), 66, "/no/such/labels.tsv"),
        (("--mask", "/no/such/mask.nii.gz"), 66, "/no/such/mask.nii.gz"),
        (("--split", "runs:9"), 18, "9"),
        (("--split", "column:nothing"), 64, "nothing"),
        (("--split", "/no/such/split.tsv"), 66, "runs:N"),
        (("--stimulus-column", "nothing"), 64, "stim_file"),
        (("--stimulus-index-base", "1"), 64, "no --stimuli-dir is a bank"),
        (("--stimulus-map", "/no/such/map.tsv"), 66, "/no/such/map.tsv"),
        (("--stimuli-dir", "/no/such/folder"), 66, "/no/such/folder"),
        (
            ("--stimuli-dir", "/no/such/bank.hdf5:/images", "--stimulus-index-base", "0"),
            66,
            "/no/such/bank.hdf5",
        ),
        (("--clip-model", "RN50"), 64, "ViT"),
        (("--clip-model", "ViT-B-16"), 66, "hint:"),
        (("--atlas", "/no/such/atlas.nii.gz"), 66, "/no/such/atlas.nii.gz"),
    ],
)
def test_requests_that_select_nothing_or_name_nothing(
    study: Path,
    quick: Path,
    command: Command,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    done = command(
        study, tmp_path / "out", "group", "--train", "--clip-model", "demo", "--config-file", quick, *words,
        OPEN_CLIP_CACHE=str(tmp_path), HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_broken_participant_does_not_stop_the_other(
    own_study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    path = bold_of(own_study, "01", 2)
    path.write_bytes(path.read_bytes()[:2000])
    out = tmp_path / "out"
    done = command(own_study, out, "participant", "--prepare", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 65
    assert "1 participant(s) failed" in done.stderr
    assert len(list(out.glob("sub-02/func/*_responses.safetensors"))) == 3


def test_an_output_folder_that_is_something_else_is_left_alone(
    study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "mine", "BIDSVersion": "1.10.0"}))
    done = command(study, tmp_path, "group", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 73
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_description.json"]


def test_a_file_in_the_place_of_the_output_folder(study: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    done = command(study, tmp_path / "out", "group")
    assert done.returncode == 73
    assert "a file, not a folder" in done.stderr


def test_decode_without_a_decoder(study: Path, command: Command, tmp_path: Path) -> None:
    done = command(study, tmp_path / "out", "participant", "--decode")
    assert done.returncode == 66
    assert "group --train" in done.stderr
    assert not (tmp_path / "out").exists()


class TestRealConstantImage:
    pytestmark = real_data

    def test_the_file_is_named(self, command: Command, tmp_path: Path) -> None:
        """fMRIPrep's own names and sidecars around an image of zeros."""
        bids = tmp_path / "bids"
        (bids / "sub-03" / "func").mkdir(parents=True)
        (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
        rows = "".join(f"{12 * k}\t12\t{'face' if k % 2 else 'house'}\n" for k in range(20))
        (bids / "sub-03" / "func" / "sub-03_task-flocBLOCKED_events.tsv").write_text(
            f"onset\tduration\ttrial_type\n{rows}"
        )
        done = command(
            bids,
            tmp_path / "out",
            "participant",
            "--prepare",
            "-d",
            f"{DATA}/fmriprep_layout",
            "--method",
            "ridge",
        )
        assert done.returncode == 65
        assert "sub-03_task-flocBLOCKED" in done.stderr
        assert ".nii.gz" in done.stderr


def test_a_gzip_that_is_no_image(own_study: Path, quick: Path, command: Command, tmp_path: Path) -> None:
    for participant in ("01", "02"):
        bold_of(own_study, participant, 1).write_bytes(gzip.compress(b"not an image"))
    done = command(
        own_study, tmp_path / "out", "participant", "--prepare", "--method", "ridge", "--config-file", quick
    )
    assert done.returncode in {65, 66}
    assert "run-01" in done.stderr
    assert "Traceback" not in done.stderr
