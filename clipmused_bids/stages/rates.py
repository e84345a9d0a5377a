"""Rates of the long stages, measured once: how long they take, roughly."""

from __future__ import annotations

import os

GB = 1e9
SECONDS_PER_GB = 25.0  # unpacking gzip, estimating and writing, per GB of unpacked image
SECONDS_PER_RUN = 0.1
CPU_FLOPS = 5e10  # of one core; a batch of images or trials
GPU_FLOPS = 1e13  # of one GPU; not measured, what vendors state for float32 and less
PICTURE_SECONDS = 0.005  # opening and scaling a picture


def response_seconds(n_runs: int, n_bytes: float) -> float:
    """Seconds to estimate the responses of runs whose images hold these bytes, unpacked."""
    return SECONDS_PER_GB * n_bytes / GB + SECONDS_PER_RUN * n_runs


def picture_seconds(flops: float, *, device: str) -> float:
    """Seconds that CLIP takes for one picture of these operations."""
    rate = CPU_FLOPS * usable_cores() if device == "cpu" else GPU_FLOPS
    return flops / rate + PICTURE_SECONDS


def usable_cores() -> int:
    """Cores that this process may use, and its libraries as ``OMP_NUM_THREADS`` says."""
    allowed = len(os.sched_getaffinity(0))
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, int(threads)) if threads.isdigit() and int(threads) else allowed
