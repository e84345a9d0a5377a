"""Several processes that train one decoder: what each has of a batch, and how they meet, agree and part.

Process 0 does everything that a single process does. The others wait for its orders, and take part in trainings.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.nn.parallel import DistributedDataParallel

from clipmused_bids.config import Precision
from clipmused_bids.config.launch import Launch
from clipmused_bids.errors import ClipMusedError, ExitCode, ProcessesError
from clipmused_bids.training.batches import Division
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.messages import FileArrays, receive, send
from clipmused_bids.training.processes import Processes

# For anything that process 0 does alone; for the others to go.
ANYTHING = timedelta(days=30)
PARTING = timedelta(seconds=10)

# Buffers never change; newer torch has another name for leaving them alone.
_KNOWN = inspect.signature(DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _KNOWN else "broadcast_buffers": False
}


class SeveralProcesses(Processes):
    """One process among several; made by `meeting.meet`.

    Parameters
    ----------
    launch : Launch
    store : TCPStore
        Where a process that ends leaves its reason.
    files : FileArrays

    Attributes
    ----------
    parting : ExitCode
        How process 0 has ended, once it has.
    """

    def __init__(self, launch: Launch, *, store: Store, files: FileArrays) -> None:
        self.launch = launch
        self.rank = launch.rank
        self.count = launch.count
        self._store = store
        self._files = files
        orders = dist.new_group(backend="gloo", timeout=ANYTHING)
        assert isinstance(orders, dist.ProcessGroup)
        self._orders = orders
        self._leaving = False
        self._broken = False
        self.parting = ExitCode.OK

    def _own_rows(self, n_rows: int) -> tuple[int, int]:
        return n_rows * self.rank // self.count, n_rows * (self.rank + 1) // self.count

    @property
    def division(self) -> Division:
        """Rows of a batch that this process computes; where it has none of its own, the first."""
        return lambda n_rows: self._own_rows(n_rows) if self.has_share(n_rows) else (0, 1)

    def has_share(self, n_rows: int) -> bool:
        """Whether the rows of a batch of n_rows that this process computes count, or are another's."""
        start, stop = self._own_rows(n_rows)
        return stop > start

    def fabric(self, *, device: torch.device, precision: Precision) -> Fabric:
        """Make what moves a network to its device, in its precision, and averages gradients over processes."""
        own = device if device.type == "cpu" else torch.device("cuda", torch.cuda.current_device())
        strategy = DDPStrategy(
            # Each process sees its own device only, whatever the others have.
            parallel_devices=[own] * (self.launch.local_rank + 1),
            cluster_environment=_Met(self.launch),
            # Maps of a participant may have all their rows in another process.
            find_unused_parameters=True,
            **_NO_BUFFERS,
        )
        fabric = Fabric(accelerator=device.type, strategy=strategy, precision=precision)
        fabric.launch()
        return fabric

    def gathered(self, values: Tensor, *, n_rows: int) -> Tensor:
        """Join the rows (B_r, ...) that each process has to those of the whole batch (n_rows, ...); no gradient."""
        most = -(-n_rows // self.count)
        own = values.new_zeros((most, *values.shape[1:]))
        if self.has_share(n_rows):
            own[: len(values)] = values
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        ends = [n_rows * r // self.count for r in range(self.count + 1)]
        return torch.cat([part[: ends[r + 1] - ends[r]] for r, part in enumerate(parts)])

    def summed(self, values: Tensor) -> Tensor:
        """Sum a tensor over processes."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    def from_first(self, values: Tensor) -> Tensor:
        """Return what process 0 has in place of this tensor, for what all must decide alike."""
        found = values.clone()
        dist.broadcast(found, src=0)
        return found

    def require_same(self, place: tuple[int, int]) -> None:
        """Refuse to go on from different places (rows of the history, steps).

        Raises
        ------
        ProcessesError
            If process 0 is elsewhere.
        """
        others = self.from_first(torch.tensor(place)).tolist()
        if self.any(list(place) != others):
            raise ProcessesError(
                f"{self.launch.name}: processes go on from different states: {place} here, {others} in process 0.",
                hint="one run at a time may train under a model label; the same command goes on",
            )

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        found = torch.tensor([int(flag)])
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return bool(found.item())

    def leave(self) -> None:
        """Say that every process leaves the training here, by an error that all raise, and may train again."""
        self._leaving = True

    @contextmanager
    def sharing(self, order: Callable[[], Snapshot]) -> Iterator[None]:
        """Have the other processes carry out an order while this one does so inside.

        Raises
        ------
        ProcessesError
            If one of them fails by itself, or this one does: then nobody can go on. What all leave a training by
            alike passes as it is.
        """
        self._leaving = False
        try:
            send(order(), group=self._orders, files=self._files)
            yield
        except BaseException as error:
            if self._leaving:
                raise
            if isinstance(error, RuntimeError | ClipMusedError):
                raise self.broken_by(error) from error
            self._broken = True
            raise

    def orders(self) -> Iterator[Snapshot]:
        """Wait for orders of process 0, one after the other, until it parts.

        Raises
        ------
        ProcessesError
            If it is gone.
        """
        while True:
            self._leaving = False
            try:
                message = receive(group=self._orders, files=self._files)
            except (RuntimeError, ClipMusedError) as error:
                raise self.broken_by(error) from error
            if "parting" in message.values:
                self._store.set(f"parted/{self.rank}", "")
                self.parting = ExitCode(message.values["parting"])
                dist.destroy_process_group()
                return
            yield message

    @property
    def leaving(self) -> bool:
        """Whether every process leaves the training."""
        return self._leaving

    def broken_by(self, error: BaseException) -> ProcessesError:
        """Tell the others why this process cannot go on, if nobody told it; return what this one says."""
        self._broken = True
        told = self._told()
        if told is not None:
            return told
        code = error.exit_code if isinstance(error, ClipMusedError) else ExitCode.UNEXPECTED
        lost = _is_lost_connection(error)
        if lost:
            code = ExitCode.INTERRUPTED
            text, hint = "another process of this command ended (killed, or out of memory?).", None
        elif isinstance(error, ClipMusedError):
            text, hint = str(error.args[0]), error.hint
        else:
            text, hint = f"{type(error).__name__}: {str(error)[:500]}", "--debug shows where"
        self.leave_word(text, code)
        return ProcessesError(f"{self.launch.name}: {text}", hint=hint, exit_code=code)

    def leave_word(self, text: str, code: ExitCode) -> None:
        """Say why this process ends, for others that lose it."""
        tried(lambda: self._store.set(f"end/{self.rank}", json.dumps([text, int(code)])))

    def _told(self) -> ProcessesError | None:
        """Say what another process has said of its end."""
        for rank in range(self.count):
            key = f"end/{rank}"
            if rank != self.rank and tried(partial(self._store.check, [key])):
                text, code = json.loads(self._store.get(key))
                where = f"process {rank} of 0-{self.count - 1}"
                return ProcessesError(f"{where}: {text}", exit_code=ExitCode(code), told=True)
        return None

    def part(self, code: ExitCode, *, reason: str = "") -> None:
        """End the others with this exit code, as far as they are still there; of process 0, at its end."""
        if self._broken:
            self.leave_word(reason or "ended.", code)
            return
        try:
            send(Snapshot({}, {"parting": int(code)}), group=self._orders, files=self._files)
        except RuntimeError:
            return
        # Whoever holds the meeting place waits until the others have gone.
        others = [f"parted/{rank}" for rank in range(1, self.count)]
        tried(lambda: self._store.wait(others, PARTING))
        dist.destroy_process_group()


class _Met(ClusterEnvironment):
    """Processes that have met already, for Fabric."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._launch.address

    @property
    def main_port(self) -> int:
        return self._launch.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._launch.count

    def set_world_size(self, size: int) -> None:
        """Do nothing: it is as it is."""

    def global_rank(self) -> int:
        return self._launch.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: it is as it is."""

    def local_rank(self) -> int:
        return self._launch.local_rank

    def node_rank(self) -> int:
        return 0


def _is_lost_connection(error: BaseException) -> bool:
    """Tell whether a collective operation has failed because another process is gone, and not by its own fault."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "connection was")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def tried(ask: Callable[[], object]) -> object:
    """Ask the place where processes meet; None if it is gone."""
    try:
        return ask()
    except RuntimeError:
        return None
