"""Items that a thread makes ahead: their order, what is raised, and that no thread outlives its use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from clipmused_bids.training.ahead import ahead


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("ahead")]


def counting(made: list[tuple[int, str]], *, n: int, fails_at: int = -1) -> Iterator[int]:
    for k in range(n):
        if k == fails_at:
            raise ValueError(f"item {k}")
        made.append((k, threading.current_thread().name))
        yield k


@pytest.mark.parametrize("depth", [0, 1, 3, 20])
def test_items_come_in_order_and_the_thread_ends(depth: int) -> None:
    made: list[tuple[int, str]] = []
    assert list(ahead(counting(made, n=9), depth=depth)) == list(range(9))
    assert [k for k, _ in made] == list(range(9))
    by_the_caller = {name == threading.current_thread().name for _, name in made}
    assert by_the_caller == {depth == 0}
    assert threads() == []


def test_no_more_is_made_than_may_lie_ahead() -> None:
    """The third item is handed out: it, those before it, and two further ones are made."""
    made: list[tuple[int, str]] = []
    third_made, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for k in counting(made, n=50):
            if k == 4:
                third_made.set()
            yield k

    found = ahead(items(), depth=2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    assert third_made.wait(10)
    go_on.wait(0.05)  # Time for an item too many to appear.
    assert [k for k, _ in made] == [0, 1, 2, 3, 4]
    found.close()
    assert threads() == []


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_an_error_is_raised_in_the_place_of_its_item(depth: int) -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="item 3"):
        seen.extend(ahead(counting([], n=9, fails_at=3), depth=depth))
    assert seen == [0, 1, 2]
    assert threads() == []


def test_the_thread_ends_when_the_caller_stops() -> None:
    with closing(ahead(counting([], n=9), depth=3)) as found:
        assert next(found) == 0
        assert len(threads()) == 1
    assert threads() == []


def test_what_was_not_begun_is_not_made_when_the_caller_stops() -> None:
    """The second item is in work when the caller stops; it is finished, and the third is not made."""
    made: list[tuple[int, str]] = []
    begun, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for k in counting(made, n=9):
            yield k
            begun.set()
            assert go_on.wait(10)

    found = ahead(items(), depth=3)
    assert next(found) == 0
    assert begun.wait(10)
    later = threading.Timer(0.2, go_on.set)
    later.start()
    found.close()
    later.join()
    assert [k for k, _ in made] == [0, 1]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_thread_ends_when_the_loop_is_left_by_an_error(error: type[BaseException]) -> None:
    def work() -> None:
        for k in ahead(counting([], n=9), depth=3):
            if k == 2:
                assert len(threads()) == 1
                raise error

    with pytest.raises(error):
        work()
    assert threads() == []
