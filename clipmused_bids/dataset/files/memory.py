"""How much memory this process holds, and how much more it could have."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/")
# Control groups, which schedulers and containers limit processes by: folder, file of the limit, and what is held by
# processes rather than by the disk cache, which gives way. Version 2, version 1.
_GROUPS = (
    ("sys/fs/cgroup", "memory.max", "anon"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_rss"),
)


def held_memory() -> int:
    """Bytes of physical memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        import resource

        # Without /proc only the highest so far is known; macOS counts it in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_memory(*, root: Path = _ROOT) -> int:
    """Bytes that could be taken without swapping: free on this machine, and within the limits of its control groups.

    Parameters
    ----------
    root : Path
        Where ``/proc`` and ``/sys`` are.
    """
    return min([_free_on_machine(root), *_left_in_groups(root)])


def _free_on_machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(fields["MemAvailable"].split()[0])


def _left_in_groups(root: Path) -> list[int]:
    """What each limit leaves, of the process's own group and of all groups above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text("ascii").splitlines()
    except OSError:
        return []
    left = []
    for base, limit, field in _GROUPS:
        for name in {line.rpartition(":")[2].strip("/") for line in lines}:
            own = root / base / name
            for folder in [own, *own.parents][: len(Path(name).parts) + 1]:
                left += _left_in(folder, limit=limit, field=field)
    return left


def _left_in(folder: Path, *, limit: str, field: str) -> list[int]:
    try:
        most = int((folder / limit).read_text("ascii"))
        lines = (folder / "memory.stat").read_text("ascii").splitlines()
    except (OSError, ValueError):
        # No group of this version, or "max": without a limit.
        return []
    held = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
    return [max(0, most - held.get(field, 0))]
