"""Hidden files that killed processes left behind in the output tree."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

from clipmused_bids.dataset.files.atomic import SUFFIX

logger = logging.getLogger(__name__)

# A process number says nothing on another node or in a container, so age decides: a file is written in one go, and
# every part that arrives makes it young again. A live writer whose file is taken away all the same writes it again.
OLD_AFTER = 3600.0


def remove_leftovers(folders: Iterable[Path], *, older_than: float = OLD_AFTER, below: bool = True) -> int:
    """Remove hidden neighbours of unfinished writes, in folders and those below.

    Parameters
    ----------
    folders : iterable of Path
        Those that do not exist are passed over.
    older_than : float
        Seconds since the last byte was written.
    below : bool
        Whether folders below are looked at.

    Returns
    -------
    int
        How many were removed. One that cannot be removed stays: it is in nobody's way.
    """
    removed = 0
    for folder in folders:
        for place, deeper, names in os.walk(folder):
            if not below:
                deeper.clear()
            for name in names:
                if name.startswith(".") and name.endswith(SUFFIX):
                    removed += _remove_old(Path(place) / name, older_than=older_than)
    if removed:
        logger.info("%d unfinished file(s) of processes that were killed are removed.", removed)
    return removed


def _remove_old(path: Path, *, older_than: float) -> bool:
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > older_than:
            path.unlink()
            return True
    return False
