"""A run that is stopped, or whose disk fails, at every stage in turn; the same command ends as if nothing had been."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmused_bids.dataset.files import atomic
from tests.end_to_end.conftest import Command
from tests.end_to_end.test_exit_codes import as_nobody, check_message
from tests.hpc.validity import broken_files, contents

# A function that each stage calls in its middle.
STAGES = (
    ("clipmused_bids.stages.prepare", "estimate_responses"),
    ("clipmused_bids.stages.clip_targets", "encode_texts"),
    ("clipmused_bids.stages.train", "training_set"),
    ("clipmused_bids.stages.train", "StateKeeper"),
    ("clipmused_bids.stages.decode", "held_out"),
    ("clipmused_bids.stages.evaluate", "score_decoder"),
)
# A file of each stage, and what its disk says.
FILES = (
    ("_responses.safetensors", errno.ENOSPC),
    ("_embeddings/", errno.EDQUOT),
    ("models/clipmused/.model.safetensors", errno.ENOSPC),
    ("models/clipmused/.config.json", errno.EIO),
    ("_predictions.json", errno.EDQUOT),
    ("_metrics.tsv", errno.ENOSPC),
)


def signalling(module: str, name: str, number: signal.Signals) -> Callable[..., Any]:
    """The function itself, which sends this process a signal when it is first called."""
    really, sent = getattr(importlib.import_module(module), name), []

    def called(*args: Any, **options: Any) -> Any:
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return really(*args, **options)

    return called


def words(study: Path, out: Path, quick: Path) -> tuple[object, ...]:
    return (study, out, "group", "--clip-model", "demo", "--config-file", quick)


@pytest.mark.slow
def test_stopped_at_every_stage_in_turn(
    study: Path, quick: Path, command: Command, trained: Path, beside: Path
) -> None:
    for turn, (module, name) in enumerate(STAGES):
        number = (signal.SIGTERM, signal.SIGUSR1)[turn % 2]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{module}.{name}", signalling(module, name, number))
            started = time.monotonic()
            done = command(*words(study, beside, quick))
        assert done.returncode == 75, f"{name}: {done.stderr[-800:]}"
        check_message(done.stderr.splitlines()[-2] + "\n" + done.stderr.splitlines()[-1], "interrupted")
        assert time.monotonic() - started < 300
        assert broken_files(beside) == []
        assert not list(beside.rglob("*.tmp"))
    assert command(*words(study, beside, quick)).returncode == 0
    assert contents(beside) == contents(trained)


@pytest.mark.slow
def test_a_disk_that_fails_at_every_stage_in_turn(
    study: Path, quick: Path, command: Command, trained: Path, beside: Path
) -> None:
    really = os.fsync
    for part, code in FILES:

        def failing(descriptor: int, part: str = part, code: int = code) -> None:
            if part.replace(".", "") in str(Path(f"/proc/self/fd/{descriptor}").readlink()).replace(".", ""):
                raise OSError(code, os.strerror(code))
            really(descriptor)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            done = command(*words(study, beside, quick))
        assert done.returncode == 74, f"{part}: {done.stderr[-800:]}"
        check_message(done.stderr[done.stderr.index("error:") :], os.strerror(code))
        assert broken_files(beside) == []
        assert not list(beside.rglob("*.tmp"))
    assert command(*words(study, beside, quick)).returncode == 0
    assert contents(beside) == contents(trained)


@pytest.fixture
def beside(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder as deep as that of ``trained``: links to the data are relative."""
    return tmp_path_factory.mktemp("beside") / "out"


