"""Real processes that train together, started as a launcher starts them: ``python -m tests.training.launched``.

Process 0 runs the cases that are named, one after the other, and leaves arrays in FOLDER/CASE.npz; the others follow.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipmused_bids.config import Hyperparameters, build_hyperparameters
from clipmused_bids.errors import ClipMusedError, DataError, ExitCode, OutputWriteError
from clipmused_bids.methods.context import FitContext
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.network_kinds import CLIP_MUSED
from clipmused_bids.records import History, TrialData
from clipmused_bids.training.checkpoint import Keeper, Snapshot
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.processes import ALONE, Processes
from tests.conftest import planted_trials

ROOT = Path(__file__).parents[2]

SETTINGS = {
    "model": {
        "width": 16, "depth": 1, "heads": 2, "patches": "aligned", "n_patches": 4, "n_shared": 12, "dropout": 0.2,
        "input_dropout": 0.2, "readout": "ridge",
    },
    "training": {
        "learning_rate": 1e-3, "batch_size": 12, "max_epochs": 6, "patience": 6, "mixup": 0.3, "lambda_low": 0.1,
        "lambda_high": 0.1, "lambda_perp": 0.01, "decay_every": 3, "decay_factor": 0.5,
    },
}  # fmt: skip


def settings(**training: Any) -> Hyperparameters:
    return build_hyperparameters({**SETTINGS, "training": {**SETTINGS["training"], **training}})


def trials(*, n_participants: int = 3) -> tuple[TrialData, TrialData]:
    """98 training trials in native space: eight batches of 12 and one of two, fewer rows than three processes."""
    data = planted_trials(n_participants=n_participants, n_trials=60, common_space=False)
    train = np.concatenate([np.flatnonzero(data.group < 3), np.flatnonzero(data.group == 3)[:8]])
    return data.subset(train), data.subset(np.flatnonzero(data.group >= 4))


class InFolder:
    """Keeps states in a folder; due after every so many steps."""

    def __init__(self, folder: Path, *, every: int = 0, fails_at: int = 0) -> None:
        self.folder = folder
        self.every = every
        self.fails_at = fails_at
        self.steps = 0
        self.asked: list[int] = []

    def of(self, name: str) -> Keeper:
        own = self.folder / name
        own.mkdir(exist_ok=True)
        return InFolder(own, every=self.every, fails_at=self.fails_at)

    def load(self) -> Snapshot | None:
        path = self.folder / "state.npz"
        if not path.exists():
            return None
        return Snapshot(stored(path), json.loads((self.folder / "state.json").read_text()))

    def save(self, snapshot: Snapshot) -> None:
        if self.fails_at and self.steps >= self.fails_at:
            raise OutputWriteError("the disk is full.")
        np.savez(self.folder / "new.npz", **dict(snapshot.tensors))
        (self.folder / "state.json").write_text(json.dumps(snapshot.values))
        (self.folder / "new.npz").replace(self.folder / "state.npz")

    def due(self) -> bool:
        self.steps += 1
        return bool(self.every) and self.steps % self.every == 0

    def attentive(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stop_asked(self) -> bool:
        return bool(self.asked)


def fitted(
    processes: Processes, hyperparameters: Hyperparameters, *, keeper: Keeper | None = None
) -> tuple[NetworkMethod, History]:
    method = NetworkMethod(CLIP_MUSED, hyperparameters=hyperparameters, seed=3, device="cpu")
    context = FitContext(processes=processes)
    if keeper is not None:
        context = replace(context, keeper=keeper)
    return method, method.fit(*trials(), context=context)


def told(method: NetworkMethod, history: History) -> dict[str, np.ndarray]:
    """Everything that can be compared: curves, weights, predictions."""
    curves = {f"curve.{name}": np.array(values) for name, values in history.columns.items()}
    weights = {f"weight.{name}": value for name, value in method.state().items()}
    # Of the last step: Adam forgives a gradient that is wrong by a factor.
    (model,) = method._members
    gradients = {f"gradient.{n}": p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    return {
        **curves,
        **weights,
        **gradients,
        "predicted": method.predict_proba(trials()[1]),
        "best": np.array(history.best_epoch),
    }


def _plain(**training: Any) -> Callable[[Processes, Path], dict[str, np.ndarray]]:
    return lambda processes, _folder: told(*fitted(processes, settings(**training)))


def _goes_on(processes: Processes, folder: Path) -> dict[str, np.ndarray]:
    return told(*fitted(processes, settings(), keeper=InFolder(folder)))


def _keeps(processes: Processes, folder: Path) -> dict[str, np.ndarray]:
    return told(*fitted(processes, settings(), keeper=InFolder(folder, every=4)))


def _disk_full(processes: Processes, folder: Path) -> dict[str, np.ndarray]:
    return told(*fitted(processes, settings(), keeper=InFolder(folder, every=4, fails_at=11)))


def _no_numbers_first(processes: Processes, _folder: Path) -> dict[str, np.ndarray]:
    """A training that fails alike in all processes leaves them able to train again."""
    try:
        fitted(processes, settings(learning_rate=1e30))
    except DataError as error:
        assert "not finite" in str(error)  # noqa: PT017
        return told(*fitted(processes, settings()))
    raise AssertionError


def _marks(processes: Processes, _folder: Path) -> dict[str, np.ndarray]:
    """Rows of memory maps that count as read, where no process has read all."""
    method = NetworkMethod(CLIP_MUSED, hyperparameters=settings(max_epochs=1), seed=3, device="cpu")
    marked = [
        replace(data, responses=tuple(replace(t, seen=np.zeros(t.n_rows, bool)) for t in data.responses))
        for data in trials()
    ]
    method.fit(*marked, context=FitContext(processes=processes))
    return {f"{k}.{p}": table.seen for k, data in enumerate(marked) for p, table in enumerate(data.responses)}


CASES: dict[str, Callable[[Processes, Path], dict[str, np.ndarray]]] = {
    "plain": _plain(),
    "in parts": _plain(micro_batch=3),
    "bf16": _plain(precision="bf16-mixed"),
    "bf16 in parts": _plain(precision="bf16-mixed", micro_batch=3),
    "refit": lambda processes, _folder: told(
        *fitted(processes, replace(settings(max_epochs=2), fit_on="train+validation"))
    ),
    "goes on": _goes_on,
    "keeps": _keeps,
    "disk full": _disk_full,
    "no numbers first": _no_numbers_first,
    "marks": _marks,
}


def alone(case: str, folder: Path) -> dict[str, np.ndarray]:
    return CASES[case](ALONE, folder)


class Ended(NamedTuple):
    """How processes ended: exit codes, what they printed, and what process 0 left of each case."""

    codes: list[int]
    printed: list[str]
    results: dict[str, dict[str, np.ndarray]]


def stored(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def environment(rank: int, count: int, *, port: int) -> dict[str, str]:
    """What ``torchrun`` sets."""
    named = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_PORT": port,
    }
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in named.items()}}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(words: list[list[str]], *, environments: list[Mapping[str, str]]) -> list[subprocess.Popen[str]]:
    """Start one process for each list of words."""
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    shared["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return [
        subprocess.Popen(
            [sys.executable, *own], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**shared, **more},
        )
        for own, more in zip(words, environments, strict=True)
    ]  # fmt: skip


def together(cases: list[str], count: int, folder: Path, *, timeout: float = 400, **at: str) -> Ended:
    """Run cases in so many processes; ``at`` names a mishap: ``rank="1", step="5", what="kill"``."""
    port = free_port()
    words = [["-m", "tests.training.launched", str(folder), *cases]] * count
    mishap = {f"MISHAP_{name.upper()}": value for name, value in at.items()}
    processes = start(
        words, environments=[{**environment(rank, count, port=port), **mishap} for rank in range(count)]
    )
    try:
        printed = [one.communicate(timeout=timeout)[0] for one in processes]
    finally:
        for one in processes:
            one.kill()
    found = {case: folder / f"{case}.npz" for case in cases}
    results = {case: stored(path) for case, path in found.items() if path.exists()}
    return Ended([one.returncode for one in processes], printed, results)


def _arrange(rank: int) -> None:
    """Let something happen to one process after some steps of training."""
    if os.environ.get("MISHAP_RANK") != str(rank):
        return
    step, what, usual = int(os.environ["MISHAP_STEP"]), os.environ["MISHAP_WHAT"], Trainer._step
    done = 0

    def mishap(self: Trainer, *args: Any, **more: Any) -> Any:
        nonlocal done
        done += 1
        if done == step:
            if what == "error":
                raise DataError("this process alone cannot read on.")
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "usr1": signal.SIGUSR1}[what])
        return usual(self, *args, **more)

    Trainer._step = mishap  # type: ignore[method-assign]


def main(folder: Path, cases: list[str]) -> int:
    from clipmused_bids.config.launch import find_launch
    from clipmused_bids.dataset.files.mapped import MappedArrays
    from clipmused_bids.stages.together import _follow, _lead
    from clipmused_bids.training.meeting import meet

    launch = find_launch(os.environ)
    assert launch is not None
    _arrange(launch.rank)
    try:
        processes = meet(launch, on_gpu=False, command=" ".join(cases), files=MappedArrays())
        if launch.rank > 0:
            return int(_follow(processes))

        def work(together: Processes | None) -> ExitCode:
            assert together is not None
            for case in cases:
                np.savez(folder / f"{case}.npz", **CASES[case](together, folder))
            return ExitCode.OK

        return int(_lead(processes, work))
    except ClipMusedError as error:
        print(f"error: {error}", flush=True)  # noqa: T201
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
