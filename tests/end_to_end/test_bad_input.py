"""Participants that fail, requests without a decoder, and a real placeholder image."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Command, bold_of

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
real_data = [
    pytest.mark.real_data,
    pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set"),
]


def broken(study: Path) -> Path:
    path = bold_of(study, "01", 2)
    path.write_bytes(path.read_bytes()[:2000])
    return study


def test_one_broken_participant_does_not_stop_the_other(
    own_study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--clip-model", "demo", "--config-file", quick)
    done = command(broken(own_study), out, "participant", "--prepare", *words)
    assert done.returncode == 65
    assert "1 participant(s) failed:\n  sub-01  exit 65  " in done.stderr
    assert "\n  hint: copy or fetch the file again" in done.stderr
    assert len(list(out.glob("sub-02/func/*_responses.safetensors"))) == 3


@pytest.mark.parametrize("level", ["group", "participant"])
def test_the_others_are_trained_decoded_and_scored(
    own_study: Path, command: Command, tmp_path: Path, level: str
) -> None:
    out = tmp_path / "out"
    actions = ("--prepare", "--train", "--decode", "--evaluate")
    done = command(broken(own_study), out, level, *actions, "--method", "ridge-pooled")
    assert done.returncode == 65
    assert "Going on without sub-01." in done.stderr
    assert done.stderr.count("sub-01  exit") == 1
    assert "no decoder" not in done.stderr
    name = "model.safetensors" if level == "group" else "sub-02_model.safetensors"
    assert [path.name for path in out.glob("models/ridgepooled/*.safetensors")] == [name]
    assert len(list(out.glob("sub-02/func/*_desc-ridgepooled_predictions.tsv"))) == 3
    assert len(list(out.glob("sub-02/func/*_desc-ridgepooled_metrics.tsv"))) == 3
    assert not list(out.glob("sub-01/func/*_desc-ridgepooled_predictions.tsv"))


def test_events_that_are_no_file_fail_one_participant(
    own_study: Path, command: Command, tmp_path: Path
) -> None:
    """Also where that participant was not asked for: the split is then made without."""
    (events,) = own_study.glob("sub-01/func/*run-02_events.tsv")
    events.unlink()
    events.mkdir()
    done = command(own_study, tmp_path / "both", "group", "--train", "--method", "ridge")
    assert done.returncode == 66
    assert "1 participant(s) failed:\n  sub-01  exit 66" in done.stderr
    assert (tmp_path / "both" / "models" / "ridge" / "sub-02_model.safetensors").exists()
    words = ("participant", "--participant-label", "02", "--train", "--method", "ridge")
    done = command(own_study, tmp_path / "one", *words)
    assert done.returncode == 0, done.stderr
    assert "sub-01: left out of the split: " in done.stderr


def test_what_may_not_be_read_is_named(
    own_study: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of one participant fails that participant; the folder of stimuli, everyone."""
    scandir, is_file = os.scandir, Path.is_file

    def denied(place: object) -> PermissionError:
        return PermissionError(errno.EACCES, "Permission denied", str(place))

    def listing(place: object = ".") -> object:
        if str(place) == str(own_study / "sub-01" / "func"):
            raise denied(place)
        return scandir(place)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", listing)
    words = ("group", "--train", "--method", "ridge")
    done = command(own_study, tmp_path / "out", *words)
    assert done.returncode == 66
    assert "sub-01/func: the folder cannot be listed (Permission denied)" in done.stderr
    assert (tmp_path / "out" / "models" / "ridge" / "sub-02_model.safetensors").exists()
    monkeypatch.setattr(os, "scandir", scandir)

    def looked_at(path: Path) -> bool:
        if path.name == "stimuli.tsv":
            raise denied(path)
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", looked_at)
    done = command(own_study, tmp_path / "other", *words)
    assert done.returncode == 66
    assert f"error: {own_study}/stimuli/stimuli.tsv: permission denied." in done.stderr


def test_a_filter_file_that_cannot_be_read_is_said_once(
    study: Path, command: Command, tmp_path: Path
) -> None:
    words = ("group", "--method", "ridge", "--bids-filter-file", tmp_path / "none.json")
    done = command(study, tmp_path / "out", *words)
    assert done.returncode == 66
    assert done.stderr.count("none.json: No such file") == 1


