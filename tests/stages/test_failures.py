from __future__ import annotations

import logging

import pytest

from clipmused_bids.errors import (
    CannotCreateError,
    ClipMusedError,
    DataError,
    ExitCode,
    InterruptedRunError,
    MissingInputError,
    OutputWriteError,
)
from clipmused_bids.stages.failures import Failures


def test_the_others_go_on_and_the_first_failure_decides(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    done = []
    errors = {"02": MissingInputError("gone", hint="look"), "03": DataError("bad")}
    with caplog.at_level(logging.ERROR):
        for participant in ("01", "02", "03", "04"):
            with failures.of_participant(participant):
                if participant in errors:
                    raise errors[participant]
                done.append(participant)
        with failures.of_participant("02"):
            raise DataError("again")
        failures.report()
    assert done == ["01", "04"]
    assert failures.exit_code is ExitCode.INPUT_MISSING
    assert failures.without_failed(("01", "02", "03", "04")) == ("01", "04")
    assert "2 participant(s) failed" in caplog.text
    table = caplog.messages[-2:]
    assert [line.split() for line in table] == [
        ["sub-02", "exit", "66", "gone"],
        ["sub-03", "exit", "65", "bad"],
    ]


@pytest.mark.parametrize("kind", [CannotCreateError, OutputWriteError, InterruptedRunError, KeyError])
def test_what_concerns_everyone_stops_everyone(kind: type[Exception]) -> None:
    failures = Failures()
    with pytest.raises(kind), failures.of_participant("01"):
        raise kind("x")
    assert failures.exit_code is ExitCode.OK


def test_if_everyone_failed_the_first_error_is_raised() -> None:
    failures = Failures()
    for participant in ("01", "02"):
        with failures.of_participant(participant):
            raise DataError(f"of {participant}")
    with pytest.raises(ClipMusedError, match="of 01"):
        failures.without_failed(("01", "02"))
    assert failures.without_failed(("01", "02", "03")) == ("03",)


def test_without_failures_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    failures.report()
    assert failures.without_failed(()) == ()
    assert (failures.exit_code, caplog.text) == (ExitCode.OK, "")
