"""Finding the runs of a dataset, beside pybids' index of the whole tree.

    python benchmarks/indexing.py [--runs 510] [--large-runs 7600] [--longest 180] [--output indexing.json]

Two datasets of empty images, with real events and sidecars and an fMRIPrep derivative, are made in a temporary
folder: about 6,700 and 100,000 files. The times are processor time (wall time beside it) of one process after all
imports, files in the disk cache; every row is run once after the files were listed once.
pybids is run on the large tree only if, by its time on the small one, it would need less than ``--longest`` seconds;
else its time there is extrapolated by the number of files and marked so. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import bids
from bids import BIDSLayout, BIDSLayoutIndexer

from clipmused_bids.config import Selection
from clipmused_bids.dataset.runs.derivatives import find_derivatives
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.participants import list_participants

RUNS_OF_A_PARTICIPANT = 17
EVENTS = "onset\tduration\ttrial_type\tstim_file\n" + "".join(
    f"{4 * k}\t1\timage\timages/{k:04d}.jpg\n" for k in range(60)
)
SIDECAR = json.dumps({"RepetitionTime": 2.0, "TaskName": "x", "SliceTiming": [k / 20 for k in range(40)]})
RAW = {"_events.tsv": EVENTS, "_bold.json": SIDECAR, "_bold.nii.gz": ""}
SPACE = "_space-MNI152NLin2009cAsym"
DERIVED = {
    f"{SPACE}_desc-preproc_bold.nii.gz": "",
    f"{SPACE}_desc-preproc_bold.json": SIDECAR,
    f"{SPACE}_desc-brain_mask.nii.gz": "",
    f"{SPACE}_desc-brain_mask.json": "{}",
    f"{SPACE}_boldref.nii.gz": "",
    f"{SPACE}_desc-aparcaseg_dseg.nii.gz": "",
    "_desc-confounds_timeseries.tsv": "framewise_displacement\nn/a\n",
    "_desc-confounds_timeseries.json": "{}",
    "_from-scanner_to-boldref_mode-image_xfm.txt": "",
    "_desc-hmc_boldref.nii.gz": "",
}


def make_dataset(root: Path, *, n_runs: int) -> int:
    """Write a skeleton of ``n_runs`` runs; returns the number of files."""
    derivative = root / "derivatives" / "fmriprep"
    labels = [f"{k + 1:03d}" for k in range(-(-n_runs // RUNS_OF_A_PARTICIPANT))]
    for folder, kind in ((root, "raw"), (derivative, "derivative")):
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "Name": "skeleton",
            "BIDSVersion": "1.10.0",
            "DatasetType": kind,
            "GeneratedBy": [{"Name": "fMRIPrep"}],
        }
        (folder / "dataset_description.json").write_text(json.dumps(description))
    (root / "participants.tsv").write_text("participant_id\n" + "".join(f"sub-{k}\n" for k in labels))
    (root / "README").write_text("A skeleton.\n")
    (root / "task-x_bold.json").write_text(SIDECAR)
    left = n_runs
    for label in labels:
        own = [f"sub-{label}_task-x_run-{k + 1:02d}" for k in range(min(left, RUNS_OF_A_PARTICIPANT))]
        left -= len(own)
        write_files(root / f"sub-{label}" / "func", own, RAW)
        write_files(root / f"sub-{label}" / "anat", [f"sub-{label}"], {"_T1w.nii.gz": "", "_T1w.json": "{}"})
        write_files(derivative / f"sub-{label}" / "func", own, DERIVED)
    return sum(len(files) for _, _, files in os.walk(root))


def write_files(folder: Path, stems: list[str], endings: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for stem in stems:
        for ending, content in endings.items():
            (folder / f"{stem}{ending}").write_text(content)


def ours(root: Path, *, participants: tuple[str, ...] | None = None) -> int:
    """Runs with image, mask, confounds, events and metadata."""
    people = participants or list_participants(root)
    derivatives = find_derivatives(root, (), participants=people, image_kind=None)
    runs = find_runs(
        root, derivatives=derivatives, selection=Selection(), participants=people, image_kind="auto", need_events=True
    )  # fmt: skip
    assert all(run.image and run.mask and run.confounds and run.metadata for run in runs)
    return len(runs)


def pybids(root: Path, *, metadata: bool, derivatives: bool) -> int:
    """Preprocessed images (raw ones without derivatives) that an index of the whole tree knows."""
    indexer = None if metadata else BIDSLayoutIndexer(index_metadata=False)
    layout = BIDSLayout(root, derivatives=derivatives, indexer=indexer)
    scope = "derivatives" if derivatives else "raw"
    return len(layout.get(suffix="bold", extension=".nii.gz", scope=scope))


PEERS: dict[str, Callable[[Path], int]] = {
    "BIDSLayout(root)": lambda root: pybids(root, metadata=True, derivatives=False),
    "BIDSLayout(root, derivatives=True)": lambda root: pybids(root, metadata=True, derivatives=True),
    "BIDSLayout(root, index_metadata=False)": lambda root: pybids(root, metadata=False, derivatives=False),
    "  the same, derivatives=True": lambda root: pybids(root, metadata=False, derivatives=True),
}


def timed(what: str, function: Callable[..., int], *arguments, **options) -> dict[str, object]:
    """Processor and wall time, and how many runs were found."""
    wall, processor = time.perf_counter(), time.process_time()
    found = function(*arguments, **options)
    seconds = time.process_time() - processor
    return {"what": what, "seconds": seconds, "wall": time.perf_counter() - wall, "runs": found}


def measure(root: Path, *, n_files: int, longest: float, known: dict[str, float]) -> list[dict[str, object]]:
    """Times on one tree; ``known`` holds the peers' seconds per file on the smaller one."""
    ours(root)
    rows = [timed("ours, all participants", ours, root)]
    rows.append(timed("ours, one participant", ours, root, participants=list_participants(root)[:1]))
    for name, function in PEERS.items():
        expected = known.get(name, 0.0) * n_files
        if expected > longest:
            rows.append({"what": name, "seconds": expected, "wall": None, "runs": None, "extrapolated": True})
            continue
        row = timed(name, function, root)
        known.setdefault(name, row["seconds"] / n_files)
        rows.append(row)
    for row in rows:
        row["times_ours"] = row["seconds"] / rows[0]["seconds"]
    return rows


