"""How many cores this process may use: by affinity, by the quota of its control group, by its scheduler."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# What libraries of linear algebra ask for their number of threads when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def usable_cores(root: Path) -> float:
    """Cores by affinity and by the quota of the control group.

    Parameters
    ----------
    root : Path
        ``/``.
    """
    cores = float(len(os.sched_getaffinity(0)))
    for folder in control_groups(root):
        quota, period = number_in(folder / "cpu.cfs_quota_us"), number_in(folder / "cpu.cfs_period_us")
        if (folder / "cpu.max").is_file():
            first, _, second = (folder / "cpu.max").read_text().strip().partition(" ")
            quota, period = (float(first), float(second)) if first.isdigit() else (None, None)
        if quota is not None and quota > 0 and period:
            cores = min(cores, quota / period)
    return cores


def scheduled_cores(environ: Mapping[str, str]) -> int | None:
    """Cores that Slurm has given to this task, which need not bind it to them; None outside of a job.

    Without ``--cpus-per-task`` a job of one task may use what it has on this node.
    """
    named = environ.get("SLURM_CPUS_PER_TASK", "")
    if not named and environ.get("SLURM_NTASKS", "1") == "1":
        named = environ.get("SLURM_CPUS_ON_NODE", "")
    return int(named) if named.isdigit() and int(named) > 0 else None


def control_groups(root: Path) -> list[Path]:
    """Folders of this process's control groups, with those above them.

    Parameters
    ----------
    root : Path
        ``/``.
    """
    top = root / "sys" / "fs" / "cgroup"
    folders = [top, top / "memory", top / "cpu"]
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        start = top / controllers if controllers else top
        own = start / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(start))]
    return list(dict.fromkeys(folders))


def number_in(file: Path) -> float | None:
    """Return the number that a file of the kernel holds; None where there is no file, or it says ``max``."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return float(text) if text.lstrip("-").isdigit() else None
