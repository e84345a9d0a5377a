from __future__ import annotations

import io
import itertools
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from clipmused_bids.long_work import LongWork, each_of, listening, long_work
from clipmused_bids.stages.pace import Pace
from clipmused_bids.stages.progress import Progress, log_epoch, warnings_only


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def paced(durations: Sequence[float], *, n: int, skipped: int = 0) -> tuple[Pace, float]:
    """Pace after the first n items, and the time then."""
    clock = Clock()
    work = LongWork("Work", skipped + len(durations), "item")
    pace = Pace(work, clock())
    work.skip(skipped)
    for seconds in durations[:n]:
        clock.now += seconds
        work.advance()
        pace.mark(clock())
    return pace, clock()


@pytest.mark.parametrize(
    "durations",
    [
        [2.0] * 100,
        [1.0, 3.0] * 50,
        [120.0] + [2.0] * 99,  # a slow start
        [60.0, 30.0] + [2.0, 3.0, 4.0, 3.0] * 40,
        [5.0 + 2.0 * (k * 7919 % 11) / 11 for k in range(200)],
    ],
    ids=["even", "two kinds", "slow first", "slow first two", "scattered"],
)
def test_estimate_holds_after_a_tenth(durations: list[float]) -> None:
    n = -(-len(durations) // 10)
    pace, now = paced(durations, n=n)
    left = pace.left(now)
    assert left is not None
    assert left == pytest.approx(sum(durations[n:]), rel=0.2)


def test_items_of_an_earlier_run_do_not_count_as_speed() -> None:
    pace, now = paced([10.0] * 10, n=5, skipped=90)
    assert pace.left(now) == pytest.approx(50.0)
    assert pace.counts() == "95 of 100 items"


def test_items_side_by_side_are_measured_when_all_of_them_are_done() -> None:
    clock, work = Clock(), LongWork("Work", 40, "run", at_once=4)
    pace = Pace(work, clock())
    for k in range(10):
        clock.now += 7.0 if k % 4 == 0 else 0.01
        work.advance()
        pace.mark(clock())
    # Two rounds of four are done; eight more take about 7 s each, and the third has just ended for two runs.
    assert pace.left(clock()) == pytest.approx(8 * 7.0 - 7.0, rel=0.2)


def test_time_goes_by_while_an_item_is_worked_on() -> None:
    pace, now = paced([10.0] * 10, n=4)
    assert pace.left(now + 5) == pytest.approx(55.0)
    assert pace.left(now + 500) == pytest.approx(50.0)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_one_line_a_minute_and_the_total_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    shown = Progress(clock=clock)
    spoken: list[float] = []
    with caplog.at_level(logging.INFO), listening(shown), long_work("Things", 300, "thing") as work:
        for _ in range(300):
            clock.now += 1.5
            before = len(caplog.records)
            work.advance()
            shown.look()
            spoken += [clock.now] * (len(caplog.records) - before)
    first, *minutes, last = lines_of(caplog)
    assert first == "Things: 300 things; 4 done in 6 s, about 7 min left."
    assert minutes[0] == "Things: 40 of 300 things (13 %), 60 s so far, about 6 min left."
    assert len(minutes) == 7
    assert min(b - a for a, b in itertools.pairwise(spoken[1:])) >= 60
    assert last == "Things: 300 things in 8 min."


def test_what_is_over_soon_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with (
        caplog.at_level(logging.DEBUG),
        listening(Progress(clock=clock)),
        each_of(range(4), "Things", "thing") as things,
    ):
        for _ in things:
            clock.now += 1.0
    assert lines_of(caplog) == []


def test_a_slow_item_is_spoken_of_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    shown = Progress(clock=clock)
    with caplog.at_level(logging.INFO), listening(shown), long_work("Things", 9, "thing") as work:
        for _ in range(130):
            clock.now += 1.0
            shown.look()
        work.advance()
    assert lines_of(caplog) == [
        "Things: 9 things; how long they take is known after the first.",
        "Things: 0 of 9 things (0 %), 60 s so far.",
        "Things: 0 of 9 things (0 %), 2 min so far.",
        "Things: 9 things; 1 done in 2 min, about 17 min left.",
        "Things: 1 of 9 things in 2 min.",
    ]


def test_work_inside_of_work_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    shown = Progress(clock=clock)
    with caplog.at_level(logging.INFO), listening(shown), each_of(range(3), "Methods", "method") as methods:
        for _ in methods:
            with (
                long_work("group: ridge", 1, "decoder", announced=True),
                long_work("Training", 10, "epoch", at_most=True) as work,
            ):
                for _ in range(5):
                    clock.now += 14.0
                    work.advance(note="validation mAP 0.500")
    minutes = [line for line in lines_of(caplog) if "so far" in line]
    assert minutes[0] == (
        "group: ridge: Training: 5 of at most 10 epochs (50 %), validation mAP 0.500, 70 s so far, "
        "at most 70 s left (Methods: 0 of 3 methods)."
    )
    assert minutes[1].endswith("(Methods: 1 of 3 methods, about 70 s left).")
    assert "Training: 5 of at most 10 epochs in 70 s." in lines_of(caplog)


def test_what_an_error_leaves_open_ends_with_what_is_around_it() -> None:
    clock = Clock()
    shown = Progress(clock=clock)

    def fails() -> None:
        shown.begun(LongWork("Inner", 5, "thing"))
        raise RuntimeError("broken")

    with listening(shown):
        with pytest.raises(RuntimeError, match="broken"), long_work("Outer", 5, "thing"):
            fails()
        assert shown._paces == []


def test_progress_is_told_where_the_stages_are_hushed_and_the_log_file_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, said = Clock(), io.StringIO()
    package = logging.getLogger("clipmused_bids")
    file = logging.FileHandler(tmp_path / "log.txt")
    monkeypatch.setattr(package, "handlers", [logging.StreamHandler(said), file])
    caplog.set_level(logging.DEBUG, logger=package.name)
    stage = logging.getLogger("clipmused_bids.stages.train")
    with warnings_only(True), listening(Progress(clock=clock)):
        stage.info("the same again")
        stage.warning("odd")
        with long_work("Things", 3, "thing") as work:
            clock.now += 30.0
            work.advance()
    stage.info("something new")
    file.close()
    estimate = "Things: 3 things; 1 done in 30 s, about 60 s left."
    assert said.getvalue().splitlines() == ["odd", estimate, "something new"]
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        "the same again",
        "odd",
        estimate,
        "something new",
    ]