class TestDoneAlready:
    """A second run of what is done computes nothing and reads no image."""

    @pytest.fixture
    def out(self, trained: Path, beside: Path) -> Path:
        return Path(shutil.copytree(trained, beside))

    def test_nothing_is_done_twice(
        self, study: Path, command: Command, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("stages.prepare.read_bold", "stages.prepare.participant_mask", "stages.decode.held_out"):
            monkeypatch.setattr(f"clipmused_bids.{name}", None)
        times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if "logs" not in path.parts}
        done = command(study, out, "participant", "--prepare", "--decode")
        assert done.returncode == 0, done.stderr
        assert "0 run(s) estimated, 6 reused" in done.stderr
        assert "0 trials in 0 run(s) decoded, 6 run(s) reused" in done.stderr
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if "logs" not in path.parts} == times

    def test_broken_responses_are_made_again(self, study: Path, command: Command, out: Path) -> None:
        before = contents(out)
        arrays = sorted(out.glob("sub-*/func/*_responses.safetensors"))
        arrays[0].write_bytes(arrays[0].read_bytes()[:-1000])
        arrays[1].with_suffix(".tsv").unlink()
        arrays[2].with_suffix(".json").write_text("{")
        arrays[3].unlink()
        done = command(study, out, "participant", "--decode")
        assert done.returncode == 0, done.stderr
        assert "4 run(s) estimated, 2 reused" in done.stderr
        assert "6 run(s) reused" in done.stderr
        assert contents(out) == before

    def test_a_decoder_that_a_killed_run_did_not_complete(
        self, study: Path, quick: Path, command: Command, out: Path
    ) -> None:
        before = contents(out)
        for name in ("config.json", "history.tsv", "history.svg"):
            (out / "models" / "clipmused" / name).unlink()
        done = command(study, out, "group", "--train", "--clip-model", "demo", "--config-file", quick)
        assert done.returncode == 0, done.stderr
        assert "decoder clipmused reused" in done.stderr
        assert contents(out) == before


def test_leftovers_of_killed_jobs_go(study: Path, command: Command, tmp_path: Path) -> None:
    words = (study, tmp_path / "out", "participant", "--prepare", "--method", "ridge", "--participant-label")
    assert command(*words, "01").returncode == 0
    func = tmp_path / "out" / "sub-01" / "func"
    old, new = func / ".x_responses.safetensors.00.tmp", func / ".y_responses.safetensors.00.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    # A job on somebody else leaves them to the jobs of this participant.
    assert command(*words, "02").returncode == 0
    assert old.exists()
    done = command(*words, "01")
    assert done.returncode == 0
    assert "1 unfinished file(s)" in done.stderr
    assert not old.exists()
    assert new.exists()


class TestPlacesThatAreNotOurs:
    @pytest.fixture
    def theirs(self, study: Path, command: Command) -> Any:
        """Outputs of root in a place that everybody may enter; what is imported late is loaded now."""
        if os.geteuid() != 0:
            pytest.skip("only root may become somebody else")
        place = Path("/tmp") / f"clipmused-{os.getpid()}"
        place.mkdir()
        shutil.copytree(study, place / "bids")
        out = place / "out"
        done = command(place / "bids", out, "participant", "--prepare", "--method", "ridge")
        assert done.returncode == 0, done.stderr
        yield out
        shutil.rmtree(place)

    @pytest.mark.parametrize("open_part", ["", "all but the runs"])
    def test_they_are_refused_before_any_work(
        self, command: Command, theirs: Path, open_part: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if open_part:
            for folder in (theirs, theirs / "logs", theirs / "stimuli", theirs / "logs" / "stimuli"):
                folder.chmod(0o777)
        monkeypatch.setattr("clipmused_bids.stages.prepare.read_bold", None)
        with as_nobody():
            done = command(
                theirs.parent / "bids", theirs, "participant", "--prepare", "--method", "ridge", "--overwrite"
            )
        assert done.returncode == 73, done.stderr
        check_message(done.stderr, "OUTPUT_DIR")
        assert "Predictions" not in done.stderr


def test_an_output_folder_that_vanishes(
    study: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a disk is unmounted: what is written afterwards is not taken for the whole."""
    really, out = atomic.write_bytes, tmp_path / "out"

    def vanishing(path: Path, content: bytes) -> Any:
        outcome = really(path, content)
        if path.name.endswith("run-02_space-MNI152NLin2009cAsym_desc-lss_responses.tsv"):
            shutil.rmtree(out)
        return outcome

    monkeypatch.setattr("clipmused_bids.dataset.outputs.response_files.write_bytes", vanishing)
    done = command(study, out, "participant", "--prepare", "--method", "ridge")
    assert done.returncode == 74, done.stderr
    check_message(done.stderr, "vanished while the run wrote to it")
    monkeypatch.undo()
    assert command(study, out, "participant", "--prepare", "--method", "ridge").returncode == 0
