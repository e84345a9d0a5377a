"""One command in several processes: process 0 runs it, the others train networks with it.

Only ``--train`` of networks gains by it. Process 0 alone prepares, writes, fits linear methods, decodes and evaluates;
the others wait, and end as it ends.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from clipmused_bids.config import Config
from clipmused_bids.config.launch import Launch
from clipmused_bids.errors import ClipMusedError, ExitCode, MissingInputError, ProcessesError
from clipmused_bids.stages.contenders import asked_for
from clipmused_bids.stages.stop_requests import SIGNALS

if TYPE_CHECKING:
    from clipmused_bids.training.checkpoint import Keeper, Snapshot
    from clipmused_bids.training.distributed import SeveralProcesses
    from clipmused_bids.training.processes import Processes

logger = logging.getLogger(__name__)

Work = Callable[["Processes | None"], ExitCode]


def run_together(config: Config, launch: Launch, work: Work, *, command_line: Sequence[str]) -> ExitCode:
    """Run a command that was started as several processes.

    Parameters
    ----------
    config : Config
    launch : Launch
        Which of them this is.
    work : callable
        ``work(processes)`` runs the command by itself; None where nothing is shared.
    command_line : sequence of str
        As typed: the same for all.

    Returns
    -------
    ExitCode
        The same of every process.

    Raises
    ------
    ClipMusedError
        What the command raises, in process 0; in the others, if they cannot go on.
    """
    if not trains_networks(config):
        # Participants' commands may be as different as they like; of a group's, one is enough.
        return work(None) if config.level == "participant" or launch.rank == 0 else ExitCode.OK
    from clipmused_bids.dataset.files.mapped import MappedArrays
    from clipmused_bids.training.meeting import DifferentCommandsError, meet

    if launch.rank > 0:
        _speak_as(launch)
    try:
        processes = meet(
            launch, on_gpu=_uses_gpu(config), command="\0".join(command_line), files=MappedArrays()
        )
    except DifferentCommandsError:
        if config.level == "group":
            raise
        return work(None)
    if launch.rank > 0:
        return _follow(processes)
    logger.info("%d processes train together (%s).", launch.count, launch.by)
    return _lead(processes, work)


def trains_networks(config: Config) -> bool:
    """Whether a command trains networks from their start, which several processes share."""
    usual = not config.actions and config.level == "group" and not config.tells_only
    trains = "train" in config.actions or usual
    return trains and config.base_model is None and any(one.info.deep for one in asked_for(config))


def _lead(processes: SeveralProcesses, work: Work) -> ExitCode:
    """Run the command, and end the others as it ends."""
    code, reason = ExitCode.UNEXPECTED, ""
    try:
        code = work(processes)
    except BaseException as error:
        code, reason = _code_of(error), str(error).partition("\n")[0]
        raise
    finally:
        processes.part(code, reason=reason)
    return code


def _code_of(error: BaseException) -> ExitCode:
    if isinstance(error, ClipMusedError):
        return error.exit_code
    if isinstance(error, PermissionError):
        return MissingInputError.exit_code
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.UNEXPECTED


def _follow(processes: SeveralProcesses) -> ExitCode:
    """Carry out orders until process 0 parts."""
    from clipmused_bids.methods.shared_fit import carry_out_order, kept_in

    with _requests() as asked:
        try:
            for order in processes.orders():
                try:
                    carry_out_order(order, processes, keeper=Listener(kept_in(order), asked))
                except Exception as error:
                    if not processes.leaving:
                        raise processes.broken_by(error) from error
        except ProcessesError as error:
            if error.told:
                return error.exit_code
            raise
    return processes.parting


@contextmanager
def _requests() -> Iterator[list[int]]:
    """Note signals that ask to stop; they are heeded where all processes can stop together."""
    asked: list[int] = []
    before = {one: signal.signal(one, lambda number, _frame: asked.append(number)) for one in SIGNALS}
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Listener:
    """Keeper of a process that writes nothing: it goes on from what it was told, and hears requests to stop.

    Parameters
    ----------
    kept : Snapshot or None
    asked : list of int
        Signals that came; any of them is a request.
    """

    def __init__(self, kept: Snapshot | None, asked: Sequence[int]) -> None:
        self._kept = kept
        self._asked = asked

    def of(self, name: str) -> Keeper:  # noqa: ARG002 - each order is of one training
        """Return itself."""
        return self

    def load(self) -> Snapshot | None:
        """Return what process 0 goes on from."""
        return self._kept

    def save(self, snapshot: Snapshot) -> None:
        """Leave it to process 0."""

    def due(self) -> bool:
        """Return False: process 0 knows when."""
        return False

    def attentive(self) -> AbstractContextManager[None]:
        """Change nothing: it listens all the time."""
        return nullcontext()

    def stop_asked(self) -> bool:
        """Whether a signal came."""
        return bool(self._asked)


def _uses_gpu(config: Config) -> bool:
    from clipmused_bids.stages.invocation import choose_device

    return choose_device(config.device) == "cuda"


def _speak_as(launch: Launch) -> None:
    """Say warnings only, and who says them."""
    for handler in logging.getLogger("clipmused_bids").handlers:
        handler.setLevel(max(handler.level, logging.WARNING))
        handler.setFormatter(logging.Formatter(f"{launch.name}: %(message)s"))
