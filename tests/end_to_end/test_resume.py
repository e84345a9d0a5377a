"""A training that is stopped by a scheduler, or killed, and the same command again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Command

WORDS = ("group", "--train", "--decode", "--clip-model", "demo", "--config-file")
# Many small steps, each kept, so that there is always a next one to be stopped before.
SETTINGS = (
    "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n"
    "[training]\nbatch_size = 6\nmax_epochs = 8\npatience = 8\nn_seeds = 1\nkeep_minutes = {minutes}\n"
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    folder = tmp_path_factory.mktemp("settings")

    def write(minutes: float) -> Path:
        file = folder / f"{minutes}.toml"
        file.write_text(SETTINGS.format(minutes=minutes))
        return file

    return write


@pytest.fixture(scope="module")
def prepared(study: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    done = command(study, out, "participant", "--prepare", "--clip-model", "demo")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def undisturbed(
    study: Path, prepared: Path, settings: Callable[[float], Path], command: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:  # fmt: skip
    """What the command leaves that nothing stops, and that keeps no state on the way."""
    out = shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "out")
    done = command(study, out, *WORDS, settings(1000.0))
    assert done.returncode == 0, done.stderr
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    """Everything but logs, and how long it took."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "logs" not in path.parts and "_timing." not in path.name
    }


def progress(out: Path) -> tuple[int, int]:
    """Epochs that are over and steps of the next, as the file for people says."""
    for path in (out / "models" / "clipmused" / "state").glob("*.json"):
        kept = json.loads(path.read_text())["training"]
        return len(kept["rows"]) - 1, kept["step"]
    return 0, 0


def end_by(sent: signal.Signals, study: Path, out: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Run the command, and send a signal when the training is an epoch further than where it went on."""
    start = progress(out)[0]
    with subprocess.Popen(
        [sys.executable, "-m", "clipmused_bids.cli", study, out, *WORDS, config],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 300
        while progress(out)[0] <= start:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(sent)
        printed = process.communicate(timeout=300)[1]
    return subprocess.CompletedProcess(process.args, process.returncode, stderr=printed)


@pytest.mark.slow
def test_terminated_killed_and_terminated_it_ends_with_the_same_bytes(
    study: Path, prepared: Path, undisturbed: dict[str, bytes], settings: Callable[[float], Path],
    command: Command, tmp_path: Path,
) -> None:  # fmt: skip
    out = shutil.copytree(prepared, tmp_path / "out")
    for sent in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
        done = end_by(sent, study, out, settings(0.0))
        epochs, step = progress(out)
        assert not (out / "models" / "clipmused" / "model.safetensors").exists()
        if sent == signal.SIGKILL:
            assert done.returncode == -signal.SIGKILL
            continue
        assert done.returncode == 75, done.stderr
        error, hint = done.stderr.splitlines()[-2:]
        assert error.startswith(f"error: group member1: training: stopped as asked ({sent.name}) in epoch ")
        assert hint == f"hint: the same command goes on after step {step} of epoch {epochs + 1}"
    assert epochs >= 3
    done = command(study, out, *WORDS, settings(0.0))
    assert done.returncode == 0, done.stderr
    assert (
        f"group member1: training: goes on after step {step} of epoch {epochs + 1}; its state" in done.stderr
    )
    assert files(out) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_while_a_state_is_kept(
    study: Path, prepared: Path, undisturbed: dict[str, bytes], settings: Callable[[float], Path],
    command: Command, small_disk: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """The training goes on without; states lie on the small disk, the decoder does not."""
    out = shutil.copytree(prepared, tmp_path / "out")
    (out / "models" / "clipmused").mkdir(parents=True)
    (small_disk / "state").mkdir()
    (out / "models" / "clipmused" / "state").symlink_to(small_disk / "state")
    (small_disk / "filler").write_bytes(bytes(64 * 2**20 - 2**16))
    done = command(study, out, *WORDS, settings(0.0))
    assert done.returncode == 0, done.stderr
    warned = "training: its state could not be kept; if it is stopped now it will go on from the start: "
    assert warned in done.stderr
    assert "No space left on device" in done.stderr
    assert not list((small_disk / "state").iterdir())
    (out / "models" / "clipmused" / "state").unlink()
    assert files(out) == undisturbed
