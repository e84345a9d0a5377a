"""What a long stage will do, how many, and about how long it takes, before it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from clipmused_bids.dataset.images.headers import read_series_header
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.runs.names import is_nifti
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import Run
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import OPTIONS_OF_KIND, responses_are_stored
from clipmused_bids.stages.rates import response_seconds
from clipmused_bids.stages.terminal import size_text, time_text

logger = logging.getLogger(__name__)

# Options that mean nothing for some kinds of responses, and what they are called.
_OF_SOME_KINDS = {
    "lag": "--lag",
    "window": "--window",
    "hrf": "--hrf",
    "high_pass": "responses.high_pass",
}


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


def announce_unused(plan: Plan) -> None:
    """Warn of options that were given and change nothing, since the responses or the method have no use for them."""
    responses = plan.config.overrides.get("responses", {})
    own = OPTIONS_OF_KIND[plan.kind]
    unused = [name for name in _OF_SOME_KINDS if name in responses and name not in own]
    if unused:
        _say_unused(
            [_OF_SOME_KINDS[name] for name in unused], f"responses by {plan.kind} have no such setting"
        )
    if plan.kind == "betas" and plan.config.inputs.confounds not in {"default", "none"}:
        _say_unused([f"--confounds {plan.config.inputs.confounds}"], "the responses are estimated already")
    if not METHODS[plan.config.method].guided:
        given = ["--targets"] if plan.config.inputs.targets is not None else []
        given += [f"targets.{name}" for name in plan.config.overrides.get("targets", {})]
        if given:
            _say_unused(given, f"{plan.config.method} reads no features of stimuli")
    network = METHODS[plan.config.method].network
    if network is not None:
        named = {
            f"{table}.{name}"
            for table in ("model", "training")
            for name in plan.config.overrides.get(table, {})
        }
        given = [name for name in network.unread if name in named]
        if given:
            _say_unused(given, f"{plan.config.method} has no such setting")


def _say_unused(options: Sequence[str], why: str) -> None:
    logger.warning("Not used: %s; %s.", ", ".join(options), why)


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