def report(title: str, rows: list[dict[str, object]]) -> None:
    print(f"\n{title}")
    print(f"{'':42}{'processor s':>12}{'/ ours':>9}{'wall s':>9}{'runs':>8}")
    for row in rows:
        mark = " *" if row.get("extrapolated") else ""
        wall = "-" if row["wall"] is None else f"{row['wall']:.3f}"
        print(
            f"{row['what']:42}{row['seconds']:>12.3f}{row['times_ours']:>9.1f}{wall:>9}{row['runs'] or '-':>8}{mark}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=510)
    parser.add_argument("--large-runs", type=int, default=7600)
    parser.add_argument(
        "--longest", type=float, default=180.0, help="seconds pybids may take on the large tree"
    )
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    results, known = [], {}
    with tempfile.TemporaryDirectory(prefix="clipmused_indexing_") as folder:
        for name, n_runs in (("small", args.runs), ("large", args.large_runs)):
            root = Path(folder) / name
            n_files = make_dataset(root, n_runs=n_runs)
            rows = measure(root, n_files=n_files, longest=args.longest, known=known)
            results.append({"n_files": n_files, "n_runs": n_runs, "rows": rows})
            report(f"{n_files} files, {n_runs} runs", rows)
    print("\n* extrapolated from the small tree by the number of files, not run")
    outcome = {
        "benchmark": "indexing",
        "pybids": bids.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "trees": results,
    }
    text = json.dumps(outcome, indent=1)
    if args.output:
        args.output.write_text(text + "\n")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
