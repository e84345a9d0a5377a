"""Trainings that are stopped, killed, or go on in other surroundings, through the stage that trains and stores."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from clipmused_bids.config import merge
from clipmused_bids.dataset.files.tensors import read_metadata
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import CannotCreateError, InterruptedRunError, OutputWriteError
from clipmused_bids.evaluation.cross_validation import make_folds
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import Split
from clipmused_bids.stages import keeping
from clipmused_bids.stages.fit_record import FitRecord
from clipmused_bids.stages.keeping import StateKeeper
from clipmused_bids.stages.splitting import design_of
from clipmused_bids.stages.train import train_group
from clipmused_bids.training.loop import Trainer
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = [f"s{k:02d}" for k in range(12)]
CATALOGUE = make_catalogue({name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)})
SETS = {name: "train" if k < 8 else "val" if k < 10 else "test" for k, name in enumerate(NAMES)}
QUICK = {
    "fit_on": "train",
    "model": {
        "width": 8, "depth": 1, "heads": 2, "n_regions": 3, "n_shared": 2, "hidden_width": 8,
        "readout": "stack", "input_dropout": 0.1,
    },
    "training": {
        "learning_rate": 0.001, "max_epochs": 3, "batch_size": 8, "keep_minutes": 0.0, "mixup": 1.0,
    },
}  # fmt: skip
AVERAGED = merge(QUICK, {"fit_on": "train+validation", "training": {"n_seeds": 2}})


@pytest.fixture
def study(world: World) -> World:
    rng = np.random.default_rng(8)
    weights = rng.normal(size=(3, 6))
    for participant in ("01", "02"):
        for number in (1, 2, 3):
            values = np.vstack([CATALOGUE.labels_of(NAMES).T, np.ones(12)]).T @ weights
            world.add(make_run(participant, number), NAMES, values + 0.3 * rng.normal(size=(12, 6)))
    return world


class Killed(BaseException):
    """Nothing of the process's own runs after it."""


class Lab:
    """Trains in an output tree of its own; notes every step."""

    def __init__(self, study: World, folder: Path, *, method: str, split: Split) -> None:
        self.study, self.method, self.split = study, method, split
        self.tree = OutputTree(folder)
        # Responses are those of the study; what is trained lies elsewhere.
        folder.mkdir(exist_ok=True)
        for participant in ("01", "02"):
            (folder / f"sub-{participant}").symlink_to(study.tree.root / f"sub-{participant}")
        self.steps = 0

    def train(self, tables: dict[str, Any] = QUICK, **config: Any) -> bool:
        step = Trainer._step

        def counted(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            return step(trainer, *args, **kwargs)

        # Drawing takes longer than all the rest.
        drawing = mock.patch("clipmused_bids.stages.illustrate.training_curves", return_value=b"<svg/>")
        with drawing, mock.patch.object(Trainer, "_step", counted):
            return train_group(
                self.study.plan(hyperparameters=tables, method=self.method, **config), self.tree, CATALOGUE,
                self.split, method=self.method, model_label="m", maker=None, device="cpu",
            )  # fmt: skip

    def stopped(
        self, after: int, tables: dict[str, Any] = QUICK, **config: Any
    ) -> InterruptedRunError | None:
        """Ask to stop at the n-th look; None if the training ended before."""
        looks = iter([False] * (after - 1))

        def asked(_: StateKeeper) -> bool:
            return next(looks, True)

        with mock.patch.object(StateKeeper, "stop_asked", asked):
            try:
                self.train(tables, **config)
            except InterruptedRunError as error:
                return error
        return None

    def killed(self, after: int, tables: dict[str, Any] = QUICK) -> bool:
        """End without a word before the n-th step; False if the training ended before."""
        left = after

        def step(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return original(trainer, *args, **kwargs)

        original = Trainer._step
        with mock.patch.object(Trainer, "_step", step):
            try:
                self.train(tables)
            except Killed:
                return True
        return False

    @property
    def models(self) -> Path:
        return self.tree.root / "models" / "m"

    def states(self) -> list[Path]:
        return sorted(self.models.rglob("state/*"))

    def stored(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.models)): path.read_bytes()
            for path in sorted(self.models.rglob("*"))
            if path.is_file() and path.parent.name != "state"
        }


