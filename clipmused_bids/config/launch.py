"""Several processes of one command, as ``srun`` and ``torchrun`` start them; the environment says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clipmused_bids.errors import UsageError

# Below what systems give to outgoing connections, above what services listen at.
FIRST_PORT, N_PORTS = 15000, 15000


@dataclass(frozen=True)
class Launch:
    """A process among those that were started together.

    Parameters
    ----------
    rank, count : int
        Its number, from 0, of how many.
    local_rank : int
        Its number on its node.
    n_nodes : int
    address, port : str and int
        Where process 0 is met.
    hosted : bool
        Whether the launcher listens there itself; else process 0 does.
    by : {"srun", "torchrun"}
    """

    rank: int
    count: int
    local_rank: int
    n_nodes: int
    address: str
    port: int
    hosted: bool
    by: str

    @property
    def name(self) -> str:
        """``process 1 of 0-3``: which one it is, for messages."""
        return f"process {self.rank} of 0-{self.count - 1}"


def find_launch(environ: Mapping[str, str]) -> Launch | None:
    """Say which of several processes this is; None where it was started alone.

    ``torchrun`` with more than one process, or a step of ``srun`` with more than one task. A batch script is no step,
    whatever it asked for, and an array job of one task each is not either.

    Raises
    ------
    UsageError
        If several processes were started and not everything that they need to meet is in the environment.
    """
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environ.keys():
        return _of_torchrun(environ) if _number(environ, "WORLD_SIZE", by="torchrun") > 1 else None
    if "SLURM_STEP_NUM_TASKS" in environ and _number(environ, "SLURM_STEP_NUM_TASKS", by="srun") > 1:
        return _of_srun(environ)
    return None


def _of_torchrun(environ: Mapping[str, str]) -> Launch:
    count = _number(environ, "WORLD_SIZE", by="torchrun")
    on_node = int(environ.get("LOCAL_WORLD_SIZE", count))
    return Launch(
        rank=_number(environ, "RANK", by="torchrun"),
        count=count,
        local_rank=_number(environ, "LOCAL_RANK", by="torchrun"),
        n_nodes=-(-count // on_node),
        address=_text(environ, "MASTER_ADDR", by="torchrun"),
        port=_number(environ, "MASTER_PORT", by="torchrun"),
        hosted=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        by="torchrun",
    )


def _of_srun(environ: Mapping[str, str]) -> Launch:
    n_nodes = int(environ.get("SLURM_STEP_NUM_NODES", "1"))
    address = environ.get("MASTER_ADDR") or "127.0.0.1"
    if n_nodes > 1 and "MASTER_ADDR" not in environ:
        address = first_host(_text(environ, "SLURM_STEP_NODELIST", by="srun"))
    # Steps that run at once on one node must not meet at one port.
    job, step = _number(environ, "SLURM_JOB_ID", by="srun"), int(environ.get("SLURM_STEP_ID", "0"))
    port = environ.get("MASTER_PORT") or str(FIRST_PORT + (7 * job + 101 * step) % N_PORTS)
    return Launch(
        rank=_number(environ, "SLURM_PROCID", by="srun"),
        count=_number(environ, "SLURM_STEP_NUM_TASKS", by="srun"),
        local_rank=_number(environ, "SLURM_LOCALID", by="srun"),
        n_nodes=n_nodes,
        address=address,
        port=int(port),
        hosted=False,
        by="srun",
    )


def first_host(nodes: str) -> str:
    """First name in a list of nodes as Slurm writes it: ``gpu[03-05,9],login1`` is ``gpu03``."""
    match = re.match(r"([^,\[]+)(?:\[([0-9]+)[^\]]*\]([^,]*))?", nodes.strip())
    if match is None:
        raise UsageError(
            f"SLURM_STEP_NODELIST {nodes}: not a list of nodes.", hint="name the first node by MASTER_ADDR"
        )
    return "".join(part or "" for part in match.groups())


def _text(environ: Mapping[str, str], name: str, *, by: str) -> str:
    if not environ.get(name):
        raise UsageError(
            f"{by} started several processes, but {name} is not in the environment of this one.",
            hint="in a container pass it on (--env in Apptainer, -e in Docker); or start one process only",
        )
    return environ[name]


def _number(environ: Mapping[str, str], name: str, *, by: str) -> int:
    text = _text(environ, name, by=by)
    if not text.isdigit():
        raise UsageError(f"{name} {text}: not a number; {by} sets it for each process.")
    return int(text)
