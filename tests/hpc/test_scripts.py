"""The cluster scripts without a cluster: what they ask the scheduler and the container for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from clipmused_bids.cli import command

HPC = Path(__file__).parents[2] / "docs" / "hpc"
SCRIPTS = sorted([*HPC.glob("*.sh"), *HPC.glob("*.sbatch"), Path(__file__).with_name("slurm_node.sh")])

pytestmark = pytest.mark.skipif(not HPC.exists(), reason="needs the source tree")


class Machine:
    """A folder with a dataset, settings, and commands that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls.txt"
        (folder / "bin").mkdir()
        for label in ("01", "02", "10"):
            (folder / "bids" / f"sub-{label}").mkdir(parents=True)
        (folder / "bids" / "sub-99.html").touch()
        self.settings = folder / "settings.sh"
        self.set()

    def set(self, **changes: str) -> None:
        """Write the settings: those of the guide with changes."""
        lines = {
            "BIDS_DIR": str(self.folder / "bids"),
            "OUT_DIR": str(self.folder / "out"),
            "LOG_DIR": "$OUT_DIR/logs/slurm",
            **changes,
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        self.settings.write_text((HPC / "settings.sh").read_text() + text)

    def has(self, name: str, body: str = "") -> None:
        """Give the machine a command; its words are written down, one call a line."""
        file = self.folder / "bin" / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >>{self.calls}\n{body}\n')
        file.chmod(0o755)

    def run(self, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM", "CLIPMUSED", "OMP_"))
        }
        given = {
            "CLIPMUSED_HPC": str(HPC),
            "CLIPMUSED_SETTINGS": str(self.settings),
            "PATH": f"{self.folder / 'bin'}:{clean['PATH']}",
        }
        return subprocess.run(
            [str(word) for word in words],
            env={**clean, **given, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script: Path) -> None:
    done = subprocess.run(
        ["shellcheck", "--external-sources", script.name],
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("file", [*SCRIPTS[:-1], HPC / "index.md"], ids=lambda path: path.name)
def test_every_flag_that_is_named_exists(file: Path) -> None:
    ours = {
        name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts
    }
    ours |= {"--help"}
    others = {
        "--cleanenv", "--containall", "--env", "--nv", "--array", "--dependency", "--output", "--parsable", "--account",
        "--partition", "--job-name", "--cpus-per-task", "--time", "--signal", "--requeue", "--open-mode", "--nodes",
        "--ntasks", "--gpus-per-task", "--noheader", "--jobs", "--format", "--kill-on-bad-exit",
        "--kill-on-invalid-dep", "--processing-level",
    }  # fmt: skip
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", file.read_text()))
    assert named - others <= ours


def test_submit_chains_the_steps(machine: Machine) -> None:
    machine.has("sbatch", f"echo $((100 + $(wc -l <{machine.calls})))")
    machine.set(AT_ONCE="7", SBATCH_OPTIONS="(--account=me)", TRAIN_SBATCH="(--mem=1G)")
    done = machine.run("bash", HPC / "submit.sh", machine.settings)
    assert done.returncode == 0, done.stderr
    prepare, train, decode, evaluate = machine.called()
    assert "--array=0-2%7 " in prepare
    assert prepare.endswith("prepare.sbatch")
    assert "--dependency" not in prepare
    for call, before in ((train, 101), (decode, 102), (evaluate, 103)):
        assert f"--dependency=afterok:{before} " in call
        assert "--account=me" in call
    assert ("--mem=1G" in train, "--mem=1G" in decode) == (True, False)
    assert ("--array=0-2%7" in train, "--array=0-2%7" in decode) == (False, True)
    assert re.findall(r"^\w+ +(\d+)", done.stdout, re.MULTILINE) == ["101", "102", "103", "104"]
    (listed,) = (machine.folder / "out" / "logs" / "slurm").glob("participants-*.txt")
    assert listed.read_text() == "01\n02\n10\n"


def in_job(machine: Machine, step: str, **environ: str) -> subprocess.CompletedProcess[str]:
    listed = machine.folder / "participants.txt"
    listed.write_text("01\n02\n10\n")
    given = {
        "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "n1", "SLURM_CPUS_PER_TASK": "3", "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_MEM_PER_NODE": "1000", "CLIPMUSED_PARTICIPANTS": str(listed), **environ,
    }  # fmt: skip
    return machine.run("bash", HPC / f"{step}.sbatch", **given)


def test_a_task_of_the_array_does_its_participant(machine: Machine) -> None:
    machine.has("srun")
    machine.set(
        OPTIONS="(--clip-model demo)", PREPARE_OPTIONS="(-t 'two words')", WORK_DIR=str(machine.folder / "w")
    )
    done = in_job(machine, "prepare")
    assert done.returncode == 0, done.stderr
    (call,) = machine.called()
    bids, out = machine.folder / "bids", machine.folder / "out"
    assert call.endswith(
        f"clipmused.sh {bids} {out} participant --prepare --participant-label 10 --nprocs 3 --mem=800M "
        f"-t two words --clip-model demo --work-dir {machine.folder / 'w'}"
    )


def test_steps_of_the_group_take_the_participants_of_the_settings(machine: Machine) -> None:
    machine.has("srun", 'echo "$MASTER_ADDR:$MASTER_PORT"')
    machine.has("scontrol", "echo node7")
    for participants, expected in (
        ("()", "--train --mem"),
        ("(01 10)", "--train --participant-label 01 10 --mem"),
    ):
        machine.set(PARTICIPANTS=participants, OPTIONS="()")
        done = in_job(machine, "train")
        assert done.returncode == 0, done.stderr
        assert expected in machine.called()[-1]
        assert "node7:20042" in done.stdout


@pytest.mark.parametrize(
    ("code", "state", "restarts", "image", "requeued"),
    [
        (75, "RUNNING", "0", "", True),
        (75, "RUNNING", "19", "", True),
        (75, "RUNNING", "20", "", False),
        (75, "COMPLETING", "0", "", False),  # cancelled, or put back by the scheduler itself
        (0, "RUNNING", "0", "", False),
        (73, "RUNNING", "0", "", False),
        (143, "RUNNING", "0", "", False),
        (75, "RUNNING", "0", "/one.sif", True),
        (135, "RUNNING", "0", "/one.sif", True),  # its files were gone before it had stopped
        (143, "RUNNING", "0", "/one.sif", True),
        (137, "RUNNING", "0", "/one.sif", False),
    ],
)
def test_an_interrupted_job_is_put_back(
    code: int, state: str, restarts: str, image: str, requeued: bool, machine: Machine
) -> None:
    machine.has("srun", f"exit {code}")
    machine.has("squeue", f"echo {state}")
    machine.has("scontrol")
    machine.has("sleep")
    machine.set(CLIPMUSED_IMAGE=image)
    done = in_job(machine, "decode", SLURM_RESTART_COUNT=restarts)
    assert done.returncode == code
    assert ("scontrol requeue 42" in machine.called()) is requeued
    assert ("put back into the queue" in done.stdout.replace("not put back", "")) is requeued


def test_the_container_gets_places_and_the_variables_of_its_process(machine: Machine) -> None:
    machine.has("apptainer", f"env | grep -E '^(APPTAINERENV|SINGULARITYENV)_' | sort >>{machine.calls}")
    machine.set(BINDS="('/data/my weights' /atlas)", CLIPMUSED_IMAGE="/images/one.sif")
    done = machine.run(
        HPC / "clipmused.sh", "/b", "/o", "group", "--label", "two words",
        SLURM_PROCID="1", SLURM_NTASKS="2", SLURM_STEP_NODELIST="n[1,3]", CUDA_VISIBLE_DEVICES="0", SECRET="no",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    call, *variables = machine.called()
    bids, out = machine.folder / "bids", machine.folder / "out"
    assert call == (
        f"apptainer run --cleanenv --containall --nv -B {bids}:{bids}:ro -B {out}:{out} "
        "-B /data/my weights:/data/my weights:ro -B /atlas:/atlas:ro /images/one.sif /b /o group --label two words"
    )
    passed = {line.partition("_")[2] for line in variables}
    assert passed == {
        "SLURM_PROCID=1",
        "SLURM_NTASKS=2",
        "SLURM_STEP_NODELIST=n[1,3]",
        "CUDA_VISIBLE_DEVICES=0",
    }
    assert len(variables) == 8


def test_without_an_image_the_installed_command_runs(machine: Machine) -> None:
    machine.has("clipmused-bids", "exit 75")
    assert machine.run(HPC / "clipmused.sh", "/b", "/o", "group").returncode == 75
    assert machine.called() == ["clipmused-bids /b /o group"]


def test_another_command_for_containers(machine: Machine) -> None:
    machine.has("enter")
    machine.set(BINDS="()", CLIPMUSED_IMAGE="/one.sif")
    assert (
        machine.run(HPC / "clipmused.sh", "/b", CLIPMUSED_APPTAINER="enter root singularity").returncode == 0
    )
    assert machine.called()[0].startswith("enter root singularity run --cleanenv --containall -B ")
