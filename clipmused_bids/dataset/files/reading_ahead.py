"""Reading ahead: threads read what is needed next while the caller works, never more than so much of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Result = TypeVar("Result")


class ReadAhead(Generic[Result]):
    """Results of jobs in the order of the jobs, from threads that are a bounded number of jobs ahead.

    A context manager: on leaving it, jobs that have not begun never begin, and those that have are waited for. Jobs
    that read and unpack files run side by side, since such code gives up Python's lock. Whatever a job raises is
    raised where its result would have come.

    Parameters
    ----------
    jobs : iterable of callable
        Taken one by one by the thread that iterates, as far as they are needed; may be endless.
    n_threads : int
    ahead : int
        Most jobs that have begun, or are done and wait, beyond the one whose result was given last.
    initializer : callable, optional
        Called at the start of each thread.
    """

    def __init__(
        self,
        jobs: Iterable[Callable[[], Result]],
        *,
        n_threads: int,
        ahead: int,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._jobs, self._ahead = jobs, ahead
        self._pool = ThreadPoolExecutor(
            n_threads, thread_name_prefix="reading-ahead", initializer=initializer
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._pool.shutdown(wait=True)

    def __iter__(self) -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        for job in self._jobs:
            waiting.append(self._pool.submit(job))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def stop(self) -> None:
        """Begin no further job and wait for none; another thread that waits for a result gets ``CancelledError``."""
        self._pool.shutdown(wait=False, cancel_futures=True)