def test_an_epoch_is_logged_in_detail_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_epoch({"epoch": 3.0, "val_map": 0.51234})
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.DEBUG, "epoch 3, val_map 0.5123")
    ]


_COLOUR = r"\x1b\[[39][0-9;]*m"
# What a run looks like from outside, in a process of its own whose log goes to stderr.
_RUN = """
import logging, sys, time
handler = logging.StreamHandler(sys.stderr)
handler.setLevel(logging.{level})
log = logging.getLogger("clipmused_bids")
log.handlers[:] = [handler]
log.setLevel(logging.DEBUG)
from clipmused_bids.long_work import each_of
from clipmused_bids.stages import bars, progress
bars.SECONDS_UNTIL_SHOWN = 0.0
progress._SECONDS_BETWEEN_LOOKS = 0.02
try:
    with progress.progress_shown(), each_of(range(10), "Things", "thing") as things:
        for k in things:
            time.sleep(0.04)
            if k == 4:
                log.info("[a] line of the log " + "that is long " * 9)
                print("from a library")
            if k == 7:
                {event}
except (KeyboardInterrupt, ValueError) as error:
    sys.stderr.write("stopped\\n")
sys.stderr.write("end\\n")
"""


def on_terminal(*, event: str = "pass", level: str = "INFO", **environ: str) -> str:
    """What a terminal is sent."""
    master, slave = pty.openpty()
    command = [sys.executable, "-c", _RUN.format(event=event, level=level)]
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[2]), **environ}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    sent = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        sent += part
    os.close(master)
    assert process.wait(timeout=60) == 0
    return sent.decode()


def screen_of(sent: str) -> list[str]:
    """Lines that stand on a terminal in the end: what moves the cursor or erases is carried out."""
    lines, row, column = [""], 0, 0
    for found in re.finditer(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", sent):
        number, letter, back, new, text = found.groups()
        if letter == "A":
            row = max(0, row - int(number or 1))
        elif letter == "K":
            lines[row] = ""
        elif back:
            column = 0
        elif new:
            row, lines = row + 1, [*lines, *[""] * (row + 2 - len(lines))]
        elif text:
            line = lines[row].ljust(column)
            lines[row], column = line[:column] + text + line[column + len(text) :], column + len(text)
    return [line.rstrip() for line in lines]


def test_a_terminal_shows_a_bar_below_the_log_and_is_left_clean() -> None:
    sent = on_terminal()
    assert re.search(r"Things .*[━╸╺-].* of 10 things", sent)
    assert screen_of(sent) == [
        "[a] line of the log " + ("that is long " * 9).rstrip(), "from a library", "end", "",
    ]  # fmt: skip
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1
    assert re.search(_COLOUR, sent)


@pytest.mark.parametrize("event", ["raise KeyboardInterrupt", "raise ValueError"])
def test_a_terminal_is_left_clean_by_errors(event: str) -> None:
    sent = on_terminal(event=event)
    assert screen_of(sent)[-3:] == ["stopped", "end", ""]
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1


def test_a_bar_without_colours() -> None:
    sent = on_terminal(NO_COLOR="1")
    assert "of 10 things" in sent
    assert not re.search(_COLOUR, sent)


@pytest.mark.parametrize(("level", "environ"), [("WARNING", {}), ("INFO", {"TERM": "dumb"})])
def test_terminals_without_a_bar(level: str, environ: dict[str, str]) -> None:
    assert "\x1b" not in on_terminal(level=level, **environ)


def test_a_pipe_holds_no_control_characters() -> None:
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(event="pass", level="INFO")],
        capture_output=True,
        env=env,
        check=True,
    )
    both = done.stdout + done.stderr
    assert b"of the log" in both
    assert not set(both) & (set(range(32)) - {10})
