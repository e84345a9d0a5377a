"""The table of exit codes: each through the command, one screen, a hint, no traceback, nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.errors import ExitCode
from clipmused_bids.stages import invocation
from tests.end_to_end.conftest import Command, bold_of

AS_ROOT = os.geteuid() == 0
RIDGE = ("--method", "ridge", "--device", "cpu")


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], *, shift: float = 0.0) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    changed = nibabel.Nifti1Image(change(image.get_fdata(dtype=np.float32)), affine, image.header)
    changed.set_data_dtype(np.float32)
    nibabel.save(changed, path)


def of_second_runs(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(study: Path) -> None:
        for participant in ("01", "02"):
            change(bold_of(study, participant, 2))

    return damage


def of_events(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(study: Path) -> None:
        for path in study.glob("sub-*/func/*_events.tsv"):
            change(path)

    return damage


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_holes(path: Path) -> None:
    def half(values: np.ndarray) -> np.ndarray:
        values[: len(values) // 2] = np.nan
        return values

    rewrite(path, half)


def damaged_inside(path: Path) -> None:
    """A byte of the packed data differs: the checksum at the end must tell."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def not_labelled(study: Path) -> None:
    path = study / "stimuli" / "stimuli.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str)
    table["stimulus_id"] = "another-" + table["stimulus_id"]
    table["filename"] = "n/a"
    table.to_csv(path, sep="\t", index=False)


def only_times(path: Path) -> None:
    pd.read_csv(path, sep="\t")[["onset", "duration"]].to_csv(path, sep="\t", index=False)


def without_rows(path: Path) -> None:
    path.write_text(path.read_text().splitlines()[0] + "\n")


def broken_description(study: Path) -> None:
    (study / "dataset_description.json").write_text('{"Name": ')


def not_fetched(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../../../.git/annex/objects/Xx/key")


DAMAGES: tuple[tuple[Callable[[Path], None], int, str], ...] = (
    (lambda study: shutil.rmtree(study / "derivatives"), 16, "-d"),
    (of_events(Path.unlink), 16, "events"),
    (lambda study: [shutil.rmtree(path) for path in study.glob("sub-*")] and None, 16, "no sub-* folder"),
    (of_events(only_times), 65, "--stimulus-column"),
    (of_events(without_rows), 65, "no rows"),
    (of_events(lambda path: path.write_bytes(b"")), 65, "_events.tsv"),
    (of_second_runs(halved), 65, "run-02"),
    (of_second_runs(damaged_inside), 65, "gzip -t"),
    (of_second_runs(lambda path: path.write_bytes(gzip.compress(b"not an image"))), 65, "run-02"),
    (of_second_runs(lambda path: rewrite(path, np.zeros_like)), 65, "constant"),
    (of_second_runs(with_holes), 65, "NaN"),
    (of_second_runs(lambda path: rewrite(path, lambda values: values, shift=3.0)), 65, "grid"),
    (of_second_runs(not_fetched), 66, "datalad get"),
    (not_labelled, 65, "no label"),
    (broken_description, 65, "python -m json.tool"),
)  # fmt: skip

REQUESTS: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("--participant-label", "07"), 18, "02"),
    (("--participant-label", "01", "--exclude-participant-label", "01"), 18, "excluded"),
    (("-t", "rest"), 18, "scenes"),
    (("--run-id", "9"), 18, "--run-id"),
    (("--space", "T1w"), 18, "MNI152NLin2009cAsym"),
    (("--split", "runs:9"), 18, "9"),
    (("--split", "column:nothing"), 64, "nothing"),
    (("--stimulus-column", "nothing"), 64, "stim_file"),
    (("--clip-model", "RN50"), 64, "ViT"),
    (("-d", "/no/such/folder"), 66, "/no/such/folder"),
    (("--labels", "/no/such/labels.tsv"), 66, "/no/such/labels.tsv"),
    (("--captions", "/no/such/captions.tsv"), 66, "/no/such/captions.tsv"),
    (("--mask", "/no/such/mask.nii.gz"), 66, "/no/such/mask.nii.gz"),
    (("--atlas", "/no/such/atlas.nii.gz"), 66, "/no/such/atlas.nii.gz"),
    (("--split", "/no/such/split.tsv"), 66, "runs:N"),
    (("--clip-model", "ViT-B-16"), 66, "--local-dir"),
    (("--config-file", "/no/such/file.toml"), 66, "/no/such/file.toml"),
)

