"""Runs prepared at the same time, each by a process of its own (``--nprocs``).

A run that these processes cannot do, since its data are refused or it needs more memory than their share, is left to
`stages.prepare`, which meets it again and says so: failures are told in the order of the runs.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from logging.handlers import QueueHandler
from multiprocessing import connection
from queue import SimpleQueue
from typing import Any, cast

from clipmused_bids.dataset.files.cores import THREAD_VARIABLES
from clipmused_bids.dataset.files.memory import available_memory, held_memory
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import (
    CannotCreateError,
    ClipMusedError,
    ExitCode,
    InterruptedRunError,
    OutputWriteError,
)
from clipmused_bids.long_work import long_work
from clipmused_bids.records import BoolArray, Grid, Run
from clipmused_bids.stages.budget import usable_memory, whole_blocks
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import (
    estimation_space,
    make_run,
    responses_are_stored,
    runs_with_trials,
    size_of_run,
)

logger = logging.getLogger(__name__)

# What a process holds before it reads anything (measured: 200 MB), with what its interpreter keeps.
_PROCESS_BYTES = 256 * 2**20
_PACKAGE = "clipmused_bids"


@dataclass(frozen=True)
class RunJob:
    """One run to prepare.

    Parameters
    ----------
    plan : Plan
        Of its participant alone.
    tree : OutputTree
    run : Run
    grid : Grid
    mask : ndarray of bool
    """

    plan: Plan
    tree: OutputTree
    run: Run
    grid: Grid
    mask: BoolArray


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Parameters
    ----------
    participant : str
    made : mapping of str to int
        As `stages.prepare.make_run` counts; empty where the run is left to the process that asked.
    records : tuple of LogRecord
        What was logged on the way.
    """

    participant: str
    made: Mapping[str, int]
    records: tuple[logging.LogRecord, ...] = ()


