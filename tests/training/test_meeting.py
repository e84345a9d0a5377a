"""Processes that do not come, and places where one cannot be met."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from clipmused_bids.config.launch import Launch
from clipmused_bids.dataset.files.mapped import MappedArrays
from clipmused_bids.errors import ProcessesError
from clipmused_bids.training.meeting import meet
from tests.training.launched import free_port


def launch(rank: int, port: int) -> Launch:
    return Launch(
        rank=rank,
        count=3,
        local_rank=rank,
        n_nodes=1,
        address="127.0.0.1",
        port=port,
        hosted=False,
        by="srun",
    )


def come(rank: int, port: int) -> None:
    meet(
        launch(rank, port), on_gpu=False, command="train", files=MappedArrays(), patience=timedelta(seconds=1)
    )


def test_who_does_not_come_is_named() -> None:
    with pytest.raises(
        ProcessesError, match=r"process 0 of 0-2: processes 1, 2 did not come .* within 1 s"
    ) as raised:
        come(0, free_port())
    assert raised.value.exit_code == 75


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ProcessesError, match="cannot listen at") as raised:
            come(0, taken.getsockname()[1])
    assert "MASTER_PORT" in str(raised.value)


@pytest.mark.slow
def test_process_0_that_is_not_there_is_waited_for_and_then_named() -> None:
    with pytest.raises(ProcessesError, match="process 1 of 0-2: process 0 is not to be met at"):
        come(1, free_port())
