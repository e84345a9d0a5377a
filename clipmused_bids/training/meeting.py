"""Where the processes of a launch meet, and what keeps them from it."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta

import torch
from torch import distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.distributed.distributed_c10d import PrefixStore

from clipmused_bids.config.launch import Launch
from clipmused_bids.errors import ExitCode, ProcessesError
from clipmused_bids.training.distributed import SeveralProcesses
from clipmused_bids.training.messages import SECONDS_BETWEEN_LOOKS, FileArrays

# For all processes to come; for a step of the slowest; for a look whether process 0 is there, and for its answers.
MEETING = timedelta(minutes=10)
STEP = timedelta(minutes=30)
A_LOOK = timedelta(seconds=5)
AN_ANSWER = timedelta(minutes=1)


class DifferentCommandsError(ProcessesError):
    """Processes of one launch were given commands of their own."""


def meet(
    launch: Launch, *, on_gpu: bool, command: str, files: FileArrays, patience: timedelta = MEETING
) -> SeveralProcesses:
    """Wait for the other processes of a launch.

    Parameters
    ----------
    launch : Launch
    on_gpu : bool
        Whether tensors on GPUs will be sent; each process takes the GPU of its local number, or the only one it sees.
    command : str
        What this process was asked to do, the same for all.
    files : FileArrays
    patience : timedelta
        How long.

    Raises
    ------
    ProcessesError
        If they do not come, or were asked for something else.
    """
    if launch.n_nodes == 1 and "lo" in {name for _, name in socket.if_nameindex()}:
        # Names of nodes often resolve to nothing useful.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if on_gpu:
        _take_gpu(launch)
    deadline = time.monotonic() + patience.total_seconds()
    store = _meeting_place(launch, deadline)
    store.set_timeout(AN_ANSWER)
    store.set(f"command/{launch.rank}", command)
    everyone = [f"command/{rank}" for rank in range(launch.count)]
    while lacking := [rank for rank, key in enumerate(everyone) if not store.check([key])]:
        if time.monotonic() > deadline:
            raise ProcessesError(
                f"{launch.name}: {_listed(lacking)} did not come to {launch.address}:{launch.port} within "
                f"{patience.total_seconds():.0f} s.",
                hint="look at their output; they need the same command and a network between the nodes",
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)
    others = [rank for rank, key in enumerate(everyone) if store.get(key).decode() != command]
    if others:
        raise DifferentCommandsError(
            f"{launch.name}: {_listed(others)} of this launch got another command.",
            hint="processes that train together need one command; for others start steps or jobs of one task",
            exit_code=ExitCode.USAGE,
        )
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    shared = PrefixStore("clipmused", store)
    dist.init_process_group(backend, store=shared, rank=launch.rank, world_size=launch.count, timeout=STEP)
    return SeveralProcesses(launch, store=store, files=files)


def _meeting_place(launch: Launch, deadline: float) -> TCPStore:
    hosts = launch.rank == 0 and not launch.hosted
    while True:
        try:
            # One look at a time: signals are heard between them.
            return TCPStore(
                launch.address, launch.port, is_master=hosts, timeout=A_LOOK, wait_for_workers=False
            )
        except RuntimeError as error:
            if not hosts and time.monotonic() < deadline:
                continue
            why = "cannot listen at" if hosts else "process 0 is not to be met at"
            raise ProcessesError(
                f"{launch.name}: {why} {launch.address}:{launch.port} ({str(error).splitlines()[0][:200]}).",
                hint="MASTER_ADDR and MASTER_PORT name another place; all processes need the same",
            ) from error


def _take_gpu(launch: Launch) -> None:
    seen = torch.cuda.device_count()
    if 1 < seen <= launch.local_rank:
        raise ProcessesError(
            f"{launch.name}: {seen} GPUs on this node are fewer than its processes.",
            hint="start as many processes as there are GPUs",
            exit_code=ExitCode.USAGE,
        )
    torch.cuda.set_device(launch.local_rank if seen > 1 else 0)


def _listed(ranks: list[int]) -> str:
    return f"process{'es' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
