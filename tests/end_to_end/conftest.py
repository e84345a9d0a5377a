"""A small simulated study, and the command run on it as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset

SMALL = SimulationParameters(
    n_participants=2,
    n_trials=60,
    n_runs=3,
    n_shared=6,
    n_repeats=2,
    n_repeated_own=4,
    n_bank=120,
    snr=2.0,
    seed=77,
)
QUICK = "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 3\nn_seeds = 1\n"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw dataset with its derivative; never written to by the tests."""
    folder = tmp_path_factory.mktemp("study") / "bids"
    write_dataset(folder, SMALL)
    return folder


@pytest.fixture
def own_study(study: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(study, tmp_path / "bids"))


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hyper-parameters that train in seconds."""
    file = tmp_path_factory.mktemp("config") / "quick.toml"
    file.write_text(QUICK)
    return file


@pytest.fixture(scope="session")
def command() -> Command:
    """Run the command in a process of its own; returns what it printed and its exit code."""

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "clipmused_bids.cli", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return run


@pytest.fixture(scope="session")
def trained(study: Path, quick: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder after ``group`` with its default actions."""
    out = tmp_path_factory.mktemp("trained") / "out"
    done = command(study, out, "group", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    return out
