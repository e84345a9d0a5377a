"""Several runs at a time: the same files as one after the other, the same failures, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmused_bids.cli import main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset
from clipmused_bids.stages import prepare_ahead as ahead

SMALL = SimulationParameters(
    n_participants=2, n_trials=96, n_runs=3, n_shared=20, n_repeats=2, n_repeated_own=4, n_bank=130, seed=77
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ahead") / "bids"
    write_dataset(folder, SMALL)
    return folder


@pytest.fixture
def prepare(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``--prepare``; returns the exit code and what was said."""

    def run(bids: Path, out: Path, *options: str) -> tuple[int, str]:
        words = [str(bids), str(out), "participant", "--prepare", "--method", "ridge", *options]
        code = main(words)
        return code, capsys.readouterr().err

    return run


def contents(out: Path) -> dict[str, bytes]:
    """Every file but the logs of single runs."""
    files = [path for path in out.rglob("*") if path.is_file() and "logs" not in path.relative_to(out).parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def said_of_runs(text: str) -> list[str]:
    """Lines that do not depend on how many runs are made at once."""
    skipped = ("Done in", "Responses: 2 runs at a time")
    return sorted(line for line in text.splitlines() if not line.startswith(skipped))


def processes_of(out: Path) -> list[int]:
    """Living processes that work below a folder, found by what they have open or were told."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if state != "Z" and f"CLIPMUSED_TEST_MARK={out}".encode() in environ:
                found.append(int(entry.name))
    return found


def test_two_processes_write_the_same_bytes(
    study: Path, tmp_path: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    options = ("--response", "lsa", "--smoothing-fwhm", "4")
    one, said = prepare(study, tmp_path / "one", "--nprocs", "1", *options)
    two, also_said = prepare(study, tmp_path / "two", "--n_cpus", "2", *options)
    assert (one, two) == (0, 0)
    assert "Responses: 2 runs at a time" in also_said
    assert "6 run(s) estimated, 0 reused; 0 trial(s) left out." in also_said
    assert said_of_runs(also_said.replace("/two", "/one")) == said_of_runs(said)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    again, said = prepare(study, tmp_path / "two", "--nprocs", "2", *options)
    assert again == 0
    assert "0 run(s) estimated, 6 reused" in said
    assert "at a time" not in said


def test_a_participant_that_fails_is_told_as_ever_and_the_other_is_prepared(
    study: Path, tmp_path: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    bids = Path(shutil.copytree(study, tmp_path / "bids"))
    (bold,) = bids.rglob("sub-01*run-02_*desc-preproc_bold.nii.gz")
    bold.write_bytes(bold.read_bytes()[:-2000])
    ends = [prepare(bids, tmp_path / name, "--nprocs", n) for name, n in (("one", "1"), ("two", "2"))]
    assert ends[0][0] == ends[1][0] != 0
    assert said_of_runs(ends[1][1].replace("/two", "/one")) == said_of_runs(ends[0][1])
    done = contents(tmp_path / "one")
    # It tells which runs are stored: those after the broken one too where several are prepared at a time.
    del done["sub-01.html"]
    assert {name: value for name, value in contents(tmp_path / "two").items() if name in done} == done
    assert "sub-02.html" in done
    assert sum(name.endswith("_responses.safetensors") for name in done) == 4


def test_memory_is_shared(
    study: Path, tmp_path: Path, prepare: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two processes beside this one, then for less."""
    held = ahead.held_memory()
    shares: list[int] = []

    def share(pool: object, function: object, job: object, memory: int) -> None:
        shares.append(memory)
        raise KeyboardInterrupt

    monkeypatch.setattr(ahead.ProcessPoolExecutor, "submit", share)
    assert prepare(study, tmp_path / "out", "--nprocs", "3", "--mem", f"{held // 2**20 + 1100}M")[0] == 75
    assert len(shares) == 1
    assert 2 * shares[0] < 1100 * 2**20 < 3.5 * shares[0]
    code, said = prepare(study, tmp_path / "out", "--nprocs", "3", "--mem", f"{held // 2**20 + 500}M")
    assert code == 0
    assert "enough for one run at a time" in said


def test_a_share_that_is_too_small_is_left_to_the_first_process(study: Path, tmp_path: Path) -> None:
    from clipmused_bids.config import Config, Selection
    from clipmused_bids.dataset.outputs.description import prepare_tree
    from clipmused_bids.dataset.outputs.tree import OutputTree
    from clipmused_bids.stages.failures import Failures
    from clipmused_bids.stages.plan import make_plan

    config = Config(study, tmp_path / "out", "participant", ("prepare",), Selection(("01",)), method="ridge")
    tree = OutputTree(config.output_dir)
    plan = make_plan(config, failures=Failures())
    prepare_tree(tree.root, bids_dir=study, derivatives={}, environ={})
    job = next(ahead._jobs(plan, tree, {"01": plan.runs}))
    assert ahead.prepare_run(job, 2**20) == ahead.Outcome("01", {})
    assert not list(tree.root.rglob("*_responses.*"))
    outcome = ahead.prepare_run(job, 8 * 2**30)
    assert outcome.made == {"estimated": 1, "dropped": 0}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 75), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_ends_all_processes_and_leaves_no_part_of_a_file(
    study: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    words = [study, out, "participant", "--prepare", "--method", "ridge", "--nprocs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmused_bids.cli", *map(str, words)],
        env={**os.environ, "CLIPMUSED_TEST_MARK": str(out)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while not list(out.rglob("*_responses.safetensors")):
        assert time.monotonic() < end, "no run was ready in time"
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == code
    end = time.monotonic() + 30
    while processes_of(out):
        assert time.monotonic() < end, f"{processes_of(out)} live on"
        time.sleep(0.1)
    if number != signal.SIGKILL:
        assert not list(out.rglob(".*.tmp"))


def test_a_killed_process_is_said_and_the_same_command_goes_on(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(w) for w in (study, out, "participant", "--prepare", "--method", "ridge", "--nprocs", "2")]
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmused_bids.cli", *words],
        env={**os.environ, "CLIPMUSED_TEST_MARK": str(out)},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while len(workers := [pid for pid in processes_of(out) if pid != process.pid]) < 2:
        assert time.monotonic() < end, "no processes were started in time"
        time.sleep(0.02)
    # One of them tracks what they share and does no work: it is of no interest.
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers}
    os.kill(next(pid for pid, words in commands.items() if b"spawn_main" in words), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "was ended from outside" in said
    assert "--nprocs" in said
    assert main(words) == 0
    assert len(list(out.rglob("*_responses.safetensors"))) == 6
