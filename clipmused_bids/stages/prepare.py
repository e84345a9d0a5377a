"""From BOLD, or existing betas, to one stored response per trial."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from clipmused_bids.config import as_tables
from clipmused_bids.dataset.betas.readers import betas_mask
from clipmused_bids.dataset.images.confounds import read_confounds
from clipmused_bids.dataset.images.masks import participant_mask
from clipmused_bids.dataset.images.series import read_bold, series_shape
from clipmused_bids.dataset.outputs.response_files import check_responses, read_responses, write_responses
from clipmused_bids.dataset.outputs.statmaps import write_statmap
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.runs.sidecars import repetition_time
from clipmused_bids.errors import CannotCreateError, DataError, MissingInputError, UsageError
from clipmused_bids.long_work import LongWork, long_work
from clipmused_bids.records import BoolArray, Grid, Run, RunResponses, Trials
from clipmused_bids.responses.estimate import estimate_responses
from clipmused_bids.stages.betas import betas_settings, responses_of_image, responses_of_manifest
from clipmused_bids.stages.budget import Portions, portions, usable_memory
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.grids import reference_grid
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.signal_maps import write_tsnr_map

logger = logging.getLogger(__name__)

# Options of ``ResponseOptions`` that each kind of response depends on.
OPTIONS_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "lss": ("hrf", "high_pass", "noise", "others"),
    "lsa": ("hrf", "high_pass", "noise"),
    "window": ("lag", "window"),
    "betas": (),
}


def prepare_responses(
    plan: Plan, tree: OutputTree, *, failures: Failures, ahead: Mapping[str, Counter[str]] | None = None
) -> None:
    """Estimate and store what is not stored yet; each run is read once.

    Parameters
    ----------
    plan : Plan
    tree : OutputTree
    failures : Failures
    ahead : mapping of str to Counter, optional
        What other processes have made of each participant a moment ago, as `make_run` counts.

    Raises
    ------
    CannotCreateError
        If responses of another configuration are stored and ``overwrite`` is off; names the difference.
    """
    made: Counter[str] = Counter()
    n_runs = sum(len(runs_with_trials(plan, participant)) for participant in plan.participants)
    with long_work("Responses", n_runs, "run", announced=True) as work:
        for participant in plan.participants:
            with failures.of_participant(participant):
                made.update(_prepare_participant(plan, tree, participant, work))
                before = (ahead or {}).get(participant, Counter())
                made.update(before)
                made["reused"] -= before["estimated"]
    logger.info(
        "Responses: %d run(s) estimated, %d reused; %d trial(s) left out.",
        made["estimated"],
        made["reused"],
        made["dropped"],
    )


def response_settings(plan: Plan, run: Run) -> dict[str, Any]:
    """Everything a run's responses depend on, as stored beside them; no path of this machine is in it."""
    options = as_tables(plan.hyperparameters.responses)
    settings = {
        "kind": plan.kind,
        **{name: options[name] for name in OPTIONS_OF_KIND[plan.kind]},
        "merge_blocks": plan.config.inputs.merge_blocks,
        "trial_types": list(plan.config.inputs.trial_types),
        "mask": mask_setting(plan, run.participant),
        "resample": plan.config.inputs.resample,
        "storage": options["storage"],
        "trials": trials_hash(plan.trials[run.key]),
    }
    if plan.hyperparameters.responses.smoothing_fwhm > 0:
        settings["smoothing_fwhm"] = float(plan.hyperparameters.responses.smoothing_fwhm)
    if plan.kind == "betas":
        settings["betas"] = betas_settings(run)
    else:
        settings["confounds"] = plan.config.inputs.confounds
        settings["times"] = {name: run.metadata.get(name) for name in ("RepetitionTime", "StartTime")}
    return settings


def trials_hash(trials: Trials) -> str:
    """SHA-256 over the trials and modelled events of a run."""
    digest = hashlib.sha256()
    for array in (trials.onset, trials.duration, trials.nuisance_onset, trials.nuisance_duration):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    for names in (trials.stimulus_id, trials.condition, trials.nuisance_kind):
        digest.update("\0".join(names).encode())
        digest.update(b"\1")
    return digest.hexdigest()


def mask_setting(plan: Plan, participant: str) -> str:
    """Which mask a participant's responses have: the content of ``--mask``, the derivative's, or computed."""
    mask = plan.config.inputs.mask
    if mask is not None:
        return mask_hash(mask)
    if plan.config.trained_mask is not None:
        return plan.config.trained_mask
    return "derivative" if any(run.mask for run in plan.runs_of(participant)) else "computed"


def mask_hash(mask: str) -> str:
    """SHA-256 of a mask file; of the pattern where each participant has a mask of his own."""
    if "{" in mask:
        return f"pattern:{Path(mask).name}"
    try:
        return f"sha256:{hashlib.sha256(Path(mask).read_bytes()).hexdigest()}"
    except OSError as error:
        raise MissingInputError(f"--mask {mask}: {error.strerror}.") from error


def _prepare_participant(plan: Plan, tree: OutputTree, participant: str, work: LongWork) -> Counter[str]:
    runs = runs_with_trials(plan, participant)
    todo = [run for run in runs if not responses_are_stored(plan, tree, run)]
    made: Counter[str] = Counter(reused=len(runs) - len(todo))
    work.skip(len(runs) - len(todo))
    if todo:
        made.update(_make(plan, tree, participant, todo, runs=runs, work=work))
    write_tsnr_map(plan, tree, participant, runs)
    if plan.config.write_betas:
        for run in runs:
            write_statmap(tree, run, read_responses(tree.responses(run, kind=plan.kind)))
    return made