@pytest.fixture
def make_lab(study: World, tmp_path: Path) -> Callable[..., Lab]:
    def make(name: str, *, method: str = "ms-emb", cv: bool = False) -> Lab:
        split = study.split(SETS)
        if cv:
            split = make_folds(design_of(study.plan(), CATALOGUE, "auto"), rule="runs", seed=0)
        return Lab(study, tmp_path / name, method=method, split=split)

    return make


CASES = {
    "one for all": ("ms-emb", False, QUICK),
    "members and refits": ("ms-emb", False, AVERAGED),
    "each participant": ("ss-vit", False, merge(QUICK, {"training": {"n_seeds": 2}})),
    "folds": ("ms-emb", True, merge(QUICK, {"training": {"max_epochs": 1}})),
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_again_and_again_it_ends_with_the_same_bytes(make_lab: Callable[..., Lab], case: str) -> None:
    method, cv, tables = CASES[case]
    assert METHODS[method].deep
    whole = make_lab("whole", method=method, cv=cv)
    assert whole.train(tables), "trained from the start"
    lab = make_lab("stopped", method=method, cv=cv)
    stops = 0
    every = max(5, whole.steps // 8)
    while (error := lab.stopped(every, tables)) is not None:
        stops += 1
        assert "stopped as asked" in str(error)
        assert "hint: the same command goes on " in str(error)
        assert stops < 100
    assert stops >= 3
    # Each step was done once: finished parts are not done again, nor any step of the one that was stopped.
    assert lab.steps == whole.steps
    assert lab.stored() == whole.stored()
    assert lab.states() == []
    assert not list(lab.models.rglob("state"))


@pytest.mark.parametrize("case", ["one for all", "members and refits", "each participant"])
def test_killed_again_and_again_it_ends_with_the_same_bytes(make_lab: Callable[..., Lab], case: str) -> None:
    method, cv, tables = CASES[case]
    whole = make_lab("whole", method=method, cv=cv)
    whole.train(tables)
    lab = make_lab("killed", method=method, cv=cv)
    kills = 0
    every = max(5, whole.steps // 8)
    while lab.killed(every, tables):
        kills += 1
        assert kills < 100
    assert kills >= 3
    assert lab.stored() == whole.stored()
    assert lab.states() == []


def test_one_that_went_on_is_not_timed_as_one_from_the_start(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("stopped")
    assert lab.stopped(5) is not None
    assert lab.train() is False


def test_what_was_read_before_the_stop_is_stored(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step is left, which reads a few trials; the decoder says which were read by all."""
    # Nothing but the training reads here, batch by batch as it does larger data.
    monkeypatch.setattr("clipmused_bids.training.batches.room_for_responses", lambda device: 0)
    monkeypatch.setattr("clipmused_bids.methods.network.require_finite_trials", lambda data: None)
    monkeypatch.setattr("clipmused_bids.methods.network.NetworkMethod._keep_template", lambda *_: None)

    def read(lab: Lab) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((lab.models / "config.json").read_text())["leakage"]["fitted_on"]
        return found

    tables = {**QUICK, "model": {**QUICK["model"], "patches": "aligned"}}
    whole, lab, forgetful = make_lab("whole"), make_lab("stopped"), make_lab("forgetful")
    whole.train(tables)
    assert read(whole)["training"]["train"] == 2 * 3 * 8
    for one in (lab, forgetful):
        assert one.stopped(17, tables) is not None
    lab.train(tables)
    assert read(lab) == read(whole)
    with mock.patch.object(FitRecord, "mark"):
        forgetful.train(tables)
    assert read(forgetful) != read(whole), "otherwise this test says nothing"


def test_the_console_says_where_it_goes_on(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab("stopped")
    error = lab.stopped(8)
    assert error is not None
    assert str(error) == (
        "group member1: training: stopped as asked in epoch 2, after step 2 of 6.\n"
        "hint: the same command goes on after step 2 of epoch 2"
    )
    (shown,) = [path for path in lab.states() if path.suffix == ".json"]
    values = json.loads(shown.read_text())
    assert values["training"]["step"] == 2
    assert values["request"]["method"] == "ms-emb"
    with caplog.at_level(logging.INFO):
        lab.train()
    assert (
        caplog.text.count(
            "group member1: training: goes on after step 2 of epoch 2; its state was kept 0 s ago."
        )
        == 1
    )


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[-3] ^= 1
    elif how == "value changed":
        # A number in the header; the file stays a whole safetensors file.
        at = bytes(content).index(b"best_epoch")
        digit = next(k for k in range(at, len(content)) if chr(content[k]).isdigit())
        content[digit] = ord("7")
    elif how == "nonsense":
        content = bytearray(b"nonsense")
    elif how == "empty":
        content = bytearray()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["cut", "flipped", "value changed", "nonsense", "empty"])
def test_a_broken_state_is_warned_of_and_the_training_starts_anew(
    make_lab: Callable[..., Lab], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, lab = make_lab("whole"), make_lab("broken")
    whole.train()
    lab.stopped(5)
    (state,) = [path for path in lab.states() if path.suffix == ".safetensors"]
    damaged(state, how)
    lab.steps = 0
    with caplog.at_level(logging.WARNING):
        assert lab.train()
    assert "group member1: training: starts anew: " in caplog.text
    assert state.name in caplog.text
    assert lab.steps == whole.steps
    assert lab.stored() == whole.stored()
    assert lab.states() == []


def test_the_state_of_other_settings_is_left_alone(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab("both")
    lab.stopped(5)
    before = {path: path.read_bytes() for path in lab.states()}
    faster = merge(QUICK, {"training": {"learning_rate": 0.01}})
    with caplog.at_level(logging.INFO):
        assert lab.train(faster)
    assert "the state of a training with other settings is left alone" in caplog.text
    assert "hyperparameters.training.learning_rate: there 0.001, here 0.01" in caplog.text
    assert {path: path.read_bytes() for path in lab.states()} == before
    with pytest.raises(CannotCreateError, match="learning_rate"):
        lab.train()
    assert {path: path.read_bytes() for path in lab.states()} == before


@pytest.mark.parametrize("name", ["keep_minutes", "micro_batch"])
def test_how_a_training_runs_does_not_decide_about_it(
    make_lab: Callable[..., Lab], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab("other")
    lab.stopped(5)
    other = merge(QUICK, {"training": {name: 3}})
    lab.steps = 0
    with caplog.at_level(logging.WARNING):
        assert lab.train(other) is False
    assert lab.steps == 18 - 5
    assert ("may end with other bits than without a stop: micro_batch: then 0, now 3" in caplog.text) == (
        name == "micro_batch"
    )
    assert lab.train() is False, "what is stored serves"
    assert (
        "keep_minutes" not in read_metadata(lab.models / "model.safetensors")["hyperparameters"]["training"]
    )


def test_other_data_of_the_same_request_start_anew(
    study: World, make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab("changed")
    lab.stopped(5)
    run = study.runs[0]
    values = study.values[run.key].copy()
    values[3, 2] += 0.5
    again = World(study.folder)
    again.add(run, NAMES, values)
    lab.steps = 0
    with caplog.at_level(logging.WARNING):
        assert lab.train()
    assert "starts anew: the data have changed since the state was kept." in caplog.text
    assert lab.steps == 18


def test_overwrite_starts_anew_but_goes_on_with_its_own(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab("over")
    lab.train()
    stored = lab.stored()
    slower = merge(QUICK, {"training": {"learning_rate": 0.0001}})
    lab.steps = 0
    assert lab.stopped(5, slower, overwrite=True) is not None
    assert lab.stored() == stored, "the old decoder stays until the new one is stored"
    assert lab.train(slower, overwrite=True) is False
    assert lab.steps == 18
    assert lab.stored() != stored
    lab = make_lab("plain")
    lab.stopped(5)
    lab.steps = 0
    with caplog.at_level(logging.INFO):
        assert lab.train(overwrite=True)
    assert "--overwrite: the kept state of its training is removed" in caplog.text
    assert lab.steps == 18


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Do something once, in the middle of the training that comes next."""
    step, waiting = Trainer._step, []

    def with_others(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        if waiting:
            waiting.pop()()
        return step(trainer, *args, **kwargs)

    with mock.patch.object(Trainer, "_step", with_others):
        yield waiting.append


@pytest.mark.parametrize("minutes", [0.0, 5.0])
def test_another_run_stores_the_same_decoder_meanwhile(
    make_lab: Callable[..., Lab], meanwhile: Callable[[Callable[[], None]], None],
    caplog: pytest.LogCaptureFixture, minutes: float,
) -> None:  # fmt: skip
    """Noticed when the state is kept next, or when the decoder would be stored."""
    whole, lab = make_lab("whole"), make_lab("two")
    whole.train()
    tables = merge(QUICK, {"training": {"keep_minutes": minutes}})
    meanwhile(lambda: lab.train(tables))
    lab.steps = 0
    with caplog.at_level(logging.INFO):
        assert lab.train(tables) is False
    assert "group: another run has stored the decoder m meanwhile; it is taken." in caplog.text
    # Of the run in between each step is counted twice.
    assert lab.steps - 2 * 18 == (1 if minutes == 0 else 18)
    assert lab.stored() == whole.stored()
    assert lab.states() == []


def test_another_run_stores_another_decoder_meanwhile(
    make_lab: Callable[..., Lab], meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    lab = make_lab("two")
    lab.stopped(3)
    before = {path.name: path.read_bytes() for path in lab.states()}
    other = merge(QUICK, {"training": {"learning_rate": 0.01}})
    meanwhile(lambda: lab.train(other))
    with pytest.raises(CannotCreateError, match=r"learning_rate: then 0\.01, now 0\.001"):
        lab.train()
    assert {path.name: path.read_bytes() for path in lab.states()} == before
    stored = read_metadata(lab.models / "model.safetensors")
    assert stored["hyperparameters"]["training"]["learning_rate"] == 0.01


def test_a_state_that_cannot_be_kept_does_not_end_the_training(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    whole, lab = make_lab("whole"), make_lab("full")
    whole.train()
    lab.stopped(5)
    before = {path.name: path.read_bytes() for path in lab.states()}
    full = OutputWriteError(
        "x: No space left on device; the file was not written.", hint="free space (df -h)"
    )
    with mock.patch.object(keeping, "write_state", side_effect=full), caplog.at_level(logging.WARNING):
        error = lab.stopped(3)
        assert "if it is stopped now it will go on after step 5 of epoch 1: x: No space left" in caplog.text
        assert "hint: free space (df -h)" in caplog.text
        assert {path.name: path.read_bytes() for path in lab.states()} == before
        assert str(error) == (
            "group member1: training: stopped as asked in epoch 2, after step 2 of 6.\n"
            "hint: the last state could not be kept, so the same command goes on after step 5 of epoch 1; "
            "free space (df -h)"
        )
        assert lab.train() is False
    assert lab.stored() == whole.stored()
    assert lab.states() == []


def test_how_often_a_state_is_kept(make_lab: Callable[..., Lab]) -> None:
    def kept(minutes: float, *, step: float, writing: float) -> int:
        lab = make_lab(f"{minutes} {step} {writing}")
        now, states = 0.0, 0
        original, write = Trainer._step, keeping.write_state

        def passing(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += step
            return original(trainer, *args, **kwargs)

        def clock() -> float:
            return now

        def slow(*args: Any) -> None:
            nonlocal now, states
            now, states = now + writing, states + 1
            write(*args)

        with (
            mock.patch.object(Trainer, "_step", passing),
            mock.patch.object(keeping, "write_state", slow),
            mock.patch.object(keeping.time, "monotonic", clock),
        ):
            lab.train(merge(QUICK, {"training": {"keep_minutes": minutes}}))
        return states

    # 18 steps, and one state more at the end.
    assert kept(0.0, step=1, writing=5) == 18 + 1
    assert kept(1.0, step=20, writing=0) == 18 // 3 + 1
    # Writing takes a minute, so twenty pass between two states: the first after three minutes, the next after 23.
    assert kept(3.0, step=60, writing=60) == 1 + 1
    assert kept(3.0, step=300, writing=60) == 1 + (18 - 1) // 4 + 1
