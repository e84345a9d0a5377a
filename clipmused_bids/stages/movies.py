"""Runs that show movies: their events become samples; runs without events, one trial for each volume."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipmused_bids.config import InputOptions, hdf5_place
from clipmused_bids.dataset.events.stimulus_columns import looks_like_movie
from clipmused_bids.dataset.movies.frames import movie_length
from clipmused_bids.dataset.movies.logs import LOG_COLUMNS, is_log, movie_of_run
from clipmused_bids.dataset.movies.samples import may_show_movies, sampled, shows_movies
from clipmused_bids.dataset.runs.run_headers import volume_times
from clipmused_bids.dataset.stimuli.catalogue import read_stimuli_table
from clipmused_bids.dataset.stimuli.finding import resolve_stimuli
from clipmused_bids.errors import ClipMusedError, DataError, UsageError
from clipmused_bids.records import Run, Trials
from clipmused_bids.stages.failures import Failures

logger = logging.getLogger(__name__)

SHORTEST_INTERVAL = 1.0  # s


@dataclass(frozen=True)
class Movies:
    """Movies of a dataset.

    Parameters
    ----------
    path : mapping of str to Path
        File of each movie that was found, by the name that samples have.
    length : mapping of str to float
        Length of each, in s, where its header tells.
    """

    path: Mapping[str, Path]
    length: Mapping[str, float]


def sample_movies(
    trials: dict[str, Trials],
    runs: Sequence[Run],
    *,
    bids_dir: Path,
    inputs: InputOptions,
    selected: set[str],
    failures: Failures,
) -> tuple[dict[str, Trials], Movies]:
    """Replace events of movies by samples, in every run; other runs stay as they are.

    Parameters
    ----------
    trials : dict of str to Trials
        Events as read, by ``Run.key``.
    runs : sequence of Run
        Runs of these trials; those without events are ignored.
    bids_dir : Path
    inputs : InputOptions
        ``movie``, ``frame_interval`` and the folders of stimuli.
    selected : set of str
        Keys of the runs whose failure is the failure of a participant; others are only left out.
    failures : Failures

    Raises
    ------
    UsageError
        If ``--movie`` names a movie and no events log one; if ``--frame-interval`` is given and none show one.
    DataError
        If some runs show movies and others clips or pictures.
    """
    here = [run for run in runs if run.key in trials and run.events is not None]
    logs = {run.key for run in here if is_log(trials[run.key])}
    if inputs.movie is not None and here and not logs:
        raise UsageError(
            f"--movie {inputs.movie}: no events of this request log movie times.",
            hint=f"logs have a column {' or '.join(LOG_COLUMNS)}; other events name their movies in stim_file",
        )
    movies = _find_movies(trials, here, logs, bids_dir=bids_dir, inputs=inputs)
    interval = inputs.frame_interval or _default_interval(here)
    made = dict(trials)
    for run in here:
        try:
            if shows_movies(trials[run.key], forced=inputs.frame_interval is not None, lengths=movies.length):
                made[run.key] = sampled(trials[run.key], interval=interval, lengths=movies.length)
        except ClipMusedError as error:
            del made[run.key]
            _note(type(error)(f"{run.label}: {error.args[0]}", hint=error.hint), run, selected, failures)
    if inputs.frame_interval is not None and here and not samples_of(made) and not failures.seen:
        raise UsageError(
            f"--frame-interval {inputs.frame_interval:g}: no events of this request show movies.",
            hint="leave it out; events name movies in stim_file (.mp4, ...), or log their times",
        )
    _require_one_kind(made, here)
    _say(made, movies, interval)
    return made, movies


def samples_of(trials: Mapping[str, Trials]) -> dict[str, tuple[str, float]]:
    """Movie and time in s of every sample, by its name; empty where no run shows movies."""
    found: dict[str, tuple[str, float]] = {}
    for run in trials.values():
        if run.movie is not None and run.movie_seconds is not None:
            found |= zip(
                run.stimulus_id, zip(run.movie, run.movie_seconds.tolist(), strict=True), strict=True
            )
    return found


def volume_trials(run: Run, *, lag: float) -> Trials:
    """One trial for each volume of a run without events, ``lag`` s before it; of nothing that is known.

    Raises
    ------
    DataError
        If the run has no 4-D image, or nothing says how far apart its volumes are.
    """
    times, interval = volume_times(run)
    nothing = np.empty(0)
    n = len(times)
    return Trials(
        onset=times - lag,
        duration=np.full(n, interval),
        stimulus_id=("",) * n,
        condition=("",) * n,
        columns={},
        nuisance_onset=nothing,
        nuisance_duration=nothing,
        nuisance_kind=(),
        n_rows=0,
        n_rows_in_trials=0,
        excluded={},
        notes=("no events; one trial for each volume",),
    )


def _default_interval(runs: Sequence[Run]) -> float:
    """1 s, or the longest TR of the dataset: one interval for all, so that participants share samples."""
    stated = [run.metadata.get("RepetitionTime") for run in runs]
    return max([SHORTEST_INTERVAL, *(float(tr) for tr in stated if isinstance(tr, int | float))])


def _find_movies(
    trials: Mapping[str, Trials],
    runs: Sequence[Run],
    logs: set[str],
    *,
    bids_dir: Path,
    inputs: InputOptions,
) -> Movies:
    # What samples are called, and what the file is looked for by.
    wanted = {
        name: name
        for run in runs
        if run.key not in logs and may_show_movies(trials[run.key], forced=inputs.frame_interval is not None)
        for name in set(trials[run.key].stimulus_id)
        if looks_like_movie(name)
    }
    path: dict[str, Path] = {}
    for text in {movie_of_run(inputs.movie, run) for run in runs if inputs.movie and run.key in logs}:
        if Path(text).exists():
            path[Path(text).name] = Path(text)
        else:
            wanted[Path(text).name] = text
    if wanted:
        resolved = resolve_stimuli(
            sorted(set(wanted.values())),
            bids_dir=bids_dir,
            # Banks hold single pictures.
            stimuli_dirs=[place for place in inputs.stimuli_dirs if hdf5_place(place) is None],
            table=read_stimuli_table(bids_dir, stimulus_map=inputs.stimulus_map),
        )
        files = dict(zip(resolved.names, resolved.picture, strict=True))
        path |= {name: file.path for name, text in wanted.items() if (file := files[text]) is not None}
    return Movies(path, _lengths(path))


def _lengths(paths: Mapping[str, Path]) -> dict[str, float]:
    lengths = {}
    for name, path in paths.items():
        try:
            lengths[name] = movie_length(path)
        except ClipMusedError as error:
            logger.warning("%s", error)
    return lengths


def _note(error: ClipMusedError, run: Run, selected: set[str], failures: Failures) -> None:
    if run.key in selected:
        with failures.of_participant(run.participant):
            raise error
    logger.warning("left out of the split: %s", error)


def _require_one_kind(trials: Mapping[str, Trials], runs: Sequence[Run]) -> None:
    runs = [run for run in runs if run.key in trials and trials[run.key].n_trials]
    movies = [run for run in runs if trials[run.key].continuous]
    others = [run for run in runs if not trials[run.key].continuous]
    if movies and others:
        raise DataError(
            f"{len(movies)} run(s) show movies ({movies[0].label}) and {len(others)} single clips or pictures "
            f"({others[0].label}); their responses are not of one kind.",
            hint="choose runs with -t or --run-id; or --frame-interval SECONDS, which samples clips too",
        )


def _say(trials: Mapping[str, Trials], movies: Movies, interval: float) -> None:
    samples = samples_of(trials)
    if not samples:
        return
    names = sorted({movie for movie, _ in samples.values()})
    missing = [name for name in names if name not in movies.path]
    logger.info(
        "Movies: %d samples of %d movie(s), one each %g s of the movie.", len(samples), len(names), interval
    )
    if missing:
        logger.warning(
            "%d of %d movie files not found (%s%s): their samples have no pictures.",
            len(missing), len(names), ", ".join(missing[:5]), ", ..." if len(missing) > 5 else "",
        )  # fmt: skip
