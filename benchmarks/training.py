"""The input of training: samples per second, time that a step waits for data, and memory by number of participants.

    python benchmarks/training.py [--threads 1] [--only pipeline waiting memory] [--folder DIR] [--json FILE]

(a) ``pipeline``: batches of 64 trials, drawn over all participants, as the network's input. Ours: responses as
    ``--prepare`` writes them (one safetensors file for each run, memory-mapped), standardised by run, the responses not
    kept in memory; read when they are asked for, or ahead in a thread while nothing else happens. The peer: one whole
    volume for each sample, stored as float64 in a ``.npy`` file of its own, read with ``np.load``, masked, as float32,
    not standardised. Both in turns in one process, median over turns. ``nsd`` gives vectors of 15,000 voxels out of
    81x104x83, and a second peer whose files hold no more than these voxels; ``hcp`` gives whole volumes of
    112x128x112, which ours scatters from the voxels of the mask. Warm: all files are in the page cache. Cold: all files
    are dropped from it before each batch (``posix_fadvise``), which is only believed where the bytes that the process
    then reads from the disk say so (``/proc/self/io``).
(b) ``waiting``: the share of the time between two steps that the trainer waits for its batch, with presets ``small``
    and ``nsd``; batches of ``nsd`` are of 2 trials here, not 64, so that a step ends soon. What is read is the
    responses of 8 participants, 15,000 voxels each, more than is kept in memory.
(d) ``memory``: training with 4 and with 40 participants of 600 trials and 4,000 voxels in a common space, each in a
    process of its own: the most anonymous memory (``RssAnon``, sampled every 5 ms), and the most resident memory
    (``ru_maxrss``), which counts pages of the files that the system drops when it needs them. ``network`` trains the
    network alone; ``nsd`` is the whole fit of the preset's method, and ``ridge`` that with a ridge readout, whose Gram
    matrix is of trials or of voxels, whichever are fewer. The network is narrower and trained for one epoch, which
    changes nothing in what is read.

Responses and labels are random numbers. Prints tables and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from benchmarks.full_size import ellipsoid, hyperparameters
from clipmused_bids.dataset.files.tensors import map_tensors, write_tensors
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.network_kinds import CLIP_MUSED
from clipmused_bids.records import Grid, ResponseTable, Targets, TrialData, VoxelSpace
from clipmused_bids.training.batches import TrialReader, all_rows, epoch_order
from clipmused_bids.training.feed import MOST_AHEAD, Feed
from clipmused_bids.training.loop import Trainer

CPU = torch.device("cpu")
TURNS = 9
BATCH = 64


@dataclass(frozen=True)
class Study:
    """Sizes of simulated responses."""

    n_participants: int
    n_runs: int
    trials_per_run: int
    grid: tuple[int, int, int]
    n_voxels: int | None  # None: an ellipsoid that touches all faces of the grid
    n_labels: int
    n_regions: int = 0
    n_volumes: int = 128  # of the peer

    @property
    def voxels(self) -> np.ndarray:
        if self.n_voxels is None:
            return ellipsoid(self.grid)
        spread = np.linspace(0, np.prod(self.grid) - 1, self.n_voxels)
        return np.unique(spread.astype(np.int64))


PIPELINES = {
    "nsd": Study(8, 10, 62, (81, 104, 83), 15_000, 80),
    "hcp": Study(4, 2, 20, (112, 128, 112), None, 859, n_volumes=96),
}
WAITING = Study(8, 10, 62, (81, 104, 83), 15_000, 80, n_regions=180)
MEMORY = {n: Study(n, 10, 60, (40, 40, 40), 4_000, 80, n_regions=50) for n in (4, 40)}


def stored_trials(study: Study, folder: Path) -> TrialData:
    """Write responses of all participants, one file for each run, and open them as memory maps."""
    generator = np.random.default_rng(0)
    voxels, n_people = study.voxels, study.n_participants
    space = VoxelSpace(
        Grid(study.grid, np.eye(4)),
        voxels,
        np.arange(len(voxels)) * study.n_regions // len(voxels) if study.n_regions else np.full(len(voxels), -1),
        tuple(f"r{k}" for k in range(study.n_regions)),
    )  # fmt: skip
    columns = np.arange(len(voxels))
    tables = []
    for p in range(n_people):
        blocks = []
        for r in range(study.n_runs):
            path = folder / f"sub-{p + 1:02d}_run-{r + 1:02d}_responses.safetensors"
            if not path.exists():
                values = generator.standard_normal((study.trials_per_run, len(voxels)), dtype=np.float32)
                valid = np.ones(len(voxels), dtype=bool)
                write_tensors(path, {"responses": values, "valid": valid, "voxels": voxels})
            blocks.append(map_tensors(path)[0]["responses"])
        shape = (study.n_runs, len(voxels))
        mean = generator.standard_normal(shape, dtype=np.float32)
        sd = generator.uniform(0.5, 2, shape).astype(np.float32)
        tables.append(ResponseTable(tuple(blocks), (columns,) * study.n_runs, tuple(mean), tuple(sd)))
    n_own = study.n_runs * study.trials_per_run
    # All participants see the same pictures, so that what is stored for each picture does not grow.
    names = tuple(f"s{k}" for k in range(n_own))
    stimulus = np.tile(np.arange(n_own), n_people)
    features = [generator.standard_normal((n_own, 512)).astype(np.float32) + 1.0 for _ in range(2)]
    labels = (generator.random((n_own, study.n_labels)) < 0.1).astype(np.float32)
    return TrialData(
        participants=tuple(f"{p + 1:02d}" for p in range(n_people)),
        responses=tuple(tables),
        spaces=(space,) * n_people,
        common_space=True,
        participant=np.repeat(np.arange(n_people), n_own),
        row=np.tile(np.arange(n_own), n_people),
        labels=labels[stimulus],
        label_names=tuple(f"l{k}" for k in range(study.n_labels)),
        single_label=False,
        stimulus=stimulus,
        stimulus_id=tuple(names[k] for k in stimulus),
        targets=Targets(names, *features, "image+text", "random numbers", "0"),
        group=np.tile(np.arange(n_own) // study.trials_per_run, n_people),
    )


@dataclass
class Way:
    """A way to get the next batch, and the files that it reads."""

    next_batch: Callable[[], torch.Tensor]
    files: Sequence[Path]
    maps: Sequence[np.ndarray] = ()


def dense(x_BV: torch.Tensor, voxels: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Volumes with the voxels at their places, as the network scatters them."""
    return x_BV.new_zeros(len(x_BV), int(np.prod(shape))).index_copy_(1, voxels, x_BV).view(-1, 1, *shape)