def _make(
    plan: Plan,
    tree: OutputTree,
    participant: str,
    todo: Sequence[Run],
    *,
    runs: Sequence[Run],
    work: LongWork,
) -> Counter[str]:
    made: Counter[str] = Counter()
    grid, mask = estimation_space(plan, participant, runs, n_todo=len(todo))
    for run, responses in _responses(plan, todo, grid=grid, mask=mask):
        made.update(_store(plan, tree, run, responses, grid=grid, mask=mask))
        work.advance()
    return made


def estimation_space(
    plan: Plan, participant: str, runs: Sequence[Run], *, n_todo: int
) -> tuple[Grid, BoolArray]:
    """Grid and mask of a participant's responses.

    Raises
    ------
    UsageError
        If a stored decoder was trained with a mask file that is not given.
    ClipMusedError
        If masks or grids cannot be read, or differ.
    """
    trained_mask = plan.config.trained_mask or ""
    if plan.config.inputs.mask is None and trained_mask not in {"", "derivative", "computed"}:
        raise UsageError(
            f"sub-{participant}: the decoder was trained with a mask file ({trained_mask[:20]}...); "
            f"{n_todo} new run(s) need it too.",
            hint="give the same file with --mask",
        )
    if plan.config.inputs.betas is None:
        return participant_mask(runs, mask=plan.config.inputs.mask, target=reference_grid(plan))
    return betas_mask(runs, mask=plan.config.inputs.mask)


def make_run(plan: Plan, tree: OutputTree, run: Run, *, grid: Grid, mask: BoolArray) -> Counter[str]:
    """Estimate and store the responses of one run; counts runs (``estimated``) and trials left out (``dropped``)."""
    return _store(plan, tree, run, _run_responses(plan, run, grid=grid, mask=mask), grid=grid, mask=mask)


def _store(
    plan: Plan, tree: OutputTree, run: Run, responses: RunResponses, *, grid: Grid, mask: BoolArray
) -> Counter[str]:
    write_responses(
        tree,
        run,
        responses,
        plan.trials[run.key],
        grid=grid,
        voxels=np.flatnonzero(mask),
        config=response_settings(plan, run),
        precision=plan.hyperparameters.responses.storage,
    )
    return Counter(estimated=1, dropped=sum(responses.dropped.values()))


def runs_with_trials(plan: Plan, participant: str) -> list[Run]:
    """Runs of a participant that have something to estimate."""
    return [run for run in plan.runs_of(participant) if plan.trials[run.key].n_trials]


def responses_are_stored(plan: Plan, tree: OutputTree, run: Run) -> bool:
    """Whether a run's responses need not be estimated.

    Raises
    ------
    CannotCreateError
        If those of another configuration are stored and ``overwrite`` is off; names the difference.
    """
    try:
        return check_responses(tree, run, kind=plan.kind, config=response_settings(plan, run)) == "current"
    except CannotCreateError:
        if plan.config.overwrite:
            return False
        raise


def size_of_run(plan: Plan, run: Run, mask: BoolArray) -> dict[str, Any]:
    """What a run's memory depends on, as `stages.budget.portions` takes it."""
    n_scans, n_voxels = series_shape(run, mask)
    return {
        "n_scans": n_scans,
        "n_voxels": n_voxels,
        "n_grid": mask.size,
        "n_trials": plan.trials[run.key].n_trials,
        "keep": plan.kind == "betas",
    }


def _portions(plan: Plan, run: Run, mask: BoolArray) -> Portions:
    usable = usable_memory(plan.config.memory)
    return portions(usable, **size_of_run(plan, run, mask), label=run.label)


def _responses(
    plan: Plan, runs: Sequence[Run], *, grid: Grid, mask: BoolArray
) -> Iterator[tuple[Run, RunResponses]]:
    if plan.config.inputs.betas is not None:
        yield from responses_of_manifest(runs, grid=grid, mask=mask)
        return
    for run in runs:
        yield run, _run_responses(plan, run, grid=grid, mask=mask)


def _run_responses(plan: Plan, run: Run, *, grid: Grid, mask: BoolArray) -> RunResponses:
    # The last bits of a product may depend on the number of threads; reading takes most of the time anyway.
    with threadpool_limits(1):
        return _estimated(plan, run, grid=grid, mask=mask)


def _estimated(plan: Plan, run: Run, *, grid: Grid, mask: BoolArray) -> RunResponses:
    trials = plan.trials[run.key]
    how = _portions(plan, run, mask)
    series = read_bold(
        run,
        mask,
        grid,
        other_grid="resample" if plan.config.inputs.resample else "refuse",
        smoothing_fwhm=plan.hyperparameters.responses.smoothing_fwhm,
        in_memory=how.in_memory,
        work_dir=plan.config.work_dir,
    )
    if plan.kind == "betas":
        return responses_of_image(run, series, trials)
    try:
        confounds = read_confounds(run, strategy=plan.config.inputs.confounds, n_scans=len(series.values))
        return estimate_responses(
            series.values,
            valid=series.valid,
            trials=trials,
            options=plan.hyperparameters.responses,
            kind=plan.kind,
            repetition_time=repetition_time(run, series.repetition_time),
            start_time=float(run.metadata.get("StartTime") or 0.0),
            confounds=confounds.matrix,
            confound_names=confounds.names,
            has_cosines=confounds.has_cosines,
            sample_mask=confounds.sample_mask,
            voxel_block=how.voxel_block,
        )
    except DataError as error:
        name = run.image.name if run.image else "no image"
        raise type(error)(f"{run.label} ({name}): {error.args[0]}", hint=error.hint) from error
