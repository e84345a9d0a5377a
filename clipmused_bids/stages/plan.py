"""What there is to do: participants, runs, trials, stimuli and labels, before any image is opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clipmused_bids.config import Config, Hyperparameters, ResponseKind
from clipmused_bids.dataset.events.reading import read_events
from clipmused_bids.dataset.images.series import run_seconds
from clipmused_bids.dataset.movies.logs import read_frame_log
from clipmused_bids.dataset.runs.derivatives import Derivative, find_derivatives
from clipmused_bids.dataset.runs.filters import read_filters
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.participants import (
    list_participants,
    participants_in_table,
    select_participants,
)
from clipmused_bids.dataset.runs.spaces import is_common_space
from clipmused_bids.errors import (
    ClipMusedError,
    DataError,
    DatasetError,
    MissingInputError,
    SelectionError,
    UsageError,
)
from clipmused_bids.records import Run, Trials
from clipmused_bids.responses.estimate import check_options, choose_kind, default_lag
from clipmused_bids.stages.betas import with_trial_table
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.manifest import FoundRuns, find_betas
from clipmused_bids.stages.movies import sample_movies, volume_trials

logger = logging.getLogger(__name__)

# Above this many trials a preset of the paper's size has the data it needs.
SMALL_PRESET_TRIALS = 5000


@dataclass(frozen=True)
class Plan:
    """One invocation's dataset.

    Parameters
    ----------
    config : Config
    participants : tuple of str
        Those asked for, without the failed ones.
    derivatives : tuple of Derivative
    runs : tuple of Run
        Runs of these participants that have an image.
    trials : mapping of str to Trials
        Events of every run in ``event_runs``, by ``Run.key``.
    event_runs : tuple of Run
        Where something is trained or evaluated: every run of every participant that has events, since splits are made
        from all of them. Else ``runs``.
    kind : {"lss", "lsa", "window", "betas"}
        How responses are made.
    common_space : bool
    hyperparameters : Hyperparameters
    preset : str
    movies : mapping of str to Path
        Movie files of the samples, by the name of the movie.
    """

    config: Config
    participants: tuple[str, ...]
    derivatives: tuple[Derivative, ...]
    runs: tuple[Run, ...]
    trials: Mapping[str, Trials]
    event_runs: tuple[Run, ...]
    kind: Literal["lss", "lsa", "window", "betas"]
    common_space: bool
    hyperparameters: Hyperparameters
    preset: str
    movies: Mapping[str, Path] = field(default_factory=dict)

    def runs_of(self, participant: str) -> tuple[Run, ...]:
        """Runs of one participant, in order."""
        return tuple(run for run in self.runs if run.participant == participant)

    def listed_but_absent(self) -> tuple[str, ...]:
        """Participants of ``participants.tsv`` that have no folder; a manifest of responses names everyone itself."""
        if self.config.inputs.betas is not None:
            return ()
        present = set(list_participants(self.config.bids_dir))
        return tuple(p for p in participants_in_table(self.config.bids_dir) if p not in present)

    def without(self, failed: Failures) -> Plan:
        """Return the plan without the participants that failed."""
        participants = failed.without_failed(self.participants)
        runs = tuple(run for run in self.runs if run.participant in participants)
        return replace(self, participants=participants, runs=runs)


def make_plan(config: Config, *, failures: Failures) -> Plan:
    """Find what was asked for and read its events, or everyone's where a split is needed; opens no image.

    Raises
    ------
    ClipMusedError
        If nothing is left to do: no such participant, no derivative, no events, no trials.
    """
    found = _found(config, failures=failures)
    runs, trials = found.runs, found.trials
    hyperparameters = config.hyperparameters()
    kind = _response_kind(runs, trials, wanted=hyperparameters.responses.kind)
    if config.write_betas and kind == "betas":
        raise UsageError(
            "--write-betas: these responses are not estimated here, they exist already.",
            hint="leave --write-betas out",
        )
    n_trials = sum(trials[run.key].n_trials for run in found.event_runs if run.key in trials)
    preset = config.preset or ("small" if n_trials < SMALL_PRESET_TRIALS else "nsd")
    _require_uncalibrated_trials(config, config.hyperparameters(default_preset=preset))
    return Plan(
        config=config,
        participants=tuple(p for p in found.participants if any(run.participant == p for run in runs)),
        derivatives=found.derivatives,
        runs=runs,
        trials=trials,
        event_runs=tuple(run for run in found.event_runs if run.key in trials),
        kind=kind,
        common_space=_in_common_space(config, runs),
        hyperparameters=_settled(
            config.hyperparameters(default_preset=preset), kind=kind, trials=trials[runs[0].key]
        ),
        preset=preset,
        movies=found.movies,
    )


def _found(config: Config, *, failures: Failures) -> FoundRuns:
    """Runs with their trials: from a manifest of responses if there is one, else from images and events."""
    if config.inputs.betas is not None:
        return find_betas(config, Path(config.inputs.betas), failures=failures)
    asked = select_participants(
        config.bids_dir,
        wanted=config.selection.participants,
        excluded=config.selection.exclude_participants,
    )
    read_filters(config.selection.filter_file)  # one error for everyone, if it cannot be read
    wanted_kind = config.hyperparameters().responses.kind
    image_kind: Literal["auto", "bold", "betas"] = (
        "auto" if wanted_kind == "auto" else "betas" if wanted_kind == "betas" else "bold"
    )
    derivatives = find_derivatives(
        config.bids_dir,
        config.inputs.derivatives,
        participants=asked,
        image_kind=None if image_kind == "auto" else image_kind,
    )
    runs = _runs_with_images(config, asked, derivatives, image_kind=image_kind, failures=failures)
    runs = tuple(with_trial_table(run) for run in runs)
    event_runs = runs
    if {"train", "evaluate"} & set(config.actions):
        event_runs = _all_runs_with_events(config, tasks=tuple({run.task for run in runs}), known=runs)
    selected = {run.key for run in runs}
    trials = _read_all_events(config, event_runs, selected=selected, failures=failures)
    trials, movies = sample_movies(
        trials,
        event_runs,
        bids_dir=config.bids_dir,
        inputs=config.inputs,
        selected=selected,
        failures=failures,
    )
    participants = failures.without_failed(asked)
    runs = tuple(run for run in runs if run.participant in participants and run.key in trials)
    _require_trials(runs, trials)
    return FoundRuns(participants, derivatives, runs, event_runs, trials, movies.path)


def _runs_with_images(
    config: Config,
    asked: tuple[str, ...],
    derivatives: tuple[Derivative, ...],
    *,
    image_kind: Literal["auto", "bold", "betas"],
    failures: Failures,
) -> tuple[Run, ...]:
    """Find everyone's runs at once; where that fails, one by one, so that one participant does not stop the others."""

    def found(participants: tuple[str, ...]) -> tuple[Run, ...]:
        return find_runs(
            config.bids_dir,
            derivatives=derivatives,
            selection=config.selection,
            participants=participants,
            image_kind=image_kind,
            need_events=not _decodes_volumes(config),
        )

    try:
        return found(asked)
    except (DataError, MissingInputError):
        if len(asked) == 1:
            raise
    runs: list[Run] = []
    for participant in asked:
        with failures.of_participant(participant):
            runs += found((participant,))
    failures.without_failed(asked)
    return tuple(runs)


