from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from itertools import count

import pytest

from clipmused_bids.dataset.files.reading_ahead import ReadAhead


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reading-ahead")]


def settled(count_of: Callable[[], int]) -> int:
    """A count once it has not grown for a while."""
    before = -1
    while before != (before := count_of()):
        time.sleep(0.05)
    return before


def test_results_come_in_the_order_of_the_jobs_whichever_is_done_first() -> None:
    def job(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number

    with ReadAhead((partial(job, k) for k in range(30)), n_threads=4, ahead=8) as results:
        assert list(results) == list(range(30))
    assert not alive()


@pytest.mark.parametrize(("n_threads", "ahead"), [(1, 1), (4, 6), (6, 2)])
def test_a_slow_reader_has_only_so_many_jobs_begun(n_threads: int, ahead: int) -> None:
    begun: list[int] = []
    jobs = (partial(begun.append, k) for k in count())  # endless: an unbounded queue would never stop
    with ReadAhead(jobs, n_threads=n_threads, ahead=ahead) as results:
        for given, _ in zip(range(1, 6), results, strict=False):
            assert settled(lambda: len(begun)) == given + ahead


def test_jobs_run_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=10)
    with ReadAhead([meeting.wait] * 3, n_threads=3, ahead=2) as results:
        assert sorted(results) == [0, 1, 2]


def test_what_a_job_raises_comes_in_its_place() -> None:
    def job(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("three")
        return number

    seen = []
    with (
        pytest.raises(ZeroDivisionError, match="three"),
        ReadAhead((partial(job, k) for k in range(9)), n_threads=2, ahead=5) as results,
    ):
        seen.extend(results)
    assert not alive()


def test_after_leaving_no_job_begins() -> None:
    begun: list[int] = []

    def job(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    def leave() -> None:
        with ReadAhead((partial(job, k) for k in range(100)), n_threads=2, ahead=50) as results:
            next(iter(results))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert not alive()
    assert len(begun) <= 6


def test_stopping_frees_a_thread_that_waits() -> None:
    release, caught = threading.Event(), []
    results = ReadAhead([release.wait] * 4, n_threads=1, ahead=3)

    def wait() -> None:
        try:
            list(results)
        except (CancelledError, RuntimeError) as error:
            caught.append(error)

    with results:
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not alive():
            time.sleep(0.01)
        results.stop()
        release.set()
        waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert len(caught) == 1


def test_every_thread_begins_with_the_initializer() -> None:
    own = threading.local()

    def begin() -> None:
        own.ready = True

    with ReadAhead([lambda: own.ready] * 20, n_threads=4, ahead=8, initializer=begin) as results:
        assert list(results) == [True] * 20
