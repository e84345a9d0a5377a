"""Pictures in threads: the same numbers as one by one, a bounded number at a time, and an orderly end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.errors import OutputWriteError
from clipmused_bids.records import Picture
from clipmused_bids.stages import picture_features
from clipmused_bids.stages.picture_features import encode_pictures
from clipmused_bids.targets.clip import ClipModel, load_clip
from clipmused_bids.targets.features import low_level

BATCH = 4
GROUP = 10


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_clip("demo")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    """37 pictures of different sizes under keys of two digits; some of them are broken."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    found = {}
    for k in range(37):
        path = folder / f"{k}.png"
        Image.fromarray(rng.integers(0, 255, (40 + k, 90 - k, 3), dtype=np.uint8)).save(path)
        found[f"{k % 2}{k:063x}"] = Picture(path)
    for key in list(found)[4:7] + list(found)[-1:]:
        found[key].path.write_bytes(b"broken")
    return found


@dataclass
class Work:
    clip: ClipModel
    pictures: dict[str, Picture]
    cache: EmbeddingCache

    @property
    def groups(self) -> list[dict[str, Picture]]:
        planned = self.cache.plan(list(self.pictures), rows=GROUP)
        return [{key: self.pictures[key] for key in keys} for keys in planned]

    def finish(self, low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
        kept = low_level(low, kind="projection", n_patches=self.clip.n_patches, projection_width=64, seed=0)
        return {"low": kept.astype(np.float16), "image": high}

    def run(self, **changes: Any) -> dict[str, Any]:
        given = {"batch_size": BATCH, "finish": self.finish, "store": self.cache.add} | changes
        return encode_pictures(given.pop("clip", self.clip), self.groups, **given)


@pytest.fixture
def work(clip: ClipModel, pictures: dict[str, Picture], tmp_path: Path) -> Work:
    return Work(clip, pictures, EmbeddingCache(tmp_path / "features", {"model": "demo"}))


def one_by_one(work: Work) -> dict[str, dict[str, np.ndarray]]:
    """Features by key without any thread: group by group, in batches of what can be read."""
    found = {}
    for group in work.groups:
        pixels = {}
        for key, picture in group.items():
            if picture.path.read_bytes() != b"broken":
                pixels[key] = work.clip.preprocess(Image.open(picture.path).convert("RGB"))
        low, high = [], []
        for start in range(0, len(pixels), BATCH):
            rows = list(pixels.values())[start : start + BATCH]
            # Always of one size: the last bits depend on it.
            batch = torch.stack(rows + [rows[-1]] * (BATCH - len(rows)))
            with torch.inference_mode():
                out = work.clip.network.visual.forward_intermediates(batch, indices=[0], output_fmt="NLC")
            low.append(out["image_intermediates"][0].flatten(1).numpy()[: len(rows)])
            high.append(out["image_features"].numpy()[: len(rows)])
        features = work.finish(np.concatenate(low), np.concatenate(high))
        for row, key in enumerate(pixels):
            found[key] = {name: values[row] for name, values in features.items()}
    return found


def shards(work: Work) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(work.cache.folder.iterdir())}


def others() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("reading-ahead", "features", "storing"))]


@pytest.mark.parametrize("threads", [1, 3])
def test_features_are_bit_for_bit_those_made_one_by_one(
    work: Work, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_features, "picture_threads", lambda device: threads)
    expected = one_by_one(work)
    unreadable = work.run()
    assert sorted(unreadable) == sorted(set(work.pictures) - set(expected))
    assert len(unreadable) == 4
    for key, error in unreadable.items():
        assert f"{work.pictures[key].path.name}: not a readable image" in str(error)
    stored = work.cache.read(list(expected))
    for name in ("low", "image"):
        np.testing.assert_array_equal(stored[name], np.stack([one[name] for one in expected.values()]))
    # As planned: two digits of 19 and 18 pictures make two shards each.
    assert sum(name.endswith(".safetensors") for name in shards(work)) == 4
    assert not others()