def _decodes_volumes(config: Config) -> bool:
    """Whether runs without events can be decoded: volume by volume, with a decoder of windows."""
    return config.actions == ("decode",) and config.hyperparameters().responses.kind == "window"


def _all_runs_with_events(
    config: Config, *, tasks: tuple[str, ...], known: tuple[Run, ...]
) -> tuple[Run, ...]:
    """Runs of all participants, whoever was asked for: the split must not depend on who asks."""
    everyone = list_participants(config.bids_dir)
    others = tuple(p for p in everyone if not any(run.participant == p for run in known))
    if not others:
        return known
    selection = replace(config.selection, tasks=tasks, participants=(), exclude_participants=(), space=None)

    def found(participants: tuple[str, ...]) -> tuple[Run, ...]:
        try:
            return find_runs(
                config.bids_dir,
                derivatives=(),
                selection=selection,
                participants=participants,
                image_kind=known[0].image_kind if known else "bold",
                need_events=True,
                need_images=False,
            )
        except (DatasetError, SelectionError):
            return ()
        except (DataError, MissingInputError) as error:
            if len(participants) > 1:
                return tuple(run for one in participants for run in found((one,)))
            logger.warning("sub-%s: left out of the split: %s", participants[0], error)
            return ()

    return tuple(sorted((*known, *found(others)), key=lambda run: everyone.index(run.participant)))


