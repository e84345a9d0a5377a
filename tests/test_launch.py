"""Which environments say that this process is one of several."""

from __future__ import annotations

import pytest

from clipmused_bids.config.launch import find_launch, first_host
from clipmused_bids.errors import UsageError

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "gpu01",
    "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
}  # fmt: skip


def test_torchrun_names_number_node_and_place() -> None:
    launch = find_launch(TORCHRUN)
    assert launch is not None
    assert (launch.rank, launch.count, launch.local_rank, launch.n_nodes) == (3, 4, 1, 2)
    assert (launch.address, launch.port, launch.hosted, launch.by) == ("gpu01", 29500, True, "torchrun")


def test_a_step_of_several_tasks_on_one_node_meets_on_it() -> None:
    launch = find_launch(SRUN)
    assert launch is not None
    assert (launch.rank, launch.count, launch.local_rank, launch.n_nodes) == (1, 2, 1, 1)
    assert (launch.address, launch.hosted, launch.by) == ("127.0.0.1", False, "srun")
    assert 15000 <= launch.port < 30000


def test_a_step_over_nodes_meets_on_the_first_and_steps_of_one_job_apart() -> None:
    over = find_launch({**SRUN, "SLURM_STEP_NUM_NODES": "2"})
    other = find_launch({**SRUN, "SLURM_STEP_ID": "1"})
    named = find_launch({**SRUN, "MASTER_ADDR": "here", "MASTER_PORT": "99"})
    assert over is not None
    assert other is not None
    assert named is not None
    assert over.address == "gpu03"
    assert other.port != over.port
    assert (named.address, named.port) == ("here", 99)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        # A batch script of two tasks, which has called the command without srun.
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_NPROCS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        # A task of an array, started by srun.
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_ARRAY_TASK_ID": "2"},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        # What scripts prepare for others.
        {"WORLD_SIZE": "8", "MASTER_ADDR": "gpu01", "MASTER_PORT": "29500"},
    ],
)  # fmt: skip
def test_alone(environ: dict[str, str]) -> None:
    assert find_launch(environ) is None


def test_torchrun_within_a_step_is_torchrun() -> None:
    launch = find_launch({**SRUN, **TORCHRUN})
    assert launch is not None
    assert launch.by == "torchrun"


@pytest.mark.parametrize(
    ("environ", "lacking"),
    [
        ({k: v for k, v in SRUN.items() if k != "SLURM_PROCID"}, "SLURM_PROCID"),
        ({k: v for k, v in SRUN.items() if k != "SLURM_LOCALID"}, "SLURM_LOCALID"),
        ({k: v for k, v in SRUN.items() if k != "SLURM_JOB_ID"}, "SLURM_JOB_ID"),
        ({k: v for k, v in TORCHRUN.items() if k != "MASTER_PORT"}, "MASTER_PORT"),
    ],
)
def test_what_lacks_is_named(environ: dict[str, str], lacking: str) -> None:
    with pytest.raises(UsageError, match=lacking) as raised:
        find_launch(environ)
    assert "container" in str(raised.value)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="SLURM_PROCID first"):
        find_launch({**SRUN, "SLURM_PROCID": "first"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu03", "gpu03"),
        ("gpu[03-05,9],login1", "gpu03"),
        ("a1,b[1-2]", "a1"),
        ("n[7]-ib.x", "n7-ib.x"),
        ("r1-n[2,4]", "r1-n2"),
    ],
)
def test_first_of_a_list_of_nodes(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
