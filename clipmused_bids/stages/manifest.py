"""A manifest of existing responses in the place of images and events: what it offers, and what of it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from clipmused_bids.config import Config, InputOptions
from clipmused_bids.dataset.betas.manifest import Manifest, read_manifest
from clipmused_bids.dataset.files.contents import require_contents
from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.dataset.runs.names import natural_key
from clipmused_bids.dataset.runs.participants import choose_participants, list_participants, nearest
from clipmused_bids.dataset.runs.spaces import choose_space, space_of
from clipmused_bids.errors import DataError, SelectionError, UsageError
from clipmused_bids.records import Run, Trials
from clipmused_bids.stages.failures import Failures

logger = logging.getLogger(__name__)

# Options that say how images and events are found and read, which a manifest replaces.
REPLACED = (
    "derivatives", "stimulus_column", "trial_types", "merge_blocks", "movie", "frame_interval", "confounds",
    "resample",
)  # fmt: skip
_FLAGS = {"trial_types": "--trial-type"}


@dataclass(frozen=True)
class FoundRuns:
    """What there is for a request.

    Parameters
    ----------
    participants : tuple of str
        Those asked for.
    derivatives : tuple of Derivative
        Folders that BIDS URIs are told from; for a manifest that of the files (``betas``) and its own.
    runs, event_runs : tuple of Run
        Of the participants asked for; of all.
    trials : mapping of str to Trials
    movies : mapping of str to Path
        File of each movie that was found, by its name.
    """

    participants: tuple[str, ...]
    derivatives: tuple[Derivative, ...]
    runs: tuple[Run, ...]
    event_runs: tuple[Run, ...]
    trials: Mapping[str, Trials]
    movies: Mapping[str, Path] = field(default_factory=dict)


def find_betas(config: Config, manifest: Path, *, failures: Failures) -> FoundRuns:
    """Read a manifest and choose what is asked for; opens none of its files.

    Raises
    ------
    UsageError
        If options ask for other responses, or say how images or events are read.
    SelectionError
        If a participant, session, task, run or space is not in the manifest.
    MissingInputError
        If BIDS_DIR, the manifest, or files of all participants are not there.
    DataError
        If the manifest cannot be read, or names no stimuli.
    """
    _refuse_replaced(config)
    list_participants(config.bids_dir)
    decode = config.actions == ("decode",)
    found = read_manifest(manifest, task=_task(config), decode=decode)
    everyone = tuple(sorted({run.participant for run in found.runs}, key=natural_key))
    asked = choose_participants(
        everyone,
        wanted=config.selection.participants,
        excluded=config.selection.exclude_participants,
    )
    event_runs = _chosen(found, config)
    runs = _in_one_space(
        [run for run in event_runs if run.participant in asked], wanted=config.selection.space
    )
    _require_names(found, runs)
    for participant in asked:
        with failures.of_participant(participant):
            require_contents(
                rows.path for run in runs if run.participant == participant for rows in run.betas
            )
    participants = failures.without_failed(asked)
    runs = [run for run in runs if run.participant in participants]
    _say(found, runs)
    return FoundRuns(
        participants=participants,
        derivatives=(
            Derivative("betas", found.root, described=False),
            Derivative("manifest", manifest.parent, described=False),
        ),
        runs=tuple(runs),
        event_runs=tuple(runs if decode else event_runs),
        trials=found.trials,
    )


def _refuse_replaced(config: Config) -> None:
    kind = config.hyperparameters().responses.kind
    if kind not in {"auto", "betas"}:
        raise UsageError(
            f"--betas with --response {kind}: a manifest names responses that are estimated already.",
            hint="leave --response out, or --betas",
        )
    default = InputOptions()
    given = [
        _FLAGS.get(option.name, f"--{option.name.replace('_', '-')}")
        for option in fields(InputOptions)
        if option.name in REPLACED and getattr(config.inputs, option.name) != getattr(default, option.name)
    ]
    given += ["--bids-filter-file"] if config.selection.filter_file is not None else []
    given += ["--smoothing-fwhm"] if config.hyperparameters().responses.smoothing_fwhm else []
    if given:
        raise UsageError(
            f"--betas with {', '.join(given)}: the manifest takes the place of images and events.",
            hint=f"leave {' and '.join(given)} out",
        )


def _task(config: Config) -> str | None:
    tasks = config.selection.tasks
    return tasks[0] if len(tasks) == 1 else None


def _chosen(manifest: Manifest, config: Config) -> list[Run]:
    selection = config.selection
    runs = list(manifest.runs)
    runs = _select(runs, lambda run: run.session, selection.sessions, "--session-id")
    runs = _select(runs, lambda run: run.task, selection.tasks, "--task-id")
    runs = _select(runs, _run_label, tuple(str(index) for index in selection.runs), "--run-id")
    tasks = sorted({run.task for run in runs}, key=natural_key)
    if len(tasks) > 1 and not selection.tasks:
        raise UsageError(
            f"Several tasks: {', '.join(tasks)}.", hint=f"choose with -t, for example -t {tasks[0]}"
        )
    return runs


def _select(
    runs: Sequence[Run], label: Callable[[Run], str | None], wanted: Sequence[str], flag: str
) -> list[Run]:
    existing = tuple(sorted({label(run) or "" for run in runs} - {""}, key=natural_key))
    unknown = [text for text in wanted if text not in existing]
    if unknown:
        near = [match for text in unknown for match in nearest(text, existing)] or list(existing[:3])
        raise SelectionError(
            f"{flag} {' '.join(unknown)}: not in the manifest; there are {', '.join(existing) or 'none'}.",
            hint=f"{flag} {' '.join(near)}" if near else f"leave {flag} out",
        )
    return [run for run in runs if not wanted or label(run) in wanted]


def _run_label(run: Run) -> str | None:
    return None if run.run is None else str(run.run)


def _in_one_space(runs: Sequence[Run], *, wanted: str | None) -> list[Run]:
    if not runs:
        raise SelectionError("The manifest has no run of these participants, sessions, tasks and runs.")
    chosen = choose_space([{space_of(run.entities)} for run in runs], wanted=wanted)
    kept = [run for run in runs if space_of(run.entities) == chosen]
    if len(kept) < len(runs):
        logger.warning("%d runs of the manifest are in other spaces than %s.", len(runs) - len(kept), chosen)
    return kept


def _require_names(manifest: Manifest, runs: Sequence[Run]) -> None:
    if any(manifest.trials[run.key].n_trials for run in runs):
        return
    raise DataError(
        f"{manifest.path}: no row names a stimulus.",
        hint="columns stimulus_id, or trial_type where only categories are known; --decode alone needs neither",
    )


def _say(manifest: Manifest, runs: Sequence[Run]) -> None:
    n_files = len({rows.path for run in runs for rows in run.betas})
    untimed = sum(bool(manifest.trials[run.key].notes) for run in runs)
    logger.info(
        "Manifest: %d rows, %d of them asked for, in %d file(s)%s.",
        manifest.n_rows,
        sum(manifest.trials[run.key].n_rows for run in runs),
        n_files,
        f"; {untimed} run(s) have no onsets: their trials are numbered in its order" if untimed else "",
    )
