"""A training that is stopped anywhere and goes on ends with the same bits as one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from clipmused_bids.config import TrainingOptions
from clipmused_bids.errors import InterruptedRunError
from clipmused_bids.records import History, TrialData
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.state import tensors_of
from tests.training.test_loop import CPU, OPTIONS, decoder


class InMemory:
    """Keeps states as a file would: arrays copied, values through JSON; stops after some steps."""

    def __init__(self, *, stop_after: int | None = None, due: bool = False) -> None:
        self.kept: Snapshot | None = None
        self.stop_after = stop_after
        self.is_due = due
        self.steps = 0

    def load(self) -> Snapshot | None:
        return self.kept

    def save(self, snapshot: Snapshot) -> None:
        tensors = {name: value.copy() for name, value in snapshot.tensors.items()}
        self.kept = Snapshot(
            tensors, json.loads(json.dumps(snapshot.values, allow_nan=False, sort_keys=True))
        )

    def due(self) -> bool:
        return self.is_due

    @contextmanager
    def attentive(self) -> Iterator[None]:
        yield

    def stop_asked(self) -> bool:
        self.steps += 1
        return self.steps == self.stop_after


@pytest.fixture
def halves(make_trials: Callable[..., TrialData]) -> tuple[TrialData, TrialData]:
    data = make_trials()
    return data.subset(np.flatnonzero(data.group < 4)), data.subset(np.flatnonzero(data.group >= 4))


def trained(
    halves: tuple[TrialData, TrialData], keeper: InMemory, *, options: TrainingOptions
) -> tuple[dict[str, np.ndarray], History]:
    model = decoder(halves[0], readout=True)
    scores = np.random.default_rng(0).standard_normal(halves[0].labels.shape)
    trainer = Trainer(model, *halves, options=options, seed=0, device=CPU, scores=scores)
    history = trainer.run(keeper=keeper, notes={"alignment": "here"})
    return tensors_of(model), history


def same(one: History, other: History) -> None:
    assert (one.best_epoch, one.stopped) == (other.best_epoch, other.stopped)
    assert list(one.columns) == list(other.columns)
    for name, values in one.columns.items():
        np.testing.assert_array_equal(other.columns[name], values, err_msg=name)


CASES = {
    "plain": OPTIONS,
    "in parts": replace(OPTIONS, micro_batch=5),
    "rate decays, weights decay, few epochs count": replace(
        OPTIONS, decay_every=2, decay_factor=0.5, weight_decay=0.01, choose_by="loss-1se", patience=2
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stops", [(1,), (7,), (12,), (3, 5, 1, 9)])
def test_stopped_and_resumed_is_the_same(
    halves: tuple[TrialData, TrialData], case: str, stops: tuple[int, ...]
) -> None:
    options = CASES[case]
    expected, history = trained(halves, InMemory(), options=options)
    keeper = InMemory()
    for stop in stops:
        keeper.stop_after, keeper.steps = stop, 0
        with pytest.raises(InterruptedRunError, match="stopped as asked in epoch"):
            trained(halves, keeper, options=options)
        assert keeper.kept is not None
        assert keeper.kept.values["notes"] == {"alignment": "here"}
    keeper.stop_after = None
    found, resumed = trained(halves, keeper, options=options)
    same(history, resumed)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_states_kept_on_the_way_serve_after_a_kill(halves: tuple[TrialData, TrialData]) -> None:
    """The last state that was kept before a kill is some steps old; what came after is computed again."""
    expected, history = trained(halves, InMemory(), options=OPTIONS)
    keeper = InMemory(due=True)
    for at in (2, 9):
        kept = keeper.kept
        keeper.stop_after, keeper.steps = at, 0
        with pytest.raises(InterruptedRunError):
            trained(halves, keeper, options=OPTIONS)
        # Killed before the last state was on the disk.
        keeper.kept = kept if at == 9 else keeper.kept
    keeper.stop_after = None
    found, resumed = trained(halves, keeper, options=OPTIONS)
    same(history, resumed)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_a_finished_training_is_not_trained_again(halves: tuple[TrialData, TrialData]) -> None:
    keeper = InMemory()
    expected, history = trained(halves, keeper, options=OPTIONS)
    keeper.steps, before = 0, keeper.kept
    found, again = trained(halves, keeper, options=OPTIONS)
    assert keeper.steps == 0
    assert keeper.kept is before
    same(history, again)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())
