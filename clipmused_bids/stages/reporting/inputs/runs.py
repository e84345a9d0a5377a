"""Facts of the runs of one participant: sizes by their headers, confounds by their tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from clipmused_bids.dataset.images.confounds import read_confounds
from clipmused_bids.dataset.images.headers import read_series_header
from clipmused_bids.dataset.images.motion import framewise_displacement
from clipmused_bids.dataset.runs.run_headers import volume_times
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Run
from clipmused_bids.report.inputs.runs import Displacement, RunFacts, displacement_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.reporting.inputs.stored import StoredRun

_GROUPS = {
    "motion": ("trans_", "rot_"),
    "tissue": ("csf", "white_matter", "global_signal"),
    "CompCor": ("a_comp_cor", "t_comp_cor", "c_comp_cor", "w_comp_cor"),
    "drift": ("cosine",),
}


def run_facts(plan: Plan, runs: Sequence[StoredRun]) -> list[RunFacts]:
    """What is known of each run; an image or table that cannot be read leaves its cells open."""
    return [_facts(plan, one) for one in runs]


def _facts(plan: Plan, stored: StoredRun) -> RunFacts:
    run = stored.run
    n_volumes, seconds = _size(run)
    words, n_unused = _confounds(plan, run, n_volumes)
    return RunFacts(
        session=run.session or "",
        task=run.task,
        run="" if run.run is None else str(run.run),
        n_volumes=n_volumes,
        n_unused=n_unused,
        repetition_time=seconds,
        n_trials=stored.n_trials,
        n_dropped=None if stored.responses is None else stored.dropped.total(),
        kind=plan.kind,
        confounds=words,
        displacement=_displacement(run),
    )


def _size(run: Run) -> tuple[int | None, float | None]:
    try:
        if run.image is None:
            return None, None
        if run.image_kind == "betas":
            # Volumes are responses; they have no time.
            return read_series_header(run.image).n_scans, None
        times, seconds = volume_times(run)
        return len(times), seconds
    except ClipMusedError:
        return None, None


def _confounds(plan: Plan, run: Run, n_volumes: int | None) -> tuple[str, int]:
    """Confounds that the responses were estimated with, in words, and how many volumes they leave out."""
    if plan.kind == "betas":
        return "none here: responses were given", 0
    if n_volumes is None:
        return "–", 0
    try:
        found = read_confounds(run, strategy=plan.config.inputs.confounds, n_scans=n_volumes)
    except ClipMusedError as error:
        return f"unreadable: {str(error.args[0]).rpartition('/')[2]}", 0
    names = [name for name in found.names if plan.kind != "window" or not name.startswith("cosine")]
    unused = n_volumes - len(found.sample_mask)
    if not names:
        return f"none: {'as asked for' if plan.config.inputs.confounds == 'none' else found.source}", unused
    counts = Counter(_group(name) for name in names)
    parts = [f"{counts[group]} {group}" for group in (*_GROUPS, "other") if counts[group]]
    # In one line: a table is wider than a phone anyway.
    return f"{len(names)}: {', '.join(parts)}".replace(" ", "\u00a0"), unused


def _group(name: str) -> str:
    return next((group for group, starts in _GROUPS.items() if name.startswith(starts)), "other")


def _displacement(run: Run) -> Displacement | None:
    if run.confounds is None:
        return None
    try:
        values = framewise_displacement(run.confounds)
    except ClipMusedError:
        return None
    return None if values is None else displacement_of(values)
