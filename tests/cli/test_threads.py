"""Threads: what is set, by whom, and that libraries keep to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipmused_bids.cli import threads
from clipmused_bids.cli.threads import limit_threads
from clipmused_bids.dataset.files.cores import THREAD_VARIABLES, scheduled_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    # The libraries of this process are the other tests' too.
    monkeypatch.setattr(threads, "_limit_loaded", lambda _: None)


def quota(root: Path, text: str) -> Path:
    file = root / "sys" / "fs" / "cgroup" / "cpu.max"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({}, None),  # all cores: the libraries know best
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "8"}, None),
        ({"SLURM_CPUS_ON_NODE": "2", "SLURM_NTASKS": "1"}, 2),
        ({"SLURM_CPUS_ON_NODE": "2", "SLURM_NTASKS": "2"}, None),  # how they are shared is not said
        ({"SLURM_CPUS_PER_TASK": "3", "OMP_NUM_THREADS": "5"}, None),
    ],
)
def test_by_the_scheduler(environ: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    after = dict(environ)
    assert limit_threads(None, after, root=tmp_path) == limit
    added = {} if limit is None else dict.fromkeys(THREAD_VARIABLES, str(limit))
    assert after == {**environ, **added}


def test_by_the_quota_of_a_container(tmp_path: Path) -> None:
    environ = {"SLURM_CPUS_PER_TASK": "6"}
    assert limit_threads(None, environ, root=quota(tmp_path, "250000 100000\n")) == 2
    assert limit_threads(None, {}, root=quota(tmp_path, "50000 100000\n")) == 1


def test_the_option_wins(tmp_path: Path) -> None:
    environ = {"OMP_NUM_THREADS": "5", "MKL_NUM_THREADS": "6", "SLURM_CPUS_PER_TASK": "2"}
    assert limit_threads(4, environ, root=tmp_path) == 4
    assert {environ[name] for name in THREAD_VARIABLES} == {"4"}


@pytest.mark.parametrize("text", ["", "0", "two", "-1"])
def test_a_scheduler_that_says_nothing(text: str) -> None:
    assert scheduled_cores({"SLURM_CPUS_PER_TASK": text}) is None


@pytest.mark.parametrize("loaded_before", [False, True])
def test_libraries_keep_to_it(loaded_before: bool, tmp_path: Path) -> None:
    """Loaded by the command, or before it in Python; the environment says otherwise."""
    first = "import numpy, torch, threadpoolctl; " if loaded_before else ""
    code = (
        f"{first}from clipmused_bids.cli import main; main([*{[str(tmp_path), str(tmp_path / 'out')]!r}, 'group', "
        "'--dry-run', '--omp-nthreads', '1']); import numpy, torch, threadpoolctl; "
        "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()}, torch.get_num_threads())"
    )
    environ = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "2")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "{1} 1"