# Refused before the dataset is looked at, and so without any heavy library.
WORDS: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("/b", "/o", "session"), 17, "participant or group"),
    (("/b", "/o"), 64, "Missing argument"),
    (("/b", "/o", "group", "--no-such-option"), 64, "No such option"),
    (("/b", "/o", "group", "--model-label", "my_model"), 64, "--model-label mymodel"),
    (("/b", "/o", "group", "--merge-blocks", "sometimes"), 64, "auto, off or a number"),
    (("/b", "/o", "group", "--window", "-3"), 64, "must lie in 0 to 120 s"),
    (("/b", "/o", "group", "--method", "magic"), 64, "clip-mused"),
    (("/b", "/o", "group", "--mem", "much"), 64, "--mem 16G"),
    (("/no/such/folder", "/o", "group"), 66, "no such folder"),
    ((__file__, "/o", "group"), 66, "a file, not a folder"),
    (("/b", "/o", "group", "--config-file", "/no/such.toml"), 66, "No such file"),
)


def check_message(printed: str, message: str) -> None:
    """What, a hint, at most one screen, no traceback."""
    assert message in printed
    assert "hint:" in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) < 40


def test_the_table_is_the_specifications() -> None:
    assert sorted(int(code) for code in ExitCode) == [0, 1, 16, 17, 18, 64, 65, 66, 73, 74, 75]


@pytest.mark.parametrize(("words", "code", "message"), WORDS)
def test_words_that_mean_nothing(words: tuple[str, ...], code: int, message: str, command: Command) -> None:
    done = command(*words)
    assert done.returncode == code
    check_message(done.stderr, message)


@pytest.mark.parametrize(("damage", "code", "message"), DAMAGES)
def test_damaged_datasets(
    own_study: Path, command: Command, tmp_path: Path, damage: Callable[[Path], None], code: int, message: str
) -> None:
    damage(own_study)
    out = tmp_path / "out"
    done = command(own_study, out, "group", "--train", *RIDGE)
    assert done.returncode == code, done.stderr
    check_message(done.stderr, message)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(out.glob("models/*/*.safetensors"))


