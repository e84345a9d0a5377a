"""Signals that ask a training to stop: none is lost, and a second one is not waited for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clipmused_bids.config import TrainingOptions
from clipmused_bids.dataset.outputs.training_state import StateFolder
from clipmused_bids.errors import DataError, InterruptedRunError
from clipmused_bids.stages import stop_requests
from clipmused_bids.stages.decoder_states import DecoderStates
from clipmused_bids.stages.keeping import StateKeeper
from clipmused_bids.stages.stop_requests import SIGNALS, StopRequests


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, Any]]:
    """Handlers as a scheduler's job has them, which are there again afterwards."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_inside_and_interrupts_outside(number: signal.Signals) -> None:
    requests = StopRequests()
    with requests.listening():
        assert requests.name == ""
        send(number)
        assert requests.name == number.name
    assert requests.name == number.name
    with pytest.raises(KeyboardInterrupt):
        send(number)


def test_ctrl_c_after_another_signal_stops_at_once() -> None:
    with StopRequests().listening():
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_one_request_that_is_passed_on_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = StopRequests()
    with requests.listening():
        send(signal.SIGUSR1)
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        assert requests.name == "SIGUSR1"
        monkeypatch.setattr(stop_requests, "ONE_REQUEST", -1.0)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


def test_what_is_ignored_stays_ignored() -> None:
    """A job that was started in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = StopRequests()
    with requests.listening():
        send(signal.SIGINT)
        assert requests.name == ""
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_changes_nothing() -> None:
    seen = []

    def listen() -> None:
        with StopRequests().listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.fixture
def keeper(tmp_path: Path) -> StateKeeper:
    place = StateFolder(tmp_path, None, {})
    options = TrainingOptions()
    states = DecoderStates(place, SimpleNamespace(), "group", options=options, device="cpu")  # type: ignore[arg-type]
    return StateKeeper(states, ("member2",))


def attend(keeper: StateKeeper, number: int, error: Exception | None = None) -> None:
    """Train a little, get a signal, and end."""
    with keeper.attentive():
        assert not keeper.stop_asked()
        send(number)
        assert keeper.stop_asked()
        if error is not None:
            raise error


def test_a_signal_after_the_last_step_is_not_lost(keeper: StateKeeper) -> None:
    with pytest.raises(
        InterruptedRunError, match=r"^group member2: training: stopped as asked \(SIGTERM\) at its end"
    ):
        attend(keeper, signal.SIGTERM)


def test_a_signal_before_an_error_is_not_lost(keeper: StateKeeper) -> None:
    """The next participant would be trained otherwise."""
    error = DataError("the loss is not finite")
    with pytest.raises(InterruptedRunError, match="the loss is not finite") as caught:
        attend(keeper, signal.SIGUSR1, error)
    assert caught.value.__cause__ is error


def test_errors_pass_where_nobody_asked(keeper: StateKeeper) -> None:
    error = DataError("the loss is not finite")
    with pytest.raises(DataError) as caught, keeper.attentive():
        raise error
    assert caught.value is error
    with keeper.attentive():
        pass


def test_the_message_names_the_signal(keeper: StateKeeper) -> None:
    stopped = InterruptedRunError("Training: stopped as asked in epoch 3, after step 1 of 9.")
    with pytest.raises(InterruptedRunError) as caught:
        attend(keeper, signal.SIGINT, stopped)
    assert str(caught.value) == (
        "group member2: training: stopped as asked (SIGINT) in epoch 3, after step 1 of 9.\n"
        "hint: the same command goes on from the start"
    )
