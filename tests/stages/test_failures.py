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


def test_the_first_may_end_the_run_and_is_named() -> None:
    failures = Failures(stop_at_first=True)
    with (
        pytest.raises(DataError, match=r"^sub-02: broken\nhint: mend it$") as caught,
        failures.of_participant("02"),
    ):
        raise DataError("broken", hint="mend it")
    assert caught.value.exit_code is ExitCode.BAD_DATA
    with pytest.raises(DataError, match=r"^sub-02 run-1: broken"), failures.of_participant("02"):
        raise DataError("sub-02 run-1: broken")
    assert failures.seen == []


def test_the_hint_of_a_single_failure_is_in_the_table(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for _ in range(2):
        with failures.of_participant("02"):
            raise MissingInputError("gone", hint="look")
    caplog.clear()
    failures.report()
    assert [line.strip() for line in caplog.messages] == [
        "1 participant(s) failed:",
        "sub-02  exit 66  gone",
        "hint: look",
    ]
    with failures.of_participant("03"):
        raise DataError("bad")
    caplog.clear()
    failures.report()
    assert "hint" not in caplog.text
    assert [participant for participant, _ in failures.seen] == ["02", "02", "03"]


def test_what_all_runs_of_a_participant_say_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for message in ("no such column", "run 1: empty", "no such column", "run 2: empty"):
        for participant in ("01", "02"):
            with failures.of_participant(participant):
                raise DataError(message)
    said = [line.splitlines()[0] for line in caplog.messages]
    assert said == [
        f"error: sub-{participant}: {message}"
        for message in ("no such column", "run 1: empty", "run 2: empty")
        for participant in ("01", "02")
    ]


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
