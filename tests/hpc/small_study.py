"""Six simulated people, small enough that a job on one of them takes seconds, and a decoder of all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from clipmused_bids.cli import main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset

PEOPLE = tuple(f"{k:02d}" for k in range(1, 7))
SIX = SimulationParameters(
    n_participants=len(PEOPLE), n_trials=24, n_runs=2, n_shared=8, n_repeats=2, n_repeated_own=2, n_bank=120, snr=2.0,
    seed=7,
)  # fmt: skip
QUICK = (
    "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 3\nbatch_size = 16\nn_seeds = 1\n"
)


def make_study(folder: Path) -> Path:
    """Write the raw dataset with its derivative, and ``quick.toml`` beside it; returns the raw dataset."""
    write_dataset(folder / "bids", SIX)
    (folder / "quick.toml").write_text(QUICK)
    return folder / "bids"


def make_decoder(bids: Path, out: Path) -> None:
    """Train a group decoder into ``out`` and leave nothing there but the decoder and its split."""
    code = main([
        str(bids), str(out), "group", "--train", "--clip-model", "demo", "--config-file",
        str(bids.parent / "quick.toml"), "--device", "cpu", "-q",
    ])  # fmt: skip
    assert code == 0
    for path in out.iterdir():
        if path.name == "models" or path.name.startswith("split."):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
