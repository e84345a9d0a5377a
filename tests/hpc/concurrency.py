"""Several jobs at once on one output folder: ``python -m tests.hpc.concurrency --repeats 20``.

Every repeat starts a participant job for each of six people in the same instant, in a folder that holds a decoder and
nothing else. All must end well and leave what the same jobs leave one after another, byte for byte, while a reader
looks at every file in a tight loop.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.hpc.small_study import PEOPLE, make_decoder, make_study
from tests.hpc.validity import contents
from tests.hpc.watching import watched

# Loaded once, before the jobs are started: so they meet in what they write, not in what they import.
PRELOADED = [
    "clipmused_bids.cli",
    "clipmused_bids.stages.carry_out",
    "clipmused_bids.stages.decode",
    "clipmused_bids.stages.clip_targets",
    "clipmused_bids.stages.train",
    "clipmused_bids.stages.evaluate",
]

Words = Sequence[str]


class Round(NamedTuple):
    """How one repeat ended."""

    codes: list[int]
    differences: list[str]
    looks: int
    problems: list[str]
    seconds: float


def participant_jobs(bids: Path, out: Path) -> list[Words]:
    """One job for each of the six people."""
    return [
        (str(bids), str(out), "participant", "--participant-label", person, "--prepare", "--decode",
         "--clip-model", "demo", "--device", "cpu")
        for person in PEOPLE
    ]  # fmt: skip


def run_at_once(jobs: Sequence[Words], *, log: Path) -> list[int]:
    """Run commands in processes of their own that start in the same instant; returns their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    barrier = context.Barrier(len(jobs))
    log.mkdir(parents=True, exist_ok=True)
    processes = [
        context.Process(target=_run, args=(list(words), barrier, str(log / f"{k}.txt")))
        for k, words in enumerate(jobs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]


def run_in_turn(jobs: Sequence[Words], *, log: Path) -> None:
    """Run commands one after another."""
    for k, words in enumerate(jobs):
        assert run_at_once([words], log=log / f"turn{k}") == [0], (log / f"turn{k}" / "0.txt").read_text()


def repeat(jobs_of: Any, bids: Path, base: Path, place: Path, expected: dict[str, str]) -> Round:
    """One repeat in a copy of the folder ``base``."""
    out = Path(shutil.copytree(base, place / "out"))
    started = time.monotonic()
    with watched(out) as seen:
        codes = run_at_once(jobs_of(bids, out), log=place / "log")
    return Round(
        codes, differences(contents(out), expected), seen.looks, seen.problems, time.monotonic() - started
    )


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Files that are there too many, too few, or differ."""
    return [
        f"{name}: {'missing' if name not in found else 'unexpected' if name not in expected else 'differs'}"
        for name in sorted({*found, *expected})
        if found.get(name) != expected.get(name)
    ]


def _run(words: list[str], barrier: Any, log: str) -> None:
    from clipmused_bids.cli import main

    with Path(log).open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        barrier.wait()
        sys.exit(main(words))


@contextlib.contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """A folder for everything, removed afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def main() -> int:
    """Repeat the jobs as often as asked for, and say how each repeat ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--folder", help="where to work, e.g. on the disk in question")
    options = parser.parse_args()
    failed = 0
    with scratch(options.folder) as place:
        bids = make_study(place)
        make_decoder(bids, place / "base")
        # As deep as the others: links to the data are relative.
        alone = Path(shutil.copytree(place / "base", place / "alone" / "out"))
        run_in_turn(participant_jobs(bids, alone), log=place / "log")
        expected = contents(alone)
        for number in range(1, options.repeats + 1):
            of_round = place / str(number)
            done = repeat(participant_jobs, bids, place / "base", of_round, expected)
            bad = any(done.codes) or done.differences or done.problems
            failed += bool(bad)
            print(
                f"repeat {number}: exit codes {done.codes}, {len(done.differences)} of {len(expected)} files differ, "
                f"{done.looks} looks, {len(done.problems)} broken files seen, {done.seconds:.1f} s"
            )
            for line in [*done.differences[:5], *done.problems[:5]]:
                print("  ", line)
            shutil.rmtree(of_round)
    print(f"{options.repeats - failed} of {options.repeats} repeats without a fault")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
