"""A small simulated study, and the command run on it as a user would."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from clipmused_bids.cli import main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset

SMALL = SimulationParameters(
    n_participants=2,
    n_trials=96,
    n_runs=3,
    n_shared=20,
    n_repeats=2,
    n_repeated_own=4,
    n_bank=130,
    snr=2.0,
    seed=77,
)
QUICK = "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 3\nn_seeds = 1\n"


class Done(NamedTuple):
    """How the command ended."""

    returncode: int
    stderr: str


Command = Callable[..., Done]


def bold_of(study: Path, participant: str, run: int) -> Path:
    (found,) = study.glob(
        f"derivatives/fmriprep/sub-{participant}/func/*run-{run:02d}_*desc-preproc_bold.nii.gz"
    )
    return found


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
    """Run the command as ``main`` does; returns its exit code and what it printed."""

    def run(*words: object, **environment: str) -> Done:
        printed = io.StringIO()
        with (
            mock.patch.dict(os.environ, environment),
            contextlib.redirect_stderr(printed),
            contextlib.redirect_stdout(printed),
        ):
            returncode = main([str(word) for word in words])
        return Done(returncode, printed.getvalue())

    return run


@pytest.fixture(scope="session")
def trained(study: Path, quick: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder after ``group`` with its default actions."""
    out = tmp_path_factory.mktemp("trained") / "out"
    done = command(study, out, "group", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    return out
