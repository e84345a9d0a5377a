"""Events that log which movie time was on screen, frame by frame or clip by clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.events.stimulus_columns import choose_column
from clipmused_bids.dataset.events.times import event_times, numbers
from clipmused_bids.dataset.files.tsv import Table, read_table
from clipmused_bids.errors import UsageError
from clipmused_bids.records import Run, Trials

# Columns that say with which second of the movie a row begins.
LOG_COLUMNS = ("videotime", "movie_onset")
NO_MOVIE_TIME = "no movie time"


def log_column(columns: Mapping[str, Sequence[str]]) -> str | None:
    """Column of an events file that logs movie times; None if there is none with a number in it."""
    for name, cells in columns.items():
        if name.lower() in LOG_COLUMNS and not np.isnan(numbers(cells)).all():
            return name
    return None


def is_log(trials: Trials) -> bool:
    """Whether every trial is a row of a log, and its stimulus the movie that is logged."""
    return trials.stimulus_column is None and log_column(trials.columns) is not None


def read_frame_log(
    run: Run, *, movie: str | None, stimulus_column: str | None, run_seconds: float | None
) -> Trials | None:
    """Read events that log when which movie time was on screen, without naming the movie.

    Parameters
    ----------
    run : Run
    movie : str or None
        ``--movie``: a file or a bare name, which may hold ``{run}``, ``{session}`` and ``{task}``.
    stimulus_column : str or None
        ``--stimulus-column``.
    run_seconds : float or None
        Length of the run, as for ``read_events``.

    Returns
    -------
    Trials or None
        Every row with an onset and a movie time, its stimulus the movie's base name; to be sampled with ``sampled``.
        None if these events log nothing, or name their movies in a column and ``movie`` does not.

    Raises
    ------
    UsageError
        If the events log movie times, and nothing says of which movie.
    """
    table = read_table(run.events) if run.events is not None else None
    column = None if table is None else log_column(table.columns)
    if table is None or column is None:
        return None
    if movie is None:
        if choose_column(table.columns, wanted=stimulus_column) is not None:
            return None
        raise UsageError(
            f"{run.label}: {table.path.name} logs movie times (column {column}) and does not say of which movie.",
            hint="--movie FILE names it (its name is enough where the file is not here)",
        )
    name = Path(movie_of_run(movie, run)).name
    return _log_rows(run, table, column, name=name, run_seconds=run_seconds)


def movie_of_run(pattern: str, run: Run) -> str:
    """Fill ``{run}``, ``{session}`` and ``{task}`` in ``--movie``."""
    fields = {"run": run.run, "session": run.session, "task": run.task}
    for field, value in fields.items():
        place = f"{{{field}}}"
        if place in pattern and value is None:
            raise UsageError(f"--movie {pattern}: {run.label} has no {field}.")
        pattern = pattern.replace(place, str(value))
    return pattern


def _log_rows(run: Run, table: Table, column: str, *, name: str, run_seconds: float | None) -> Trials:
    notes = list(table.notes)
    onset, duration = event_times(table, run, run_seconds=run_seconds, notes=notes)
    known = ~np.isnan(onset)
    timed = known & ~np.isnan(numbers(table.columns[column]))
    rows = np.flatnonzero(timed)
    rows = rows[np.argsort(onset[rows], kind="stable")]
    left_out = {
        "repeated header": table.n_repeated_headers,
        "no onset": int((~known).sum()),
        NO_MOVIE_TIME: int((known & ~timed).sum()),
    }
    nothing = np.empty(0)
    return Trials(
        onset=onset[rows],
        duration=duration[rows],
        stimulus_id=(name,) * len(rows),
        condition=("",) * len(rows),
        columns={
            key: tuple(cells[row] for row in rows)
            for key, cells in table.columns.items()
            if key.lower() not in {"onset", "duration"}
        },
        nuisance_onset=nothing,
        nuisance_duration=nothing,
        nuisance_kind=(),
        n_rows=table.n_rows + table.n_repeated_headers,
        n_rows_in_trials=len(rows),
        excluded={reason: n for reason, n in left_out.items() if n},
        notes=tuple(notes),
    )
