from __future__ import annotations

import io
import subprocess
import sys

import pytest

from clipmused_bids.stages.terminal import aligned, item, section, show, size_text, time_text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_940, "9.9 kB"), (45_400_000, "45 MB"), (22e9, "22 GB"),
     (999_600, "1.0 MB"), (3.2e15, "3200 TB")],
)  # fmt: skip
def test_sizes(n_bytes: float, text: str) -> None:
    assert size_text(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_tables_sections_and_items() -> None:
    lines = aligned([("name", "n"), ("a", "12"), ("longer", "3")], right=(False, True))
    assert lines == ["name     n", "a       12", "longer   3"]
    lines = section("Title", "one", "word " * 40)
    assert lines[0] == "Title       one"
    assert all(line.startswith(" " * 12 + "word") and len(line) <= 110 for line in lines[1:])
    assert item("-", "what", hint="help") == ["  - what", "     hint: help"]


def test_names_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    show("sub-\udcff \u00e9\n")
    printed.seek(0)
    assert printed.read() == "sub-\\udcff \\xe9\n"


def test_a_closed_pipe_is_no_error() -> None:
    code = "from clipmused_bids.stages.terminal import show; [show('x' * 4000 + '\\n') for _ in range(100)]"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0
