"""Several jobs at once on one output folder: ``python -m tests.hpc.concurrency --repeats 20``.

Every repeat starts seven jobs in the same instant, in a folder that holds a decoder and nothing else: for each of six
people a participant job that prepares and decodes, and a group job that trains another decoder of all of them. All must
end well and leave what the same jobs leave one after another, byte for byte, while a reader looks at every file in a
tight loop. ``--write-delay`` makes every write wait, as on a slow network disk.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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


def jobs_of(bids: Path, out: Path) -> list[Words]:
    """One job for each of the six people, and one for all of them."""
    group = (
        str(bids), str(out), "group", "--train", "--method", "ridge-pooled", "--model-label", "second", "--device",
        "cpu",
    )  # fmt: skip
    return [
        group,
        *((str(bids), str(out), "participant", "--participant-label", person, "--prepare", "--decode",
         "--clip-model", "demo", "--device", "cpu")
        for person in PEOPLE),
    ]  # fmt: skip


def run_at_once(jobs: Sequence[Words], *, log: Path, write_delay: float = 0.0) -> list[int]:
    """Run commands in processes of their own that start in the same instant; returns their exit codes.

    Parameters
    ----------
    jobs : sequence of sequence of str
    log : Path
        Folder of what each of them prints.
    write_delay : float
        Longest time that each file waits before and after it gets its name, seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    barrier = context.Barrier(len(jobs))
    log.mkdir(parents=True, exist_ok=True)
    processes = [
        context.Process(target=_run, args=(list(words), barrier, str(log / f"{k}.txt"), write_delay))
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


def one_after_another(bids: Path, base: Path, place: Path) -> dict[str, str]:
    """What the jobs leave when each waits for the one before, in a copy of the folder ``base``."""
    # As deep as the others: links to the data are relative.
    out = Path(shutil.copytree(base, place / "alone" / "out"))
    run_in_turn(jobs_of(bids, out), log=place / "alone" / "log")
    return contents(out)


def repeat(
    bids: Path, base: Path, place: Path, expected: dict[str, str], *, write_delay: float = 0.0
) -> Round:
    """One repeat in a copy of the folder ``base``."""
    out = Path(shutil.copytree(base, place / "out"))
    started = time.monotonic()
    with watched(out) as seen:
        codes = run_at_once(jobs_of(bids, out), log=place / "log", write_delay=write_delay)
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


def _run(words: list[str], barrier: Any, log: str, write_delay: float) -> None:
    from clipmused_bids.cli import main

    if write_delay:
        _slow_down(write_delay)
    with Path(log).open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        barrier.wait()
        sys.exit(main(words))


def _slow_down(most: float) -> None:
    """Let every file wait before and after it gets its name."""
    rng = random.Random(os.getpid())

    def late(really: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            time.sleep(rng.uniform(0, most))
            outcome = really(*arguments)
            time.sleep(rng.uniform(0, most))
            return outcome

        return called

    os.fsync, os.link, Path.replace = late(os.fsync), late(os.link), late(Path.replace)  # type: ignore[method-assign]


@contextlib.contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """A folder for everything, removed afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def main() -> int:
    """Repeat the jobs as often as asked for, and say how each repeat ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--write-delay", type=float, default=0.0, help="seconds that each write waits, at most"
    )
    parser.add_argument("--folder", help="where to work, e.g. on the disk in question")
    options = parser.parse_args()
    failed = 0
    with scratch(options.folder) as place:
        bids = make_study(place)
        make_decoder(bids, place / "base")
        expected = one_after_another(bids, place / "base", place)
        for number in range(1, options.repeats + 1):
            of_round = place / str(number)
            done = repeat(bids, place / "base", of_round, expected, write_delay=options.write_delay)
            bad = any(done.codes) or done.differences or done.problems
            failed += bool(bad)
            print(
                f"repeat {number}: exit codes {done.codes}, {len(done.differences)} of {len(expected)} files differ, "
                f"{done.looks} looks, {len(done.problems)} broken files seen, {done.seconds:.1f} s",
                flush=True,
            )
            for line in [*done.differences[:5], *done.problems[:5]]:
                print("  ", line)
            shutil.rmtree(of_round)
    print(f"{options.repeats - failed} of {options.repeats} repeats without a fault")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
