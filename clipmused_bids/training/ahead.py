"""Items of an iterator, made ahead in a thread while the caller works with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class _End:
    """What stands after the last item."""


_END = _End()


def ahead(items: Iterator[T], *, depth: int) -> Generator[T, None, None]:
    """Hand out the items of an iterator in their order, while a thread makes up to ``depth`` further ones.

    The iterator is run by the thread alone. Whatever it raises is raised here, in the place of the item. When the
    caller stops, by closing this generator or because something is raised where it is looped over, the item in work
    is finished and the thread ends.

    Parameters
    ----------
    items : iterator
    depth : int
        0: no thread; each item is made when it is asked for.
    """
    if depth == 0:
        yield from items
        return
    waiting: deque[Future[T | _End]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:
        try:
            for _ in range(depth):
                waiting.append(pool.submit(next, items, _END))
            while not isinstance(item := waiting.popleft().result(), _End):
                waiting.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
