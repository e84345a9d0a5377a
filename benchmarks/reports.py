"""Reports of a participant with many trials: how long they take, how large they are, what memory they need.

    python benchmarks/reports.py [--trials 10000] [--labels 80] [--stimuli 9000] [--voxels 10] [--folder DIR]
                                 [--output reports.json]

Makes responses of one participant (a manifest of ``.npy`` sessions of 250 trials, a cube of voxels), an image bank and
a table of labels; trains a small CLIP-MUSED decoder and its baselines for two epochs, which is not timed; then times
``--reports-only`` in a process of its own: wall time, highest resident memory, and the size of each page. The peer
is the same command's ``--dry-run``, which reads the same events, labels and pictures' places and writes nothing.

With ``--folder`` everything is kept there, and what was made before is used again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import nibabel
import numpy as np

TRIALS_OF_A_SESSION = 250
QUICK = "[model]\nwidth = 32\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 2\nn_seeds = 1\n"


def write_study(folder: Path, *, n_trials: int, n_stimuli: int, n_labels: int, edge: int) -> None:
    """Write manifest, sessions, mask, image bank and labels; a tenth of the stimuli is shown twice or more."""
    generator = np.random.default_rng(3)
    prevalence = np.sort(generator.beta(0.6, 8.0, size=n_labels) + 0.01)[::-1]
    labels = generator.random((n_stimuli, n_labels)) < prevalence
    labels[~labels.any(axis=1), 0] = True
    names = [f"label {k + 1}" for k in range(n_labels)]
    rows = ["\t".join(map(str, (name, *row.astype(int)))) for name, row in enumerate(labels)]
    (folder / "labels.tsv").write_text("\n".join(["\t".join(("stimulus_id", *names)), *rows]) + "\n")
    pictures = generator.integers(0, 256, size=(n_stimuli, 8, 8, 3), dtype=np.uint8)
    with h5py.File(folder / "bank.hdf5", "w") as file:
        file.create_dataset(
            "pictures", data=pictures.repeat(12, axis=1).repeat(12, axis=2), chunks=(1, 96, 96, 3)
        )
    shape = (edge, edge, edge)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nibabel.Nifti1Image(np.ones(shape, np.uint8), affine).to_filename(folder / "mask.nii.gz")
    weights = generator.normal(size=(n_labels, edge**3)).astype(np.float32)
    seen = np.concatenate(
        [np.arange(n_stimuli), generator.integers(0, n_stimuli // 10, size=n_trials - n_stimuli)]
    )
    generator.shuffle(seen)
    lines = ["participant_id\tsession\tfile\tindex\tstimulus_id"]
    for first in range(0, n_trials, TRIALS_OF_A_SESSION):
        shown = seen[first : first + TRIALS_OF_A_SESSION]
        values = labels[shown] @ weights + 3 * generator.normal(size=(len(shown), edge**3))
        session = f"{first // TRIALS_OF_A_SESSION + 1:02d}"
        np.save(folder / f"ses-{session}.npy", values.astype(np.float32))
        lines += [f"sub-01\t{session}\tses-{session}.npy\t{k}\t{name}" for k, name in enumerate(shown)]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    bids = folder / "bids"
    bids.mkdir()
    (bids / "dataset_description.json").write_text(
        json.dumps({"Name": "many trials", "BIDSVersion": "1.10.0"})
    )
    (folder / "quick.toml").write_text(QUICK)


def command(folder: Path, *words: str) -> list[str]:
    """Command line on the study below a folder."""
    return [
        sys.executable, "-m", "clipmused_bids", str(folder / "bids"), str(folder / "out"), "group",
        "--betas", str(folder / "manifest.tsv"), "--mask", str(folder / "mask.nii.gz"),
        "--stimuli-dir", f"{folder / 'bank.hdf5'}:/pictures", "--stimulus-index-base", "0",
        "--labels", str(folder / "labels.tsv"), "--clip-model", "demo", "--preset", "small",
        "--config-file", str(folder / "quick.toml"), *words,
    ]  # fmt: skip


def measured(words: list[str]) -> dict[str, float]:
    """Wall time and highest resident memory of a command."""
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True)
    return {"seconds": time.perf_counter() - started, "megabytes": int(done.stdout) / 1024}


def main() -> None:
    """Make, train, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--stimuli", type=int, default=9_000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--voxels", type=int, default=10, help="edge of the cube")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "quick.toml").exists():
            write_study(
                folder,
                n_trials=asked.trials,
                n_stimuli=asked.stimuli,
                n_labels=asked.labels,
                edge=asked.voxels,
            )
        subprocess.run(command(folder), check=True)
        figures: dict[str, object] = {
            "trials": asked.trials, "labels": asked.labels, "stimuli": asked.stimuli, "voxels": asked.voxels**3,
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "dry_run": measured(command(folder, "--dry-run")),
            "reports": measured(command(folder, "--reports-only")),
        }  # fmt: skip
        pages = sorted((folder / "out").glob("*.html"))
        figures["page_megabytes"] = {page.name: page.stat().st_size / 1e6 for page in pages}
    text = json.dumps(figures, indent=2)
    print(text)
    if asked.output is not None:
        asked.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