def our_way(study: Study, data: TrialData, *, most_ahead: int, whole_volumes: bool) -> Way:
    reader = TrialReader(data, device=CPU, in_memory_bytes=0)
    feed = Feed(reader, mixup=0.0, division=all_rows, most_ahead=most_ahead)
    generator = np.random.default_rng(1)
    voxels = torch.as_tensor(study.voxels)

    def batches():
        while True:
            order = epoch_order(data.n_trials, batch_size=BATCH, generator=generator)[:-1] or [
                generator.permutation(data.n_trials)[:BATCH]
            ]
            for fed in feed.batches(order, generator=generator):
                x_BV = torch.cat(fed.batch.responses)
                yield dense(x_BV, voxels, study.grid) if whole_volumes else x_BV

    iterator = batches()
    maps = [block for table in data.responses for block in table.blocks]
    return Way(lambda: next(iterator), sorted({Path(block.filename) for block in maps}), maps)


def their_way(study: Study, folder: Path, *, masked: bool, whole_volumes: bool) -> Way:
    """One float64 file for each sample: of a whole volume, or (``masked``) of the voxels of the mask."""
    generator = np.random.default_rng(2)
    files = [folder / f"{'masked' if masked else 'volume'}{k:04d}.npy" for k in range(study.n_volumes)]
    shape = (len(study.voxels),) if masked else study.grid
    for path in files:
        if not path.exists():
            np.save(path, generator.standard_normal(shape))
    voxels = study.voxels

    def sample(path: Path) -> np.ndarray:
        values = np.load(path)
        chosen = values if masked or whole_volumes else values.reshape(-1)[voxels]
        return chosen.astype(np.float32)

    def next_batch() -> torch.Tensor:
        chosen = generator.permutation(len(files))[:BATCH]
        values = torch.as_tensor(np.stack([sample(files[k]) for k in chosen]))
        return values[:, None] if whole_volumes else values

    return Way(next_batch, files)


