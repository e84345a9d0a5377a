"""Reading a run and estimating its responses: time beside that of loading the image, and memory within ``--mem``.

    python benchmarks/reading.py [--data FOLDER] [--scans 500] [--memory 4G 1G] [--output reading.json]

1. The studyforrest run below ``--data`` (default: the variable CLIPMUSED_TEST_DATA): the stage of ``--prepare`` that
   finds the mask, reads the image and estimates one response per trial (and, in a row of its own, also writes them), in
   turns with nibabel loading the same image in the same process; the shortest of several turns, as wall time and as
   processor time. Then the whole command.
2. A synthetic run of 97 x 115 x 97 voxels in float32, plain and compressed, with each amount of memory: wall time and
   the highest resident memory of the process (``getrusage``), every measurement in a process of its own.

Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = (97, 115, 97)
TR = 2.0
TURNS = 5
UNITS = {"M": 2**20, "G": 2**30}


def in_turns(data: Path) -> dict[str, object]:
    """Stage and nibabel by turns, in this process."""
    import shutil

    import nibabel
    import numpy as np

    from clipmused_bids.config import Config
    from clipmused_bids.dataset.outputs.tree import OutputTree
    from clipmused_bids.stages import prepare
    from clipmused_bids.stages.failures import Failures
    from clipmused_bids.stages.plan import make_plan

    write = prepare.write_responses
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        plan = make_plan(Config(data, out, "participant", ("prepare",), method="ridge"), failures=Failures())
        image = plan.runs[0].image

        def stage(writes: bool) -> None:
            prepare.write_responses = write if writes else lambda *_, **__: None
            failures = Failures()
            prepare.prepare_responses(plan, OutputTree(out), failures=failures)
            assert not failures.errors, failures.errors
            shutil.rmtree(out, ignore_errors=True)

        timed = {
            "reading_and_estimation": lambda: stage(writes=False),
            "and_writing": lambda: stage(writes=True),
            "nibabel_dataobj": lambda: np.asarray(nibabel.load(image).dataobj),
            "nibabel_float32": lambda: nibabel.load(image).get_fdata(dtype=np.float32),
        }
        turns = [{name: clocked(function) for name, function in timed.items()} for _ in range(TURNS + 1)]
    # The first turn imports libraries.
    first, *others = turns
    best = {name: [min(turn[name][k] for turn in others) for k in (0, 1)] for name in timed}
    return {"first_with_imports": first["reading_and_estimation"][0], "wall_and_processor_seconds": best}


def clocked(function) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def make_run(root: Path, *, n_scans: int, extension: str) -> None:
    """One participant, one run; an ellipsoid of a quarter of the grid is brain."""
    import nibabel
    import numpy as np
    from isal import igzip

    rng = np.random.default_rng(0)
    raw, derived = root / "sub-01" / "func", root / "derivatives" / "fmriprep" / "sub-01" / "func"
    for folder in (raw, derived):
        folder.mkdir(parents=True)
    description = {"Name": "large", "BIDSVersion": "1.10.0"}
    for folder in (root, derived.parents[1]):
        (folder / "dataset_description.json").write_text(json.dumps(description))
    (root / "task-x_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
    onsets = np.linspace(4, n_scans * TR - 20, 100)
    (raw / "sub-01_task-x_events.tsv").write_text(
        "onset\tduration\ttrial_type\n" + "".join(f"{t:.1f}\t1\tc{k % 5}\n" for k, t in enumerate(onsets))
    )
    stem = derived / "sub-01_task-x_space-MNI152NLin2009cAsym"
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    brain = (axes**2).sum(axis=0) < 0.62
    affine = np.diag([2.0, 2, 2, 1])
    nibabel.Nifti1Image(brain.astype(np.uint8), affine).to_filename(f"{stem}_desc-brain_mask.nii.gz")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((*SHAPE, n_scans))
    header.set_zooms((2, 2, 2, TR))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(affine, 1)
    header.set_data_offset(352)
    mean = np.where(brain, 1000, 20).astype(np.float32)
    path = Path(f"{stem}_desc-preproc_bold{extension}")
    with igzip.open(path, "wb", compresslevel=1) if extension.endswith("gz") else path.open("wb") as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(n_scans):
            noise = rng.integers(-40, 40, size=SHAPE, dtype=np.int16)
            stream.write((mean + noise).astype("<f4").tobytes(order="F"))


def command(*words: object) -> tuple[float, float]:
    """Wall time and highest resident memory (MB) of a process."""
    start = time.perf_counter()
    # This process stays small: a child counts its parent's memory until it has become another program.
    process = subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{errors}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def prepare(data: Path, *options: object) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        words = (data, Path(folder) / "out", "participant", "--prepare", "--method", "ridge", *options)
        return command("-m", "clipmused_bids.cli", *words)


def real_run(data: Path) -> dict[str, object]:
    printed = subprocess.run(
        [sys.executable, __file__, "--in-turns", str(data)], check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(printed.stdout.splitlines()[-1])
    best = found["wall_and_processor_seconds"]
    seconds, peak = prepare(data)
    start, start_peak = command("-m", "clipmused_bids.cli", "--help")
    print("studyforrest, 80 x 80 x 35 x 156, int16, compressed")
    print(f"{'':44}{'wall s':>9}{'processor s':>13}{'/ nibabel':>11}")
    for name, (wall, processor) in best.items():
        ratio = wall / best["nibabel_dataobj"][0]
        print(f"{name:44}{wall:>9.2f}{processor:>13.2f}{ratio:>11.2f}")
    print(f"{'whole command':44}{seconds:>9.2f}{'':24}peak {peak:.0f} MB")
    print(f"{'  of that: start of the command (--help)':44}{start:>9.2f}{'':24}peak {start_peak:.0f} MB")
    return {**found, "command_seconds": seconds, "command_peak_mb": peak, "help_seconds": start}


def large_run(*, n_scans: int, amounts: list[str], work_dir: Path | None) -> list[dict[str, object]]:
    rows = []
    print(f"\nsynthetic, {' x '.join(map(str, SHAPE))} x {n_scans}, float32, 100 trials")
    print(f"{'':28}{'wall s':>9}{'peak MB':>10}{'allowed MB':>12}")
    for extension in (".nii", ".nii.gz"):
        with tempfile.TemporaryDirectory(dir=work_dir) as folder:
            root = Path(folder) / "bids"
            command(__file__, "--make", root, "--scans", n_scans, "--extension", extension)
            n_bytes = sum(path.stat().st_size for path in root.rglob("*_bold.nii*"))
            for amount in amounts:
                seconds, peak = prepare(root, "--mem", amount, "--work-dir", Path(folder) / "work")
                allowed = float(amount[:-1]) * UNITS[amount[-1]] / 2**20
                print(f"{extension + ' --mem ' + amount:28}{seconds:>9.1f}{peak:>10.0f}{allowed:>12.0f}")
                rows.append(
                    {"extension": extension, "file_bytes": n_bytes, "mem": amount, "seconds": seconds,
                     "peak_mb": peak, "within": peak <= allowed}
                )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("CLIPMUSED_TEST_DATA"))
    parser.add_argument("--scans", type=int, default=500)
    parser.add_argument("--memory", nargs="+", default=["4G", "1G"])
    parser.add_argument("--work-dir", type=Path, help="where the synthetic runs are made (about 2.5 GB)")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--in-turns", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--extension", default=".nii", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.in_turns:
        print(json.dumps(in_turns(args.in_turns)))
        return
    if args.make:
        make_run(args.make, n_scans=args.scans, extension=args.extension)
        return
    assert all(re.fullmatch(r"\d+[MG]", amount) for amount in args.memory), args.memory
    outcome: dict[str, object] = {"benchmark": "reading", "cores": os.cpu_count()}
    outcome["load_average"] = os.getloadavg()[0]
    if args.data:
        outcome["studyforrest"] = real_run(args.data / "studyforrest")
    outcome["synthetic"] = large_run(n_scans=args.scans, amounts=args.memory, work_dir=args.work_dir)
    if args.output:
        args.output.write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
