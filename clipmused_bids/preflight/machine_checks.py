"""Checks of the machine: memory, cores, threads, libraries, GPU, container, home."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from clipmused_bids.dataset.files.cores import THREAD_VARIABLES, control_groups, number_in, usable_cores
from clipmused_bids.dataset.outputs.description import container_of
from clipmused_bids.errors import ClipMusedError, ExitCode
from clipmused_bids.preflight.check import Check, failed
from clipmused_bids.stages.terminal import size_text

LITTLE_MEMORY = 4e9
LIBRARIES = (
    "numpy", "scipy", "scikit-learn", "pandas", "nibabel", "nilearn", "pybids", "torch", "torchvision",
    "open-clip-torch", "safetensors", "h5py", "av", "pillow",
)  # fmt: skip


def machine_checks(environ: Mapping[str, str]) -> Iterator[Check]:
    """Look at memory, cores, threads, libraries, container and home."""
    memory, limited = memory_limit(Path("/"))
    why = "by the limit of this job or container" if limited else "of this machine"
    hint = (
        "ask the scheduler for more; --dry-run says how much a run needs" if memory < LITTLE_MEMORY else None
    )
    yield Check("memory", "warning" if hint else "ok", f"{size_text(memory)} {why}", hint)
    yield core_check(environ, cores=usable_cores(Path("/")))
    yield library_check()
    container = container_of(environ)
    inside = any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
    unnamed = "one without a name" if inside else "none"
    yield Check("container", "ok", f"{container['Type']} {container['Tag']}" if container else unnamed)
    yield home_check(environ)


def memory_limit(root: Path) -> tuple[float, bool]:
    """Bytes that this process may use, and whether a control group limits them.

    Parameters
    ----------
    root : Path
        ``/``.
    """
    total = next(
        1024.0 * int(line.split()[1])
        for line in (root / "proc" / "meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    limits = [
        number_in(folder / name)
        for folder in control_groups(root)
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    smallest = min((limit for limit in limits if limit is not None), default=total)
    return min(smallest, total), smallest < total


def core_check(environ: Mapping[str, str], *, cores: float) -> Check:
    """Whether the libraries' threads fit the cores."""
    threads = {name: environ[name] for name in THREAD_VARIABLES if environ.get(name, "").isdigit()}
    shown = ", ".join(f"{name}={value}" for name, value in threads.items()) or "no limit of threads is set"
    text = f"{cores:g} core(s); {shown}"
    if any(int(value) > max(cores, 1) for value in threads.values()):
        return Check("cores", "warning", text, f"export OMP_NUM_THREADS={max(int(cores), 1)}")
    return Check("cores", "ok", text)


def library_check() -> Check:
    """Versions of the libraries that results depend on."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            hint = "install clipmused-bids again"
            return Check("libraries", "FAIL", f"{name} is not installed", hint, ExitCode.UNEXPECTED)
    return Check("libraries", "ok", ", ".join(found))


def home_check(environ: Mapping[str, str]) -> Check:
    """Whether there is a home; nothing is kept there, but matplotlib looks for a place of its own."""
    home = environ.get("HOME", "")
    if home and os.access(home, os.W_OK):
        return Check("HOME", "ok", f"{home}, not needed")
    text = f"{home or 'not set'}: cannot be written to, and is not needed"
    if environ.get("MPLCONFIGDIR"):
        return Check("HOME", "ok", text)
    return Check(
        "HOME", "warning", f"{text}; figures are drawn faster with a cache", "export MPLCONFIGDIR=/tmp"
    )


def device_check(asked: Literal["auto", "cpu", "cuda"]) -> Check:
    """Which device a run would compute on."""
    if asked == "cpu":
        return Check("device", "ok", "cpu, as asked for")
    import torch

    from clipmused_bids.stages.invocation import choose_device

    try:
        device = choose_device(asked)
    except ClipMusedError as error:
        return failed("device", error)
    if device == "cpu":
        return Check("device", "ok", "cpu: no GPU can be used here (in Singularity --nv shows them)")
    one = torch.cuda.get_device_properties(0)
    bf16 = "with" if torch.cuda.is_bf16_supported() else "without"
    return Check("device", "ok", f"{one.name}, {size_text(one.total_memory)}, {bf16} bf16")