def forget(way: Way) -> None:
    """Drop a way's files from the page cache; pages that are mapped would stay, so they are let go first."""
    for block in way.maps:
        block._mmap.madvise(mmap.MADV_DONTNEED)  # noqa: SLF001 - numpy gives no other way
    for path in way.files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_from_disk() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def pipeline(name: str, folder: Path) -> list[dict]:
    study = PIPELINES[name]
    whole = name == "hcp"
    data = stored_trials(study, folder)
    ways = {
        "ours": our_way(study, data, most_ahead=0, whole_volumes=whole),
        "ours, read ahead": our_way(study, data, most_ahead=MOST_AHEAD, whole_volumes=whole),
        "npy of whole volumes": their_way(study, folder, masked=False, whole_volumes=whole),
    }
    if not whole:
        ways["npy of the mask"] = their_way(study, folder, masked=True, whole_volumes=False)
    rows = []
    for cache in ("warm", "cold"):
        # Ahead of what is asked for, files would be read before they are dropped.
        timed = {key: way for key, way in ways.items() if cache == "warm" or key != "ours, read ahead"}
        seconds: dict[str, list[float]] = {key: [] for key in timed}
        from_disk: dict[str, list[int]] = {key: [] for key in timed}
        for turn in range(TURNS + 1):
            for key, way in timed.items():
                if cache == "cold":
                    forget(way)
                before, start = bytes_from_disk(), time.perf_counter()
                way.next_batch()
                if turn > 0:
                    seconds[key].append(time.perf_counter() - start)
                    from_disk[key].append(bytes_from_disk() - before)
        rate = {key: BATCH / float(np.median(values)) for key, values in seconds.items()}
        rows += [
            {
                "study": name, "cache": cache, "way": key, "samples_per_second": rate[key],
                "ours_over_this": rate["ours"] / rate[key],
                "mb_from_disk": float(np.median(from_disk[key])) / 1e6,
            }
            for key in timed
        ]  # fmt: skip
    return rows


def waiting(preset: str, folder: Path, *, most_ahead: int) -> dict:
    options = hyperparameters(preset, additions=False)
    data = stored_trials(WAITING, folder)
    n_steps, batch_size = (4, 2) if preset == "nsd" else (60, options.training.batch_size)
    nothing = data.subset(np.empty(0, dtype=np.int64))
    training = replace(options.training, batch_size=batch_size, max_epochs=1, micro_batch=0)
    architecture = choose_architecture(data, options.model, network=CLIP_MUSED)
    torch.manual_seed(0)
    model = build_decoder(architecture, options.model, n_participants=len(data.participants))
    scores = np.zeros(data.labels.shape) if options.model.readout in {"ridge", "stack"} else None
    trainer = Trainer(model, data, nothing, options=training, seed=0, device=CPU, scores=scores)
    assert not trainer.reader.keeps
    trainer.feed.most_ahead = most_ahead
    given = trainer.feed.batches
    trainer.feed.batches = lambda order, *, generator: given(order[:n_steps], generator=generator)  # type: ignore[method-assign]
    trainer.run(n_epochs=1)
    waited, worked = trainer.feed.seconds_waited, trainer.feed.seconds_worked
    return {
        "preset": preset, "batch": batch_size, "steps": n_steps, "read_ahead": most_ahead,
        "step_ms": 1000 * (waited + worked) / n_steps, "waited_percent": 100 * waited / (waited + worked),
    }  # fmt: skip