def test_features_of_a_batch_stay_with_it_whichever_is_finished_first(work: Work) -> None:
    expected = one_by_one(work)
    turns = iter(range(100))

    def slow(low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(0.05 * (next(turns) % 2 == 0))
        return work.finish(low, high)

    work.run(finish=slow)
    np.testing.assert_array_equal(
        work.cache.read(list(expected))["image"], np.stack([one["image"] for one in expected.values()])
    )


def counted(clip: ClipModel, transformed: list[int]) -> ClipModel:
    def preprocess(image: Image.Image) -> torch.Tensor:
        transformed.append(1)
        return clip.preprocess(image)

    return replace(clip, preprocess=preprocess)


def test_a_slow_model_has_four_batches_read_ahead_and_no_more(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_features, "picture_threads", lambda device: 2)
    transformed: list[int] = []
    ahead: list[int] = []
    encoded = 0
    start = picture_features.start_encoding

    def slow(clip: ClipModel, pixels: torch.Tensor, *, batch_size: int) -> Any:
        nonlocal encoded
        time.sleep(0.15)
        ahead.append(len(transformed) - encoded)
        encoded += len(pixels)
        return start(clip, pixels, batch_size=batch_size)

    monkeypatch.setattr(picture_features, "start_encoding", slow)
    work.run(clip=counted(work.clip, transformed))
    assert encoded == 33
    assert max(ahead) <= 4 * BATCH
    assert ahead[1] > BATCH  # and it does read ahead


def test_what_a_reading_thread_raises_ends_the_work(work: Work) -> None:
    def preprocess(image: Image.Image) -> torch.Tensor:
        if image.height == 40 + 21:
            raise ZeroDivisionError("in a thread")
        return work.clip.preprocess(image)

    with pytest.raises(ZeroDivisionError, match="in a thread"):
        work.run(clip=replace(work.clip, preprocess=preprocess))
    assert not others()


@pytest.mark.parametrize("failing", [1, 4])
def test_what_cannot_be_stored_ends_the_work(work: Work, failing: int) -> None:
    calls = iter(range(1, 100))

    def full(keys: list[str], tensors: dict[str, np.ndarray]) -> None:
        if next(calls) == failing:
            raise OutputWriteError("disk full")

    with pytest.raises(OutputWriteError, match="disk full"):
        work.run(store=full)
    assert not others()


def interrupted(batch: int) -> Callable[[ClipModel, torch.Tensor], Any]:
    """The model, until the user gives up while it encodes a batch."""
    start, turns = picture_features.start_encoding, iter(range(1, 100))

    def encode(clip: ClipModel, pixels: torch.Tensor, *, batch_size: int) -> Any:
        if next(turns) == batch:
            signal.raise_signal(signal.SIGINT)
        return start(clip, pixels, batch_size=batch_size)

    return encode


@pytest.mark.parametrize("batch", [1, 3, 5, 8])
def test_what_is_interrupted_loses_one_group_at_most_and_goes_on(
    work: Work, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(work, cache=EmbeddingCache(tmp_path / "whole", work.cache.settings))
    whole.run()
    with monkeypatch.context() as patch:
        patch.setattr(picture_features, "start_encoding", interrupted(batch))
        with pytest.raises(KeyboardInterrupt):
            work.run()
    assert not others()
    # The four groups have 2, 2, 3 and 2 batches; a group is stored once its last one is encoded.
    done = sum(last < batch for last in (2, 4, 7, 9))
    left = shards(work) if work.cache.folder.exists() else {}
    assert sum(name.endswith(".safetensors") for name in left) == done
    assert all(content == shards(whole)[name] for name, content in left.items())
    work.run()
    assert shards(work) == shards(whole)


def test_a_signal_while_pictures_are_awaited_ends_it_at_once(work: Work) -> None:
    def preprocess(image: Image.Image) -> torch.Tensor:
        time.sleep(0.1)
        return work.clip.preprocess(image)

    timer = threading.Timer(0.25, partial(os.kill, os.getpid(), signal.SIGINT))
    start = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        work.run(clip=replace(work.clip, preprocess=preprocess), batch_size=30)
    assert time.monotonic() - start < 0.25 + 0.6  # all pictures of a batch: 3 s / threads
    assert not others()


def test_threads_of_torch_are_as_before_and_one_in_each_reader(work: Work) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen: list[int] = []

        def preprocess(image: Image.Image) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return work.clip.preprocess(image)

        work.run(clip=replace(work.clip, preprocess=preprocess))
        assert set(seen) == {1}
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (torch.get_num_threads(), later) == (2, [2])
    finally:
        torch.set_num_threads(before)