def _read_all_events(
    config: Config, runs: tuple[Run, ...], *, selected: set[str], failures: Failures
) -> dict[str, Trials]:
    trials: dict[str, Trials] = {}
    for run in runs:
        try:
            trials[run.key] = _read_run(config, run)
        except ClipMusedError as error:
            if run.key in selected:
                with failures.of_participant(run.participant):
                    raise
            else:
                logger.warning("%s: left out of the split: %s", run.label, error)
    return trials


def _read_run(config: Config, run: Run) -> Trials:
    """Read the events as for training; where they name nothing and nothing is trained, every trial is to be decoded."""
    if run.events is None and _decodes_volumes(config):
        logger.info("%s: no events; every volume is decoded.", run.label)
        return volume_trials(run, lag=config.hyperparameters().responses.lag or 0.0)
    seconds = run_seconds(run)
    log = read_frame_log(
        run,
        movie=config.inputs.movie,
        stimulus_column=config.inputs.stimulus_column,
        run_seconds=seconds,
    )
    if log is not None:
        return log

    def read(*, decode: bool) -> Trials:
        return read_events(
            run,
            trial_types=config.inputs.trial_types,
            stimulus_column=config.inputs.stimulus_column,
            merge_blocks=config.inputs.merge_blocks,
            decode=decode,
            run_seconds=seconds,
        )

    try:
        return read(decode=False)
    except (DataError, UsageError):
        if config.actions != ("decode",):
            raise
    return read(decode=True)


def _require_trials(runs: tuple[Run, ...], trials: Mapping[str, Trials]) -> None:
    if any(trials[run.key].n_trials for run in runs):
        return
    reasons: Counter[str] = Counter()
    for run in runs:
        reasons.update(trials[run.key].excluded)
        reasons.update(trials[run.key].nuisance_kind)
    seen = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5)) or "no rows"
    raise DatasetError(
        f"{len(runs)} run(s), no trials in their events; rows found: {seen}.",
        hint="name the conditions that are trials with --trial-type, or the column with --stimulus-column",
    )


def _response_kind(
    runs: tuple[Run, ...], trials: Mapping[str, Trials], *, wanted: ResponseKind
) -> Literal["lss", "lsa", "window", "betas"]:
    """One kind for all runs; their trials decide where none was asked for."""
    if wanted != "auto":
        return wanted
    kind, why = choose_kind([trials[run.key] for run in runs], runs[0].image_kind)
    logger.info("Responses: %s (%s).", kind, why)
    return kind


def _settled(
    hyperparameters: Hyperparameters, *, kind: Literal["lss", "lsa", "window", "betas"], trials: Trials
) -> Hyperparameters:
    """Settle the lag where none was asked for, so that what is stored says it; refuse what the kind has not."""
    responses = hyperparameters.responses
    check_options(kind, responses)
    lag = default_lag(trials) if responses.lag is None else responses.lag
    return replace(hyperparameters, responses=replace(responses, lag=lag))


def _require_uncalibrated_trials(config: Config, hyperparameters: Hyperparameters) -> None:
    """A decoder is too sure of the trials it was fitted to: they cannot say how sure it should be."""
    wanted = "evaluate" in config.actions and hyperparameters.evaluation.calibrate
    if wanted and hyperparameters.fit_on != "train":
        raise UsageError(
            "evaluation.calibrate: validation trials calibrate, and decoders are fitted to them "
            f'(fit_on = "{hyperparameters.fit_on}").',
            hint='fit_on = "train" in --config-file',
        )


def _in_common_space(config: Config, runs: tuple[Run, ...]) -> bool:
    if config.inputs.common_space is not None:
        return config.inputs.common_space
    return all(is_common_space(run.space) for run in runs)
