"""Pictures to stored features: threads read and transform them, the model encodes, further threads finish and store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmused_bids.dataset.files.reading_ahead import ReadAhead
from clipmused_bids.dataset.stimuli.pictures import picture_jobs
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.long_work import long_work
from clipmused_bids.records import Picture
from clipmused_bids.stages.rates import usable_cores
from clipmused_bids.targets.clip import (
    ClipModel,
    Encoding,
    pixels_of,
    stack_pictures,
    start_encoding,
    torch_in_threads,
)

Features = Mapping[str, NDArray[Any]]
Finish = Callable[[NDArray[np.float32], NDArray[np.float32]], Features]
Store = Callable[[Sequence[str], Features], None]

# More threads than this wait for each other and for Python's lock.
MOST_THREADS = 8
# Batches that are ready while the model is at work on another one.
_BATCHES_AHEAD = 1


@dataclass(frozen=True)
class PictureBatch:
    """Pictures that are encoded together.

    Parameters
    ----------
    keys : tuple of str
    pixels : tensor of shape (n_keys, 3, height, width) or None
        None where no picture is left.
    unreadable : mapping of str to ClipMusedError
        Pictures between these and those of the batch before that cannot be read, and why.
    last : bool
        Whether the group ends here.
    """

    keys: tuple[str, ...]
    pixels: torch.Tensor | None
    unreadable: Mapping[str, ClipMusedError]
    last: bool


def encode_pictures(
    clip: ClipModel,
    groups: Sequence[Mapping[str, Picture]],
    *,
    batch_size: int,
    finish: Finish,
    store: Store,
) -> dict[str, ClipMusedError]:
    """Encode groups of pictures and store each group as one; the model does not wait for files.

    Batches never hold pictures of two groups. About four batches of pictures and the features of two groups are in
    memory, whatever the number of pictures. When this is interrupted, the groups that were encoded whole are stored.

    Parameters
    ----------
    clip : ClipModel
    groups : sequence of mappings of str to Picture
    batch_size : int
    finish : callable
        Raw features of a batch, low (n, n_patches * patch_width) and high (n, embedding_width), to what is stored, row
        by row. Called in several threads at once.
    store : callable
        Stores keys and features of a group. Called in one thread, one group after the other.

    Returns
    -------
    dict of str to ClipMusedError
        Pictures that cannot be read, and why.
    """
    unreadable: dict[str, ClipMusedError] = {}
    threads = picture_threads(clip.device)
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="features") as finishing,
        ThreadPoolExecutor(1, thread_name_prefix="storing") as storing,
        _batches_ahead(clip, groups, batch_size=batch_size, threads=threads) as batches,
        long_work("CLIP features of pictures", sum(map(len, groups)), "picture", announced=True) as work,
    ):
        stored: Future[None] | None = None
        for _ in groups:
            keys: list[str] = []
            parts: list[Future[Features]] = []
            for batch in _until_last(batches):
                unreadable |= batch.unreadable
                if batch.pixels is not None:
                    keys += batch.keys
                    encoding = start_encoding(clip, batch.pixels, batch_size=batch_size)
                    parts.append(finishing.submit(_finished, encoding, finish))
                work.advance(len(batch.keys) + len(batch.unreadable))
            if stored is not None:
                stored.result()
            stored = storing.submit(_stored, keys, parts, store) if keys else None
        if stored is not None:
            stored.result()
    return unreadable


def picture_threads(device: str) -> int:
    """Threads that read pictures: on a CPU as many as the model has, beside a GPU one for each core that is ours."""
    cores = usable_cores() if device == "cpu" else len(os.sched_getaffinity(0))
    return min(MOST_THREADS, cores)


@contextmanager
def _batches_ahead(
    clip: ClipModel, groups: Sequence[Mapping[str, Picture]], *, batch_size: int, threads: int
) -> Iterator[Iterator[PictureBatch]]:
    """Threads that read pictures, and one that makes batches of them; all end when this is left."""
    jobs = chain.from_iterable(picture_jobs(group, prepare=partial(pixels_of, clip)) for group in groups)
    with torch_in_threads() as initializer, ExitStack() as stack:
        pictures = stack.enter_context(
            ReadAhead(jobs, n_threads=threads, ahead=max(batch_size, threads), initializer=initializer)
        )
        made = _batches(
            [len(group) for group in groups],
            iter(pictures),
            size=batch_size,
            stack=partial(stack_pictures, clip),
        )
        batches = stack.enter_context(
            ReadAhead(repeat(partial(next, made)), n_threads=1, ahead=_BATCHES_AHEAD, initializer=initializer)
        )
        # Before the thread that makes batches is waited for: it may wait for a picture.
        stack.callback(pictures.stop)
        yield iter(batches)


def _batches(
    sizes: Sequence[int],
    pictures: Iterator[tuple[str, torch.Tensor | ClipMusedError]],
    *,
    size: int,
    stack: Callable[[Sequence[torch.Tensor]], torch.Tensor],
) -> Iterator[PictureBatch]:
    """Batches of the pictures that can be read, for groups of these sizes."""
    for n_pictures in sizes:
        rows: dict[str, torch.Tensor] = {}
        unreadable: dict[str, ClipMusedError] = {}
        for n, (key, found) in enumerate(islice(pictures, n_pictures), start=1):
            if isinstance(found, ClipMusedError):
                unreadable[key] = found
            else:
                rows[key] = found
            if len(rows) == size or n == n_pictures:
                pixels = stack(list(rows.values())) if rows else None
                yield PictureBatch(tuple(rows), pixels, unreadable, last=n == n_pictures)
                rows, unreadable = {}, {}


def _until_last(batches: Iterator[PictureBatch]) -> Iterator[PictureBatch]:
    for batch in batches:
        yield batch
        if batch.last:
            return


def _finished(encoding: Encoding, finish: Finish) -> Features:
    low, high = encoding.rows()
    return finish(low, high)


def _stored(keys: Sequence[str], parts: Sequence[Future[Features]], store: Store) -> None:
    finished = [part.result() for part in parts]
    store(keys, {name: np.concatenate([part[name] for part in finished]) for name in finished[0]})
