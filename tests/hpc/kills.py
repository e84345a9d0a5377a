"""Jobs that are killed at random times, and then continued: ``python -m tests.hpc.kills --kills 20 --seed 0``.

In each episode a group job (prepare, train, decode) begins in an empty folder and is killed several times, by SIGKILL,
SIGTERM or SIGUSR1; the same command is given again each time, and at last left alone. A second process looks at every
file of the folder in a tight loop: what has its final name must be whole at every moment. At the end the folder must
hold what an undisturbed run leaves, byte for byte: weights, predictions, everything but logs and times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.hpc.concurrency import PRELOADED, differences, scratch
from tests.hpc.small_study import make_study
from tests.hpc.validity import contents, files_below
from tests.hpc.watching import watched

INTERRUPTED = 75
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
# Moments to kill at, in the order in which a job comes by: what its log says then, and up to how many seconds later.
MOMENTS = {
    "begin": ("", 1.0),
    "prepare": ("to estimate by lss", 2.0),
    "CLIP": ("Responses:", 1.0),
    "train": ("training clip-mused", 4.0),
    "decode": ("decoder stored", 1.0),
}
PATIENCE = 300.0


@dataclass
class Tally:
    """What was seen over all episodes.

    Parameters
    ----------
    kills : Counter
        By signal and moment.
    slowest : float
        Longest time from SIGTERM or SIGUSR1 to the end of the process, seconds.
    faults : list of str
        Everything that should not have happened.
    leftovers, looks : int
        Hidden files that killed jobs left; looks of the second process.
    """

    kills: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)
    leftovers: int = 0
    looks: int = 0

    @property
    def n_kills(self) -> int:
        return sum(self.kills.values())


def group_job(bids: Path, out: Path) -> list[str]:
    """Prepare, train and decode all six people by a network."""
    return [
        str(bids), str(out), "group", "--prepare", "--train", "--decode", "--clip-model", "demo", "--config-file",
        str(bids.parent / "quick.toml"), "--device", "cpu",
    ]  # fmt: skip


def start(words: Sequence[str], log: Path) -> BaseProcess:
    """Start the command in a process of its own, as its script would, with its libraries loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(list(words), str(log)))
    process.start()
    return process


def _run(words: list[str], log: str) -> None:
    from clipmused_bids.cli import main

    with Path(log).open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["clipmused-bids", *words]
    sys.exit(main())


def wait_for(moment: str, process: BaseProcess, log: Path, *, rng: random.Random) -> bool:
    """Wait until a job is a little after a moment; whether it is still running then."""
    words, most = MOMENTS[moment]
    deadline = time.monotonic() + PATIENCE
    while process.exitcode is None and time.monotonic() < deadline:
        if log.exists() and words in log.read_text():
            process.join(rng.uniform(0, most))
            break
        time.sleep(0.01)
    return process.exitcode is None


def kill_once(
    words: Sequence[str], log: Path, *, moment: str, by: signal.Signals, rng: random.Random, tally: Tally
) -> bool:
    """Start the job and kill it; whether it was killed before it had ended by itself."""
    log.unlink(missing_ok=True)
    process = start(words, log)
    if not wait_for(moment, process, log, rng=rng):
        if process.exitcode:
            tally.faults.append(f"exit {process.exitcode} without a signal: {log.read_text()[-500:]}")
        return False
    assert process.pid is not None
    sent = time.monotonic()
    os.kill(process.pid, by)
    process.join(PATIENCE)
    if process.exitcode is None:
        tally.faults.append(f"{by.name} during {moment}: not ended after {PATIENCE} s")
        process.kill()
        process.join()
    tally.kills.update([f"{by.name} {moment}"])
    if by is not signal.SIGKILL:
        tally.slowest = max(tally.slowest, time.monotonic() - sent)
        # It may have been done at that very moment.
        if process.exitcode not in {INTERRUPTED, 0}:
            said = log.read_text()[-700:]
            tally.faults.append(f"{by.name} during {moment}: exit {process.exitcode}, expected 75: {said}")
    return True


def finish(words: Sequence[str], log: Path) -> None:
    """Run the job undisturbed."""
    process = start(words, log)
    process.join()
    assert process.exitcode == 0, log.read_text()[-2000:]


def episode(bids: Path, place: Path, *, n_kills: int, rng: random.Random, tally: Tally) -> dict[str, str]:
    """Kill a job ``n_kills`` times, later and later, then let it finish; returns what the folder holds."""
    out, log = place / "out", place / "log.txt"
    place.mkdir()
    words = group_job(bids, out)
    moments = sorted(rng.choices(list(MOMENTS), k=n_kills), key=list(MOMENTS).index)
    with watched(out) as seen:
        for moment in moments:
            kill_once(words, log, moment=moment, by=rng.choice(SIGNALS), rng=rng, tally=tally)
        finish(words, log)
    tally.faults += [f"seen while it ran: {problem}" for problem in seen.problems]
    tally.looks += seen.looks
    tally.leftovers += sum(path.name.endswith(".tmp") for path in files_below(out))
    return contents(out)


def run_kills(place: Path, *, n_kills: int, per_episode: int, seed: int) -> Tally:
    """Episodes until ``n_kills`` jobs were killed."""
    bids, rng, tally = make_study(place), random.Random(seed), Tally()
    (place / "undisturbed").mkdir()
    out = place / "undisturbed" / "out"
    finish(group_job(bids, out), place / "undisturbed" / "log.txt")
    expected = contents(out)
    number = 0
    while tally.n_kills < n_kills:
        number += 1
        n_now = min(per_episode, n_kills - tally.n_kills)
        found = episode(bids, place / f"episode{number}", n_kills=n_now, rng=rng, tally=tally)
        tally.faults += [f"episode {number}: {line}" for line in differences(found, expected)]
        print(
            f"episode {number}: {dict(tally.kills)}, {len(tally.faults)} faults, {tally.looks} looks",
            flush=True,
        )
    return tally


def main() -> int:
    """Kill as often as asked for, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--per-episode", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to work, e.g. on the disk in question")
    options = parser.parse_args()
    with scratch(options.folder) as place:
        tally = run_kills(place, n_kills=options.kills, per_episode=options.per_episode, seed=options.seed)
    print(
        f"{tally.n_kills} kills; {tally.looks} looks; {tally.leftovers} hidden leftovers; "
        f"slowest end after SIGTERM or SIGUSR1 {tally.slowest:.1f} s; {len(tally.faults)} faults"
    )
    for fault in tally.faults[:20]:
        print("  ", fault)
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