def prepare_ahead(plan: Plan, tree: OutputTree) -> dict[str, Counter[str]]:
    """Prepare runs that are not stored yet, as many at a time as ``--nprocs`` and ``--mem`` allow.

    The files are the same, byte for byte, as `stages.prepare` writes: a run is worked on in the same blocks, by one
    thread. Existing responses of a manifest are left to it altogether.

    Returns
    -------
    dict of str to Counter
        Of each participant runs (``estimated``) and trials left out (``dropped``).

    Raises
    ------
    ClipMusedError
        If an output cannot be written.
    InterruptedRunError
        If one of the processes was ended from outside.
    """
    made: dict[str, Counter[str]] = {}
    todo = _todo(plan, tree) if plan.config.n_processes > 1 and plan.config.inputs.betas is None else {}
    n_runs = sum(map(len, todo.values()))
    jobs = _jobs(plan, tree, todo)
    first = next(jobs, None) if n_runs > 1 else None
    if first is None:
        return made
    usable = _usable(plan.config.memory)
    each = _PROCESS_BYTES + whole_blocks(**size_of_run(first.plan, first.run, first.mask))
    n_processes = min(plan.config.n_processes, n_runs, usable // each)
    if n_processes < 2:
        logger.info("Responses: the memory allowed is enough for one run at a time.")
        return made
    logger.info("Responses: %d runs at a time, each by a process of its own.", n_processes)
    with _processes(n_processes) as pool:
        futures = [pool.submit(prepare_run, job, usable // n_processes) for job in chain([first], jobs)]
        for outcome in _outcomes(futures, at_once=n_processes):
            made.setdefault(outcome.participant, Counter()).update(outcome.made)
    return made


def prepare_run(job: RunJob, memory: int) -> Outcome:
    """Prepare one run in a process that does nothing else.

    Parameters
    ----------
    job : RunJob
    memory : int
        Bytes that the process may hold in all.

    Raises
    ------
    ClipMusedError
        If the output cannot be written; an error of the run's own data is left to the process that asked.
    """
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    plan = replace(job.plan, config=replace(job.plan.config, memory=memory))
    try:
        with _listening(records):
            if usable_memory(memory) < whole_blocks(**size_of_run(plan, job.run, job.mask)):
                return Outcome(job.run.participant, {})
            made = make_run(plan, job.tree, job.run, grid=job.grid, mask=job.mask)
    except (CannotCreateError, OutputWriteError):
        # Would meet the other runs as well.
        raise
    except ClipMusedError:
        return Outcome(job.run.participant, {})
    except SystemExit:
        # Files half-written are removed by now; the pool would hand it another run.
        os._exit(ExitCode.INTERRUPTED)
    return Outcome(job.run.participant, dict(made), tuple(records.get() for _ in range(records.qsize())))


def _todo(plan: Plan, tree: OutputTree) -> dict[str, list[Run]]:
    """Runs of each participant that are not stored."""
    runs = {participant: runs_with_trials(plan, participant) for participant in plan.participants}
    return {
        participant: [run for run in own if not responses_are_stored(plan, tree, run)]
        for participant, own in runs.items()
    }


def _jobs(plan: Plan, tree: OutputTree, todo: Mapping[str, Sequence[Run]]) -> Iterator[RunJob]:
    """Jobs of all participants whose masks can be read."""
    for participant, runs in todo.items():
        if not runs:
            continue
        own = plan.runs_of(participant)
        trials = {run.key: plan.trials[run.key] for run in own}
        small = replace(
            plan,
            participants=(participant,),
            runs=own,
            event_runs=own,
            trials=trials,
            movies={},
            derivatives=(),
        )
        try:
            grid, mask = estimation_space(
                plan, participant, runs_with_trials(plan, participant), n_todo=len(runs)
            )
            size_of_run(small, runs[0], mask)
        except ClipMusedError as error:
            logger.debug("sub-%s: left for later: %s", participant, error)
            continue
        for run in runs:
            yield RunJob(small, tree, run, grid, mask)


def _usable(limit: int | None) -> int:
    """Bytes that all processes may hold together, beside this one."""
    return available_memory() // 2 if limit is None else limit - held_memory()


def _outcomes(futures: Sequence[Future[Outcome]], *, at_once: int) -> Iterator[Outcome]:
    """Outcomes in the order of the runs; what was logged is said here."""
    with long_work("Responses", len(futures), "run", at_once=at_once, announced=True) as work:
        for future in futures:
            outcome = future.result()
            for record in outcome.records:
                logging.getLogger(record.name).handle(record)
            yield outcome
            work.advance()


@contextmanager
def _processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are ended at once if this one is stopped."""
    pool = ProcessPoolExecutor(
        n,
        # Not fork: threads of libraries that this process has loaded would be missing in its copies.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(list(warnings.filters),),
    )
    others = set(multiprocessing.active_children())
    with _one_thread():
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
                process.join()
            # Also where the next run was to be handed to it.
            if isinstance(error, BrokenProcessPool):
                raise InterruptedRunError(
                    "a process that prepared a run was ended from outside: by a signal, or for its memory.",
                    hint="the same command goes on where it stopped; with a smaller --nprocs or --mem it needs less "
                    "memory",
                ) from error
            raise
    pool.shutdown()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started meanwhile have one thread each; libraries read it when they are loaded."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(filters: list[Any]) -> None:
    """Set up a process: it ends cleanly when it is told to, and with the process that started it."""
    cast("list[Any]", warnings.filters)[:] = filters
    # The terminal's Ctrl-C reaches every process; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: sys.exit(ExitCode.INTERRUPTED))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(ExitCode.INTERRUPTED)


@contextmanager
def _listening(records: SimpleQueue[logging.LogRecord]) -> Iterator[None]:
    """Collect what the package logs, as text."""
    package = logging.getLogger(_PACKAGE)
    before = package.level, package.propagate, package.handlers[:]
    package.handlers[:] = [QueueHandler(records)]
    package.setLevel(logging.DEBUG)
    package.propagate = False
    try:
        yield
    finally:
        package.level, package.propagate, package.handlers[:] = before
