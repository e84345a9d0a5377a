"""What a long stage will do, how many, and about how long it takes, before it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from clipmused_bids.dataset.headers import read_series_header
from clipmused_bids.dataset.names import is_nifti
from clipmused_bids.dataset.outputs import OutputTree
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Run
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import responses_are_stored
from clipmused_bids.stages.rates import response_seconds
from clipmused_bids.stages.terminal import size_text, time_text

logger = logging.getLogger(__name__)


def announce_responses(plan: Plan, tree: OutputTree) -> None:
    """Say how many runs will be estimated.

    Raises
    ------
    CannotCreateError
        If responses of another configuration are stored and ``overwrite`` is off.
    """
    runs = [run for run in plan.runs if plan.trials[run.key].n_trials]
    todo = [run for run in runs if not responses_are_stored(plan, tree, run)]
    if not todo:
        return
    n_bytes = bytes_of_files(todo)
    logger.info(
        "Responses: %d run(s) of %d participant(s) to estimate by %s, %d stored already; %s of images, about %s.",
        len(todo), len({run.participant for run in todo}), plan.kind, len(runs) - len(todo), size_text(n_bytes),
        time_text(response_seconds(len(todo), n_bytes)),
    )  # fmt: skip


def bytes_of_files(runs: Sequence[Run]) -> int:
    """Unpacked bytes of the files that runs are read from, each file once."""
    files = {rows.path for run in runs for rows in run.betas} | {run.image for run in runs if run.image}
    return sum(_unpacked(path) for path in files)


def _unpacked(path: Path) -> int:
    """Unpacked bytes of an image, or the size of a file of arrays; 0 where its reader will say what is wrong."""
    try:
        return read_series_header(path).n_bytes if is_nifti(path.name) else path.stat().st_size
    except (ClipMusedError, OSError):
        return 0
