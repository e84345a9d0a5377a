"""Noise in, chance out: the whole command on studies whose images hold autocorrelated noise only.

    python benchmarks/pure_noise.py [--seeds 8] [--trials 96] [--folder FOLDER]

Each seed is another study and another noise; its test stimuli are unseen. Prints the group's AUC and mAP (minus its
floor) of each method, the mean over seeds and its standard error, and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from scipy.signal import lfilter

from clipmused_bids.cli import main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset

METHODS = ("clipmused", "clipmused+ridge", "clipmused+ridgepooled")
QUICK = "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 3\nn_seeds = 1\n"
AUTOCORRELATION = 0.4


def noise_study(bids, *, seed, trials):
    parameters = SimulationParameters(
        n_participants=2, n_trials=trials, n_runs=3, n_shared=20, n_repeats=2, n_repeated_own=4, n_bank=4 * trials,
        seed=seed,
    )  # fmt: skip
    write_dataset(bids, parameters)
    rng = np.random.default_rng(seed)
    for path in sorted((bids / "derivatives").rglob("*_desc-preproc_bold.nii.gz")):
        image = nibabel.load(path)
        bold = np.asarray(image.dataobj).astype(float)
        white = rng.normal(size=bold.shape)
        noise = lfilter([1.0], [1.0, -AUTOCORRELATION], white, axis=-1) * np.sqrt(1 - AUTOCORRELATION**2)
        bold = bold.mean(axis=-1, keepdims=True) + bold.std(axis=-1, keepdims=True) * noise
        nibabel.save(nibabel.Nifti1Image(np.round(bold).astype(np.int16), image.affine, image.header), path)


def scores(folder, *, seed, trials):
    noise_study(folder / "bids", seed=seed, trials=trials)
    (folder / "quick.toml").write_text(QUICK)
    words = [
        folder / "bids",
        folder / "out",
        "group",
        "--clip-model",
        "demo",
        "--config-file",
        folder / "quick.toml",
    ]
    if main([str(word) for word in [*words, "--random-seed", seed, "-q"]]) != 0:
        raise SystemExit(f"seed {seed}: the command failed")
    found = {}
    for label in METHODS:
        table = pd.read_csv(folder / "out" / f"group_desc-{label}_metrics.tsv", sep="\t")
        group = table[(table["participant_id"] == "group") & (table["averaging"] == "single trials")]
        group = group.set_index("metric")
        found[label] = {
            "AUC": float(group.loc["AUC", "value"]),
            "mAP - floor": float(group.loc["mAP", "value"] - group.loc["mAP", "floor"]),
        }
    return found


def summary(values):
    return {"mean": float(np.mean(values)), "sem": float(np.std(values, ddof=1) / np.sqrt(len(values)))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=96)
    parser.add_argument("--folder", type=Path, help="where studies are written, and removed again")
    args = parser.parse_args()
    runs = []
    for seed in range(args.seeds):
        folder = Path(tempfile.mkdtemp(prefix="noise_", dir=args.folder))
        try:
            runs.append(scores(folder, seed=seed, trials=args.trials))
        finally:
            shutil.rmtree(folder)
        print(
            seed,
            {label: {m: round(v, 3) for m, v in one.items()} for label, one in runs[-1].items()},
            flush=True,
        )
    result = {
        label: {metric: summary([run[label][metric] for run in runs]) for metric in ("AUC", "mAP - floor")}
        for label in METHODS
    }
    for label, metrics in result.items():
        shown = ", ".join(f"{name} {one['mean']:+.3f} ({one['sem']:.3f})" for name, one in metrics.items())
        print(f"{label:24s} {shown}")
    print(json.dumps({"seeds": args.seeds, "trials": args.trials, "methods": result}))