class Watch:
    """The most anonymous memory of this process while inside."""

    def __enter__(self) -> Self:
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, anonymous())


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def memory(case: str, n_participants: int, folder: Path) -> dict:
    options = hyperparameters("nsd", additions=False)
    readout = "ridge" if case == "ridge" else "none"
    options = replace(
        options,
        fit_on="train",
        model=replace(options.model, width=64, depth=1, heads=4, readout=readout),
        training=replace(options.training, max_epochs=1, label_loss="binary"),
    )
    data = stored_trials(MEMORY[n_participants], folder)
    held_out = data.group == data.group.max()
    train, validation = data.subset(np.flatnonzero(~held_out)), data.subset(np.flatnonzero(held_out))
    before = anonymous()
    with Watch() as watch:
        if case == "network":
            architecture = choose_architecture(train, options.model, network=CLIP_MUSED)
            model = build_decoder(architecture, options.model, n_participants=n_participants)
            Trainer(model, train, validation, options=options.training, seed=0, device=CPU).run()
        else:
            method = NetworkMethod(CLIP_MUSED, hyperparameters=options, seed=0, device="cpu")
            method.fit(train, validation)
    return {
        "case": case,
        "participants": n_participants,
        "before_mb": before / 1e6,
        "anonymous_mb": watch.most / 1e6,
        "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "responses_mb": 4 * data.n_trials * data.responses[0].n_voxels / 1e6,
    }


CASES = ("network", "nsd", "ridge")


def growth(rows: list[dict], cases: Sequence[str]) -> list[dict]:
    """Rows of the larger study, with what its training needs beyond that of the smaller one."""
    found = []
    for case in cases:
        few, many = (next(r for r in rows if (r["case"], r["participants"]) == (case, n)) for n in (4, 40))
        found.append(
            {"case": case}
            | {
                f"{kind}_growth_percent": 100 * (many[f"{kind}_mb"] / few[f"{kind}_mb"] - 1)
                for kind in ("anonymous", "resident")
            }
        )
    return found


def in_own_process(arguments: Sequence[str], *, threads: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.training", *arguments, "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(line[k]) for line in [columns, *cells]) for k in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [columns, *cells]
    )


def measured(
    parts: Sequence[str], cases: Sequence[str], folder: Path, *, threads: int
) -> dict[str, list[dict]]:
    result: dict[str, list[dict]] = {}
    if "pipeline" in parts:
        for name in PIPELINES:
            (folder / name).mkdir(exist_ok=True)
            result["pipeline"] = [*result.get("pipeline", []), *pipeline(name, folder / name)]
    if "waiting" in parts:
        (folder / "waiting").mkdir(exist_ok=True)
        result["waiting"] = [
            waiting(preset, folder / "waiting", most_ahead=ahead)
            for preset in ("small", "nsd")
            for ahead in (0, MOST_AHEAD)
        ]
    if "memory" in parts:
        for n, study in MEMORY.items():
            (folder / f"memory{n}").mkdir(exist_ok=True)
            stored_trials(study, folder / f"memory{n}")
        result["memory"] = [
            in_own_process(
                ["--case", case, "--participants", str(n), "--folder", str(folder / f"memory{n}")], threads=threads
            )
            for case in cases
            for n in MEMORY
        ]  # fmt: skip
        result["memory_growth"] = growth(result["memory"], cases)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("pipeline", "waiting", "memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--folder", type=Path, help="where files are made (about 4 GB); a temporary one otherwise"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=CASES, help="of the memory; ridge takes long"
    )
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--participants", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.case:
        print(json.dumps(memory(args.case, args.participants, args.folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        result = measured(args.only, args.cases, args.folder or Path(made), threads=args.threads)
    for name, rows in result.items():
        print(f"\n{name}\n{table(rows)}")
    whole = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "device": "cpu",
        "threads": args.threads,
        "torch": torch.__version__,
        **result,
    }
    print(json.dumps(whole))
    if args.json:
        known = json.loads(args.json.read_text()) if args.json.exists() else {}
        args.json.write_text(json.dumps({**known, **whole}, indent=2) + "\n")


if __name__ == "__main__":
    main()
