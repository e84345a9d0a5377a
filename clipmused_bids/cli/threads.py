"""How many threads linear algebra and torch may use; settled before they are loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from clipmused_bids.dataset.files.cores import THREAD_VARIABLES, scheduled_cores, usable_cores


def limit_threads(
    asked: int | None, environ: MutableMapping[str, str], *, root: Path = Path("/")
) -> int | None:
    """Limit the threads of this process and of those that it starts.

    Libraries choose by the cores of the machine that the process is bound to. They do not know what Slurm gave to a
    task that it does not bind, nor the quota of a container.

    Parameters
    ----------
    asked : int or None
        ``--omp-nthreads``.
    environ : mapping
        Variables are set in it; libraries read them when they are loaded.
    root : Path
        Where ``/sys`` and ``/proc`` are.

    Returns
    -------
    int or None
        The limit that was set; None where the libraries' own choice, or that of the environment, stands.
    """
    limit = asked
    if limit is None:
        if environ.get("OMP_NUM_THREADS"):
            return None
        allowed = min(usable_cores(root), scheduled_cores(environ) or float("inf"))
        if allowed >= len(os.sched_getaffinity(0)):
            return None
        limit = max(1, int(allowed))
    environ.update(dict.fromkeys(THREAD_VARIABLES, str(limit)))
    _limit_loaded(limit)
    return limit


def _limit_loaded(limit: int) -> None:
    """Tell libraries that were loaded before the command began, where it is called from Python."""
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(limit)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(limit)