def test_another_configuration_is_refused_before_anything_is_computed(
    study: Path, command: Command, tmp_path: Path
) -> None:
    """Responses of two kinds may be stored side by side, decoders under one label may not."""
    out = tmp_path / "out"
    words = ("group", "--train", "--method", "ridge")
    assert command(study, out, *words).returncode == 0
    before = sorted(out.rglob("*"))
    done = command(study, out, *words, "--response", "window")
    assert done.returncode == 73
    assert "response_kind: then lss, now window" in done.stderr
    assert sorted(out.rglob("*")) == before
    done = command(study, out, *words, "--response", "window", "--overwrite")
    assert done.returncode == 0, done.stderr


def test_other_labels_of_the_same_names_train_another_decoder(
    study: Path, command: Command, tmp_path: Path
) -> None:
    table = tmp_path / "labels.tsv"
    names = [f"stim-{k:04d}_image.png" for k in range(1, 131)]

    def label(period: int) -> None:
        rows = "".join(f"{name}\t{int(k % period == 0)}\t1\n" for k, name in enumerate(names))
        table.write_text(f"stimulus_id\todd\tall\n{rows}")

    words = ("group", "--train", "--method", "ridge", "--labels", table)
    label(2)
    assert command(study, tmp_path / "out", *words).returncode == 0
    done = command(study, tmp_path / "out", *words)
    assert (done.returncode, done.stderr.count(" reused.")) == (0, 2)
    label(3)
    done = command(study, tmp_path / "out", *words)
    assert done.returncode == 73
    assert "stimuli.labels_sha256: then" in done.stderr


def test_a_scratch_folder_that_is_a_file_is_refused_at_once(
    study: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for more in ((), ("--dry-run",)):
        words = ("group", "--method", "ridge", "--work-dir", tmp_path / "file", *more)
        done = command(study, tmp_path / "out", *words)
        assert done.returncode == 73
        assert "hint: give another --work-dir" in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--lag", "3"), "Not used: --lag; responses by lss have no such setting."),
        (
            ("--response", "window", "--hrf", "spm"),
            "Not used: --hrf; responses by window have no such setting.",
        ),
        (("--clip-model", "demo"), "Not used: targets.clip_model; ridge reads no features of stimuli."),
        (("--targets", "no.safetensors"), "Not used: --targets; ridge reads no features of stimuli."),
        (("--response", "window", "--lag", "3"), None),
        (("--hrf", "spm"), None),
    ],
)
def test_options_that_change_nothing_are_named(
    study: Path, command: Command, tmp_path: Path, words: tuple[str, ...], line: str | None
) -> None:
    done = command(study, tmp_path / "out", "group", "--dry-run", "--method", "ridge", *words)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert line in said if line else "Not used" not in said


def test_the_interval_of_movies_needs_a_movie(study: Path, command: Command, tmp_path: Path) -> None:
    done = command(study, tmp_path / "out", "group", "--method", "ridge", "--frame-interval", "2")
    assert done.returncode == 64
    assert "--frame-interval 2: no events of this request show movies" in done.stderr


def test_the_first_crash_may_end_the_run(own_study: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        broken(own_study),
        tmp_path / "out",
        "participant",
        "--prepare",
        "--method",
        "ridge",
        "--stop-on-first-crash",
    )
    assert done.returncode == 65
    assert "sub-01" in done.stderr.splitlines()[-2]
    assert done.stderr.splitlines()[-1].startswith("hint: ")
    assert "failed:" not in done.stderr
    assert not list((tmp_path / "out").glob("sub-02/func/*"))


def test_names_that_are_no_text(study: Path, command: Command, tmp_path: Path) -> None:
    """Folders whose bytes are no UTF-8, as older systems wrote them."""
    bids = tmp_path / os.fsdecode(b"\xe9tude")
    out = tmp_path / os.fsdecode(b"r\xe9sultats")
    shutil.copytree(study, bids)
    done = command(bids, out, "group", "--train", "--method", "ridge")
    assert done.returncode == 0, done.stderr
    links = json.loads((out / "dataset_description.json").read_text("utf-8"))["DatasetLinks"]
    assert links["raw"] == "../%E9tude"
    (config,) = out.glob("logs/*/config.toml")
    assert tomllib.loads(config.read_text("utf-8"))["bids_dir"] == "%E9tude"
    assert command(bids, out, "group", "--dry-run", "--method", "ridge").returncode == 0


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
