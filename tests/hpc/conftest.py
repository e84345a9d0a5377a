"""A Slurm of one node for the tests, and the demo dataset that its jobs work on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs" / "hpc"
NODE = Path(__file__).with_name("slurm_node.sh")
TOOLS = ("slurmctld", "slurmd", "sbatch", "scontrol", "munged")
ANATOMY = "derivatives/fmriprep/sub-{participant}/anat/sub-{participant}"
ATLAS = f"{ANATOMY}_space-MNI152NLin2009cAsym_desc-regions_dseg.nii.gz"
# Ten seconds of training on one core.
TRAINING = """
[model]
width = 16
depth = 1
heads = 2

[training]
max_epochs = 80
patience = 80
n_seeds = 1

[evaluation]
permutations = 20
"""


def _why_not() -> str | None:
    """Why there can be no Slurm here, or None."""
    if os.environ.get("CLIPMUSED_TEST_SLURM") != "1":
        return "starts a Slurm and takes minutes: `make test-hpc` runs it"
    if os.geteuid() != 0:
        return "needs root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in TOOLS if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Slurm:
    """A running scheduler and what its jobs need.

    Parameters
    ----------
    environ : dict of str to str
        For its commands.
    """

    environ: dict[str, str]

    def run(self, *words: object) -> str:
        """Run one of its commands; returns what it printed."""
        done = subprocess.run(
            [str(word) for word in words], env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def tasks(self, job: str) -> list[dict[str, str]]:
        """Fields of a job, or of each task of an array."""
        found = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()
        rows = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in found if line.strip()]
        # Tasks that wait are one row, which is no task.
        return [row for row in rows if row["JobState"] != "PENDING" or len(rows) == 1]

    def until(self, what: str, holds: Callable[[], bool], *, seconds: float = 600) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"{what}: not after {seconds:.0f} s\n{self.run('squeue')}"
            time.sleep(0.5)

    def finish(self, job: str, *, seconds: float = 1200) -> list[dict[str, str]]:
        """Wait until a job is in no queue any more; returns its fields, or those of its tasks."""
        self.until(f"job {job}", lambda: not self.run("squeue", "-h", "--job", job).strip(), seconds=seconds)
        return self.tasks(job)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    why = _why_not()
    if why is not None:
        pytest.skip(why)
    # Not pytest's folder: munge wants one that everybody may enter.
    folder = Path(tempfile.mkdtemp(prefix="clipmused-slurm-"))
    try:
        yield _started(folder)
    finally:
        subprocess.run([NODE, "stop", folder], check=True)
        shutil.rmtree(folder)


def _started(folder: Path) -> Slurm:
    # The installed command of the nodes is this source tree.
    command = folder / "bin" / "clipmused-bids"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m clipmused_bids.cli "$@"\n')
    command.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environ["PATH"] = f"{command.parent}:{environ['PATH']}:/usr/sbin:/sbin"
    environ["SLURM_CONF"] = str(folder / "slurm.conf")
    subprocess.run([NODE, "start", folder], env=environ, check=True)
    return Slurm(environ)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset: four people, 240 trials each."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [sys.executable, "-m", "clipmused_bids.simulation.demo", folder / "bids"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (folder / "training.toml").write_text(TRAINING)
    return folder


@dataclass(frozen=True)
class Study:
    """An analysis by the scripts of ``docs/hpc``.

    Parameters
    ----------
    slurm : Slurm
    out : Path
    settings : Path
    """

    slurm: Slurm
    out: Path
    settings: Path

    def submit_all(self) -> dict[str, str]:
        """Run ``submit.sh``; returns the job of each step."""
        printed = self.slurm.run("bash", SCRIPTS / "submit.sh", self.settings)
        return dict(re.findall(r"^(\w+) +(\d+)", printed, re.MULTILINE))

    def submit_training(self, *options: str) -> str:
        """Submit ``train.sbatch`` alone, as a user does who has prepared everything."""
        return self.slurm.run(
            "env", f"CLIPMUSED_HPC={SCRIPTS}", f"CLIPMUSED_SETTINGS={self.settings}",
            "sbatch", "--parsable", f"--output={self.log('train', '%j')}", "--mem=3000", "--cpus-per-task=1", *options,
            SCRIPTS / "train.sbatch",
        ).strip()  # fmt: skip

    def log(self, step: str, job: str) -> Path:
        return self.out / "logs" / "slurm" / f"{step}-{job}.log"

    def said(self, step: str, job: str) -> str:
        """What a job has printed so far, in all its starts."""
        path = self.log(step, job)
        return path.read_text() if path.exists() else ""

    def until_said(self, job: str, pattern: str, *, times: int = 1) -> None:
        self.slurm.until(
            f"{pattern!r} in the log of job {job}",
            lambda: len(re.findall(pattern, self.said("train", job))) >= times,
        )


def make_study(
    slurm: Slurm, demo: Path, out: Path, *, prepared: Path | None = None, **settings: str
) -> Study:
    """Settings of a study; ``prepared`` is an output folder whose responses and features are taken over."""
    if prepared is not None:
        shutil.copytree(prepared, out, ignore=shutil.ignore_patterns("models", "slurm", "*clipmused*"))
    (out / "logs" / "slurm").mkdir(parents=True, exist_ok=True)
    changes = {
        "BIDS_DIR": str(demo / "bids"),
        "OUT_DIR": str(out),
        "LOG_DIR": "$OUT_DIR/logs/slurm",
        "BINDS": f"({demo})",
        "OPTIONS": f"(--clip-model demo --config-file {demo}/training.toml --atlas '{demo}/bids/{ATLAS}' -v)",
        "SBATCH_OPTIONS": "(--mem=3000)",
        "PREPARE_SBATCH": "(--cpus-per-task=1)",
        "TRAIN_SBATCH": "(--cpus-per-task=1)",
        "DECODE_SBATCH": "(--cpus-per-task=1)",
        "EVALUATE_SBATCH": "(--cpus-per-task=1)",
        **settings,
    }
    file = out.parent / f"{out.name}-settings.sh"
    # The file that users start from, and what they would change in it.
    lines = "".join(f"{name}={value}\n" for name, value in changes.items())
    file.write_text((SCRIPTS / "settings.sh").read_text() + lines)
    return Study(slurm, out, file)
