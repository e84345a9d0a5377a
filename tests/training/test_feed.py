"""What is read ahead is what is read when it is asked for, to the bit, and so are the random numbers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.errors import DataError, InterruptedRunError
from clipmused_bids.records import ResponseTable, TrialData
from clipmused_bids.training import batches as batches_module
from clipmused_bids.training import rows as rows_module
from clipmused_bids.training.batches import TrialReader, all_rows, epoch_order
from clipmused_bids.training.feed import Fed, Feed
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.mixing import draw_mixing
from clipmused_bids.training.state import tensors_of
from tests.training.test_loop import CPU, OPTIONS, decoder
from tests.training.test_resume import InMemory


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [one.name for one in threading.enumerate() if one.name.startswith("ahead")] == []


def feed_of(data: TrialData, *, most_ahead: int, mixup: float = 1.0, kept: int = 0) -> Feed:
    return Feed(
        TrialReader(data, device=CPU, in_memory_bytes=kept),
        mixup=mixup,
        division=all_rows,
        most_ahead=most_ahead,
    )


def same_batches(one: list[Fed], other: list[Fed]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.generator_state == b.generator_state
        assert a.batch.participants == b.batch.participants
        pairs = [*zip(a.batch.responses, b.batch.responses, strict=True), (a.batch.labels, b.batch.labels)]
        for left, right in pairs:
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("mixup", [0.0, 0.7])
def test_reading_ahead_changes_nothing(make_trials: Callable[..., TrialData], mixup: float) -> None:
    data = make_trials(n_participants=3, common_space=False)
    order = epoch_order(data.n_trials, batch_size=16, generator=np.random.default_rng(0))
    generators = [np.random.default_rng(5) for _ in range(3)]
    at_once, ahead, kept = (
        list(feed_of(data, most_ahead=n, mixup=mixup, kept=bytes_).batches(order, generator=generator))
        for n, bytes_, generator in zip((0, 3, 3), (0, 0, 10**9), generators, strict=True)
    )
    same_batches(at_once, ahead)
    same_batches(at_once, kept)
    assert generators[0].random() == generators[1].random() == generators[2].random()


def test_the_state_is_that_after_the_batchs_draws(make_trials: Callable[..., TrialData]) -> None:
    """However far the thread is, the caller's generator stands where the batch it has was drawn."""
    data = make_trials()
    order = epoch_order(data.n_trials, batch_size=16, generator=np.random.default_rng(0))
    feed = feed_of(data, most_ahead=3)
    generator, by_hand = np.random.default_rng(5), np.random.default_rng(5)
    for index, fed in zip(order, feed.batches(order, generator=generator), strict=True):
        _, _, sizes = feed.reader.groups(index)
        mixing = draw_mixing(sizes, concentration=1.0, generator=by_hand)
        np.testing.assert_array_equal(fed.batch.mixing.share, mixing.share)
        assert fed.generator_state == by_hand.bit_generator.state == generator.bit_generator.state


def test_a_batch_that_cannot_be_read_is_refused_where_it_would_be_used(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    data = make_trials(n_participants=1, n_trials=40)
    values = data.responses[0].read(np.arange(40))
    values[25, 3] = np.inf
    data = replace(data, responses=(make_table([values]),))
    reads = feed_of(data, most_ahead=3, mixup=0.0).batches(
        np.split(np.arange(40), 4), generator=np.random.default_rng(0)
    )
    assert [next(reads).batch.stimulus[0].item() for _ in range(2)] == [0, 10]
    with pytest.raises(DataError, match="sub-01: 1 of 400 responses are NaN or infinite"):
        next(reads)


def test_large_numbers_are_numbers() -> None:
    """Their sum is infinite in single precision; they are not."""
    rows_module.require_finite(np.full((2, 4), 3e38, dtype=np.float32), participant="01")
    wrong = np.full((2, 4), 3e38, dtype=np.float32)
    wrong[0, :2] = np.nan, -np.inf
    with pytest.raises(DataError, match="sub-01: 2 of 8"):
        rows_module.require_finite(wrong, participant="01")


def test_large_batches_are_fewer_ahead(
    make_trials: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 10 trials of 40 voxels have 1,600 bytes."""
    reader = TrialReader(make_trials(), device=CPU, in_memory_bytes=0)
    for room, depth in ((1599, 0), (1600, 1), (3300, 2), (10**6, 3)):
        monkeypatch.setattr(batches_module, "BYTES_AHEAD", room)
        assert reader.depth(10, most=3) == depth
    assert TrialReader(make_trials(), device=CPU, in_memory_bytes=10**9).depth(10, most=3) == 0


def trained(
    data: TrialData, keeper: InMemory, monkeypatch: pytest.MonkeyPatch, *, kept: int
) -> dict[str, np.ndarray]:
    monkeypatch.setattr(rows_module, "KEPT_BYTES", kept)
    model = decoder(data, readout=True)
    scores = np.random.default_rng(0).standard_normal(data.labels.shape)
    trainer = Trainer(model, data, data, options=OPTIONS, seed=0, device=CPU, scores=scores)
    assert trainer.reader.keeps == (kept > 0)
    trainer.run(keeper=keeper)
    return tensors_of(model)


def test_a_training_from_maps_is_that_from_memory(
    make_trials: Callable[..., TrialData],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """To the bit, stopped on the way or not; the log says how long it waited."""
    caplog.set_level(logging.INFO)
    expected = trained(make_trials(), InMemory(), monkeypatch, kept=10**9)
    assert "waited for data" in caplog.text
    keeper = InMemory(stop_after=7)
    with pytest.raises(InterruptedRunError):
        trained(make_trials(), keeper, monkeypatch, kept=0)
    assert [one.name for one in threading.enumerate() if one.name.startswith("ahead")] == []
    keeper.stop_after = None
    found = trained(make_trials(), keeper, monkeypatch, kept=0)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_waiting_is_counted_apart_from_work(
    make_trials: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves by a second in reading and by ten in the caller's work."""
    now = [0.0]
    monkeypatch.setattr("clipmused_bids.training.feed.time.perf_counter", lambda: now[0])
    data = make_trials()
    feed = feed_of(data, most_ahead=0)
    delivered = feed.reader.delivered

    def slowly(gathered: batches_module.Gathered) -> batches_module.Batch:
        now[0] += 1
        return delivered(gathered)

    monkeypatch.setattr(feed.reader, "delivered", slowly)
    for _ in feed.batches(np.split(np.arange(120), 6), generator=np.random.default_rng(0)):
        now[0] += 10
    assert (feed.seconds_waited, feed.seconds_worked) == (6, 60)
