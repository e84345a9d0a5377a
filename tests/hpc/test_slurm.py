"""The scripts of ``docs/hpc`` on a real Slurm: arrays, dependencies, several processes, preemption."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.hpc.conftest import Slurm, Study, make_study

pytestmark = pytest.mark.slurm

PEOPLE = ("01", "02", "03", "04")
MODEL = Path("models", "clipmused", "model.safetensors")
IN_TRAINING = r"epoch 20,"


class Analysis(NamedTuple):
    """An analysis from the first job to the last, and its jobs by step."""

    study: Study
    jobs: dict[str, str]


@pytest.fixture(scope="module")
def analysis(slurm: Slurm, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    study = make_study(slurm, demo, tmp_path_factory.mktemp("analysis") / "out")
    jobs = study.submit_all()
    for job in jobs.values():
        slurm.finish(job)
    return Analysis(study, jobs)


def state_files(out: Path) -> list[Path]:
    """What an interrupted training left, to go on from."""
    return [path for path in out.glob("models/clipmused/**/state/*") if path.is_file()]


def test_every_job_ends_well_in_its_order(analysis: Analysis) -> None:
    tasks = {step: analysis.study.slurm.tasks(job) for step, job in analysis.jobs.items()}
    assert {step: len(rows) for step, rows in tasks.items()} == {
        "prepare": 4, "train": 1, "decode": 4, "evaluate": 1,
    }  # fmt: skip
    for step, rows in tasks.items():
        for row in rows:
            assert (row["JobState"], row["ExitCode"]) == ("COMPLETED", "0:0"), (step, row)
    order = [tasks[step] for step in ("prepare", "train", "decode", "evaluate")]
    for before, after in pairwise(order):
        assert max(row["EndTime"] for row in before) <= min(row["StartTime"] for row in after)


def test_every_task_did_its_own_participant(analysis: Analysis) -> None:
    study, jobs = analysis
    for number, label in enumerate(PEOPLE):
        for step in ("prepare", "decode"):
            said = study.said(step, f"{jobs[step]}_{number}")
            assert f"--participant-label {label} " in said
            assert "1 participant(s), 6 run(s)" in said
        folder = study.out / f"sub-{label}" / "func"
        assert len(list(folder.glob("*_desc-lss_responses.safetensors"))) == 6
        assert len(list(folder.glob("*_desc-clipmused_predictions.tsv"))) == 6
    assert "Responses: 0 run(s) estimated, 24 reused" in study.said("train", jobs["train"])
    assert (study.out / "group_desc-clipmused_metrics.tsv").exists()


def test_the_output_is_valid_with_the_logs_of_the_jobs_in_it(analysis: Analysis) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    words = [validator, analysis.study.out, "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert issues  # warnings at least: the validator looked
    assert not [issue for issue in issues if issue["severity"] == "error"]


def test_an_interrupted_training_goes_on_and_ends_with_the_same_weights(
    analysis: Analysis, slurm: Slurm, demo: Path, tmp_path: Path
) -> None:
    study = make_study(slurm, demo, tmp_path / "out", prepared=analysis.study.out)
    job = study.submit_training()
    study.until_said(job, IN_TRAINING)
    slurm.run("scancel", "--signal=TERM", job)
    study.until_said(job, "put back into the queue")
    assert "exit code 75" in study.said("train", job)
    assert state_files(study.out)
    study.until_said(job, "start 2 of at most 21")
    (row,) = slurm.finish(job)
    assert (row["JobState"], row["ExitCode"], row["Restarts"]) == ("COMPLETED", "0:0", "1")
    # The second start does not begin anew.
    second = study.said("train", job).split("start 2 of")[1]
    assert not re.search(r"epoch [1-9],", second)
    assert not state_files(study.out)
    assert (study.out / MODEL).read_bytes() == (analysis.study.out / MODEL).read_bytes()


def test_two_processes_train_what_one_does_and_go_on_as_one_does(
    analysis: Analysis, slurm: Slurm, demo: Path, tmp_path: Path
) -> None:
    weights = []
    for name, interrupted in (("undisturbed", False), ("interrupted", True)):
        study = make_study(slurm, demo, tmp_path / name, prepared=analysis.study.out)
        job = study.submit_training("--ntasks=2")
        if interrupted:
            study.until_said(job, IN_TRAINING)
            slurm.run("scancel", "--signal=TERM", job)
            study.until_said(job, "start 2 of at most 21")
        (row,) = slurm.finish(job)
        assert (row["JobState"], row["Restarts"]) == ("COMPLETED", str(int(interrupted)))
        assert row["NumTasks"] == "2"
        # One of the two speaks, and each epoch is trained once.
        assert len(re.findall(r"epoch 70,", study.said("train", job))) == 1
        weights.append((study.out / MODEL).read_bytes())
    assert weights[0] == weights[1]
    alone = load_file(analysis.study.out / MODEL)
    for name, value in load_file(tmp_path / "undisturbed" / MODEL).items():
        # Sums over ranks are rounded in another order, 80 epochs long.
        np.testing.assert_allclose(value, alone[name], rtol=0.02, atol=2e-3, err_msg=name)


def test_a_job_that_is_cancelled_does_not_come_back(
    analysis: Analysis, slurm: Slurm, demo: Path, tmp_path: Path
) -> None:
    study = make_study(slurm, demo, tmp_path / "out", prepared=analysis.study.out)
    job = study.submit_training()
    study.until_said(job, IN_TRAINING)
    slurm.run("scancel", job)
    (row,) = slurm.finish(job, seconds=60)
    assert row["JobState"] == "CANCELLED"
    assert row["Restarts"] == "0"
    assert not (study.out / MODEL).exists()


def test_requeues_are_bounded(analysis: Analysis, slurm: Slurm, demo: Path, tmp_path: Path) -> None:
    study = make_study(slurm, demo, tmp_path / "out", prepared=analysis.study.out, MAX_REQUEUES="0")
    job = study.submit_training()
    study.until_said(job, IN_TRAINING)
    slurm.run("scancel", "--signal=TERM", job)
    (row,) = slurm.finish(job, seconds=60)
    assert (row["JobState"], row["ExitCode"]) == ("FAILED", "75:0")
    assert "MAX_REQUEUES=0; submit it again" in study.said("train", job)


def test_a_failed_participant_holds_the_rest_back(slurm: Slurm, demo: Path, tmp_path: Path) -> None:
    two_cores = {"PARTICIPANTS": "(01 09)", "PREPARE_SBATCH": "(--cpus-per-task=2)"}
    study = make_study(slurm, demo, tmp_path / "out", **two_cores)
    jobs = study.submit_all()
    rows = slurm.finish(jobs["prepare"])
    assert sorted(row["ExitCode"] for row in rows) == ["0:0", "18:0"]
    for step in ("train", "decode", "evaluate"):
        (row,) = slurm.finish(jobs[step], seconds=60)
        assert row["JobState"] == "CANCELLED"
    assert "Responses: 2 runs at a time" in study.said("prepare", f"{jobs['prepare']}_0")
    assert "No participant 09 in the dataset" in study.said("prepare", f"{jobs['prepare']}_1")