@pytest.mark.parametrize(("words", "code", "message"), REQUESTS)
def test_requests_that_select_nothing_or_name_nothing(
    study: Path, command: Command, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = command(
        study, tmp_path / "out", "group", "--train", "--clip-model", "demo", *words,
        OPEN_CLIP_CACHE=str(tmp_path), HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    check_message(done.stderr, message)
    assert not (tmp_path / "out").exists()


def test_nothing_is_wrong(study: Path, command: Command, tmp_path: Path) -> None:
    done = command(study, tmp_path / "out", "participant", "--prepare", *RIDGE)
    assert done.returncode == 0, done.stderr
    assert "6 run(s) of 2 participant(s) to estimate by lss, 0 stored already" in done.stderr
    assert "hint:" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 0, "nothing is in the way of a run"),
        (("--labels", "/no/such/labels.tsv"), 66, "/no/such/labels.tsv"),
        (("-w", "/dev/null/scratch"), 73, "/dev/null is a file"),
        (("--resample", "NoTemplate:res-2"), 66, "tpl-NoTemplate"),
    ],
)
def test_the_doctor_ends_with_the_code_of_a_run(
    study: Path, command: Command, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = command(study, tmp_path / "out", "group", "--check", *RIDGE, *words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert ("FAIL" in done.stderr) is (code != 0)
    assert not (tmp_path / "out").exists()


def test_the_doctor_needs_no_dataset(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path / "bids", tmp_path / "out", "group", "--check", *RIDGE)
    assert done.returncode == 66
    check_message(done.stderr, "no such folder")


def test_an_error_nobody_expected(study: Path, command: Command, tmp_path: Path) -> None:
    with mock.patch.object(invocation, "make_plan", side_effect=ZeroDivisionError("of a bug")):
        done = command(study, tmp_path / "out", "group", *RIDGE)
        assert done.returncode == 1
        check_message(done.stderr, "unexpected ZeroDivisionError: of a bug")
        with pytest.raises(ZeroDivisionError):
            command(study, tmp_path / "out", "group", *RIDGE, "--debug")


class TestOutputsThatCannotBeCreated:
    def test_a_folder_of_something_else(self, study: Path, command: Command, tmp_path: Path) -> None:
        (tmp_path / "dataset_description.json").write_text('{"Name": "mine", "BIDSVersion": "1.10.0"}')
        done = command(study, tmp_path, "group", *RIDGE)
        assert done.returncode == 73
        check_message(done.stderr, "mine")
        assert [path.name for path in tmp_path.iterdir()] == ["dataset_description.json"]

    def test_a_file_in_its_place(self, study: Path, command: Command, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("")
        done = command(study, tmp_path / "out", "group", *RIDGE)
        assert done.returncode == 73
        check_message(done.stderr, "a file, not a folder")

    @pytest.mark.parametrize("place", ["", "sub-01", "results"])
    def test_inside_the_raw_dataset(self, study: Path, command: Command, place: str) -> None:
        before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
        done = command(study, study / place, "group", *RIDGE)
        assert done.returncode == 73
        check_message(done.stderr, "BIDS_DIR/derivatives/clipmused")
        assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before

    def test_on_a_read_only_disk(self, study: Path, command: Command, mounted: Callable[..., Path]) -> None:
        folder = mounted("ro,size=1m")
        done = command(study, folder / "out", "participant", "--prepare", *RIDGE)
        assert done.returncode == 73
        check_message(done.stderr, "bind it without :ro")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small file system in memory; only root may."""
    folders: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True
        ).returncode:
            pytest.skip("only root may mount a file system")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(study: Path, command: Command, mounted: Callable[..., Path], tmp_path: Path) -> None:
    """What fits is whole, nothing else is left; with more space the same command goes on."""
    folder = mounted("size=600k")
    done = command(study, folder / "out", "participant", "--prepare", *RIDGE)
    assert done.returncode == 74
    check_message(done.stderr, "No space left on device")
    assert not list(folder.rglob("*.tmp"))
    stored = list(folder.rglob("*_responses.safetensors"))
    assert 0 < len(stored) < 6
    subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    done = command(study, folder / "out", "participant", "--prepare", *RIDGE)
    assert done.returncode == 0, done.stderr
    assert f"{len(stored)} stored already" in done.stderr


def test_a_disk_that_fails(study: Path, command: Command, tmp_path: Path) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with mock.patch("os.fsync", fail):
        done = command(study, tmp_path / "out", "participant", "--prepare", *RIDGE)
    assert done.returncode == 74
    check_message(done.stderr, "Input/output error")
    assert not list(tmp_path.rglob("*.tmp"))


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; a user who owns nothing may not."""
    if not AS_ROOT:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize("kind", ["events", "image"])
def test_files_that_may_not_be_read(study: Path, command: Command, tmp_path: Path, kind: str) -> None:
    # What is imported late must be loaded before the user changes: the interpreter may lie in a home of root's.
    assert command(study, tmp_path / "out", "participant", "--prepare", *RIDGE).returncode == 0
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        bids = shutil.copytree(study, Path(place) / "bids")
        for participant in ("01", "02"):
            events = next(bids.glob(f"sub-{participant}/func/*run-01_events.tsv"))
            (events if kind == "events" else bold_of(bids, participant, 1)).chmod(0)
        with as_nobody():
            done = command(bids, Path(place) / "out", "participant", "--prepare", *RIDGE)
    assert done.returncode == 66, done.stderr
    check_message(done.stderr, "Permission denied")


def outputs(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "logs" not in path.parts
    }


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)])
def test_stopped_in_the_middle_and_continued(
    study: Path, command: Command, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """The same command afterwards ends with what an undisturbed run leaves, byte for byte."""
    out, words = tmp_path / "out", ("participant", "--prepare", *RIDGE)
    with subprocess.Popen(
        [sys.executable, "-m", "clipmused_bids.cli", study, out, *words], stderr=subprocess.PIPE, text=True
    ) as process:
        stop_after_first_file(process, out, sent)
        printed = process.communicate(timeout=120)[1]
    assert process.returncode == code, printed
    assert "Traceback" not in printed
    if code > 0:
        assert "interrupted" in printed
        assert "hint: the same command goes on" in printed
    n_stored = len(list(out.rglob("*_responses.safetensors")))
    assert 0 < n_stored < 6
    assert command(study, out, *words).returncode == 0
    assert command(study, tmp_path / "undisturbed", *words).returncode == 0
    assert {k: v for k, v in outputs(out).items() if ".tmp" not in k} == outputs(tmp_path / "undisturbed")


def stop_after_first_file(process: Any, out: Path, sent: signal.Signals) -> None:
    """Wait until the first run is stored, then send the signal."""
    deadline = time.monotonic() + 120
    while not list(out.rglob("*_responses.safetensors")):
        assert process.poll() is None, "the command ended before it was stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(sent)
