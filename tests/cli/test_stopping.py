"""Signals of a scheduler: one wish that may arrive several times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from clipmused_bids.cli import main
from clipmused_bids.cli.stopping import STOP_SIGNALS

# The command with a run that waits; it says when it does, and cleaning up takes a while.
WAITING = """
import sys, time, clipmused_bids.stages.invocation as invocation
def run(config, *, command_line, processes):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(0.5)
invocation.run = run
from clipmused_bids.cli import main
sys.argv[1:] = ["/", "/tmp/out", "group"]
code = main()
print("ending", flush=True)
time.sleep(0.5)
sys.exit(code)
"""


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_comes_again_changes_nothing(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in ("waiting", "cleaning", "ending"):
        assert process.stdout.readline().strip() == line
        process.send_signal(number)
        # Not always the same one: Slurm sends SIGTERM after the signal that was asked for.
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75
    assert said.strip().startswith("error: interrupted.")
    assert "Traceback" not in said


def test_called_from_python_it_leaves_the_handlers_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from clipmused_bids.stages import invocation

    def run(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal did not stop it")

    monkeypatch.setattr(invocation, "run", run)
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    assert main(["/", "/tmp/out", "group"]) == 75
    assert "interrupted" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
