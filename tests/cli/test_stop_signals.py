"""SIGTERM and SIGUSR1 end a run with exit code 75, wherever they meet it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.cli import main
from clipmused_bids.cli.stopping import STOP_SIGNALS
from clipmused_bids.errors import DataError


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before


def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Any]) -> int:
    """Exit code of a command whose work is ``run``."""
    monkeypatch.setattr("clipmused_bids.stages.invocation.run", run)
    return main([str(tmp_path), str(tmp_path / "out"), "group"])


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)  # never that long: the signal ends it


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.usefixtures("handlers")
def test_a_signal_ends_a_run_with_75(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    started = time.monotonic()
    assert ended(monkeypatch, tmp_path, lambda *_, **__: send(number)) == 75
    assert time.monotonic() - started < 4
    assert "error: interrupted.\nhint: the same command goes on" in capsys.readouterr().err


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_does_not_disturb_the_tidying_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tidy = []

    def work(*_: object, **__: object) -> None:
        try:
            send(signal.SIGUSR1)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidy.append(sum(range(10_000)))

    assert ended(monkeypatch, tmp_path, work) == 75
    assert tidy


@pytest.mark.usefixtures("handlers")
def test_a_signal_inside_compiled_code_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def work(*_: object, **__: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        rng = np.random.default_rng(0)
        while True:
            np.linalg.svd(rng.normal(size=(60, 60)))

    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        assert ended(monkeypatch, tmp_path, work) == 75
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("handlers")
def test_a_signal_whose_exception_python_drops_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exceptions in a callback of the garbage collector are dropped."""

    class Thing:
        pass

    def work(*_: object, **__: object) -> str:
        thing = Thing()
        weakref.finalize(thing, os.kill, os.getpid(), signal.SIGTERM)
        reference = weakref.ref(thing, lambda _: [os.kill(os.getpid(), signal.SIGTERM), sum(range(1000))])
        del thing
        gc.collect()
        assert reference() is None
        time.sleep(5)
        return "went on as if nothing had been"

    assert ended(monkeypatch, tmp_path, work) == 75
    # Nothing is sent after the end: it would stop what follows in the same process.
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_meets_the_repeating_of_another_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    """Exceptions inside `sys.unraisablehook` are dropped without a trace."""

    class Busy(threading.Timer):
        def start(self) -> None:
            os.kill(os.getpid(), number)
            sum(range(1000))
            super().start()

    class Thing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))

    def work(*_: object, **__: object) -> str:
        Thing()
        time.sleep(5)
        return "went on as if nothing had been"

    monkeypatch.setattr("threading.Timer", Busy)
    assert ended(monkeypatch, tmp_path, work) == 75


@pytest.mark.usefixtures("handlers")
def test_other_ends_are_what_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DataError("broken.")

    assert ended(monkeypatch, tmp_path, fail) == 65
    assert ended(monkeypatch, tmp_path, lambda *_, **__: 0) == 0


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_while_libraries_are_loaded(tmp_path: Path, number: signal.Signals) -> None:
    """Seconds pass before a run begins; the process says that it has set up by its first line."""
    program = (
        "import os, sys\n"
        "from clipmused_bids.cli import main\n"
        "class WhenLoaded:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy':\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, WhenLoaded())\n"
        f"sys.argv = ['clipmused-bids', {str(tmp_path)!r}, {str(tmp_path / 'out')!r}, 'group']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert "Traceback" not in done.stderr
