"""The command in two processes: what one writes, once; and how both end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.end_to_end.conftest import Command
from tests.training.launched import ROOT, free_port, start

SRUN = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1",
    "SLURM_NTASKS": "2",
}  # fmt: skip


def of_step(rank: int, *, port: int = 0) -> dict[str, str]:
    own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
    return {**SRUN, **own, **({"MASTER_PORT": str(port)} if port else {})}


def in_step(*commands: list[object]) -> tuple[list[int], list[str], float]:
    """Run one command in each process of a step; exit codes, what they printed, seconds."""
    port, began = free_port(), time.monotonic()
    words = [["-m", "clipmused_bids", *map(str, own)] for own in commands]
    processes = start(words, environments=[of_step(rank, port=port) for rank in range(len(commands))])
    try:
        printed = [one.communicate(timeout=300)[0] for one in processes]
    finally:
        for one in processes:
            one.kill()
    return [one.returncode for one in processes], printed, time.monotonic() - began


def numbers(path: Path) -> pd.DataFrame:
    return pd.read_table(path).select_dtypes("number")


@pytest.mark.slow
def test_two_processes_write_what_one_writes(study: Path, quick: Path, trained: Path, tmp_path: Path) -> None:
    words = [study, tmp_path / "out", "group", "--clip-model", "demo", "--config-file", quick]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    done = subprocess.run(
        [*torchrun, str(free_port()), "-m", "clipmused_bids", *map(str, words), "--train", "--decode"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, text=True, capture_output=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 processes train together (torchrun)." in done.stderr
    assert done.stderr.count("Done in") == 1
    assert "Warning" not in done.stderr
    assert len(list((tmp_path / "out" / "logs").glob("*/log.txt"))) == 1
    models = [out / "models" / "clipmused" for out in (trained, tmp_path / "out")]
    one, two = (numbers(folder / "history.tsv") for folder in models)
    assert list(one) == list(two)
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-6)
    losses = [name for name in one if name.startswith(("loss", "val"))]
    np.testing.assert_allclose(two[losses], one[losses], rtol=1e-4)
    stored = [json.loads((folder / "config.json").read_text()) for folder in models]
    assert stored[0]["leakage"] == stored[1]["leakage"]
    tables = sorted(trained.glob("sub-*/func/*_desc-clipmused_predictions.tsv"))
    assert len(tables) == 6
    for table in tables:
        again = numbers(tmp_path / "out" / table.relative_to(trained))
        np.testing.assert_allclose(again, numbers(table), atol=1e-4)


@pytest.mark.slow
def test_what_process_0_cannot_do_ends_both_at_once(study: Path, quick: Path, tmp_path: Path) -> None:
    """Only process 0 looks at the labels; the other says nothing, and does not wait for ever."""
    words = [study, tmp_path / "out", "group", "--clip-model", "demo", "--labels", tmp_path / "nowhere.tsv"]
    codes, printed, _ = in_step(words, words)
    assert codes == [66, 66], printed
    assert "nowhere.tsv" in printed[0]
    assert not printed[1].strip()


@pytest.mark.slow
def test_different_commands_for_a_group_are_refused(study: Path, tmp_path: Path) -> None:
    words = [[study, tmp_path / name, "group", "--clip-model", "demo"] for name in ("one", "other")]
    codes, printed, _ = in_step(*words)
    assert codes == [64, 64], printed
    assert "got another command" in printed[0]
    assert not (tmp_path / "one").exists()


def test_where_no_network_is_trained_one_process_of_a_group_is_enough(
    study: Path, tmp_path: Path, command: Command
) -> None:
    for actions in (["--decode"], ["--train", "--method", "ridge"]):
        done = command(study, tmp_path / "out", "group", *actions, **of_step(1))
        assert done == (0, "")
    assert not (tmp_path / "out").exists()


def test_participants_commands_work_apart(study: Path, tmp_path: Path, command: Command) -> None:
    """Tasks of one step may be given a participant each."""
    words = ["participant", "--participant-label", "02", "--prepare", "--method", "ridge"]
    done = command(study, tmp_path / "out", *words, **of_step(1))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out" / "sub-02").rglob("*_responses.safetensors"))


def test_what_a_container_keeps_back_is_named(study: Path, tmp_path: Path, command: Command) -> None:
    done = command(study, tmp_path / "out", "group", SLURM_STEP_NUM_TASKS="2")
    assert done.returncode == 64
    assert "SLURM_JOB_ID is not in the environment" in done.stderr
