"""Trials as rows of a BIDS table, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipmused_bids.dataset.files.documents import NOT_AVAILABLE, number
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.errors import DataError
from clipmused_bids.records import IntArray, Trials

OWN_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "onset": {"Description": "Onset of the trial from the start of the run", "Units": "s"},
    "duration": {"Description": "Duration of the trial", "Units": "s"},
    "trial": {"Description": "Number of the trial among all trials of the run, from 1"},
    "stimulus_id": {"Description": "What was shown; n/a where unknown"},
    "condition": {"Description": "Condition of the trial as the events file names it"},
}

# Of samples of movies only.
MOVIE_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "movie": {"Description": "Movie that was on screen"},
    "movie_seconds": {"Description": "Time in the movie", "Units": "s"},
}


def trial_columns(trials: Trials, *, kept: IntArray) -> dict[str, Any]:
    """Return the table of some trials: our columns, then every other column of the events file.

    Parameters
    ----------
    trials : Trials
    kept : ndarray of int, shape (n,)
        Positions of the rows among the trials.

    Returns
    -------
    dict of str to sequence
        Columns of the events file whose name is taken carry the prefix ``events_``. Tabs and line breaks
        inside their cells, which TSV cannot hold, become blanks.
    """
    chosen = trials.take(kept)
    own = {
        "onset": chosen.onset,
        "duration": chosen.duration,
        "trial": np.asarray(kept) + 1,
        "stimulus_id": chosen.stimulus_id,
        "condition": chosen.condition,
    }
    if chosen.movie is not None:
        own |= {"movie": chosen.movie, "movie_seconds": chosen.movie_seconds}
    names = _names_in_table(trials)
    others = {
        names[key]: tuple(" ".join(cell.split()) for cell in cells) for key, cells in chosen.columns.items()
    }
    return {**own, **others}


def column_fields(trials: Trials) -> dict[str, Any]:
    """Describe each column of the table, for its sidecar; ``EventsColumns`` are their names in the events file."""
    names = _names_in_table(trials)
    others = {name: {"Description": f"Column {key} of the events file"} for key, name in names.items()}
    return {**_own_columns(trials), **others, "EventsColumns": {name: key for key, name in names.items()}}


def trials_of(table: Path, sidecar: Mapping[str, Any]) -> tuple[Trials, IntArray]:
    """Read the trials of a table back, with the run's other events from its sidecar.

    Returns
    -------
    trials : Trials
    trial_number : ndarray of int, shape (n_trials,)
        From 1.

    Raises
    ------
    MissingInputError
        If the table is not there.
    DataError
        If it has not the columns that the sidecar describes.
    """
    columns = read_table(table).columns
    continuous = all(name in sidecar and name not in sidecar["EventsColumns"] for name in MOVIE_COLUMNS)
    own = (*OWN_COLUMNS, *(MOVIE_COLUMNS if continuous else ()))
    lacking = [name for name in (*own, *sidecar["EventsColumns"]) if name not in columns]
    if lacking:
        raise DataError(f"{table}: column {lacking[0]} is missing; columns are {', '.join(columns)}.")
    nuisance = sidecar["NuisanceEvents"]
    trials = Trials(
        onset=np.array([number(cell) for cell in columns["onset"]]),
        duration=np.array([number(cell) for cell in columns["duration"]]),
        stimulus_id=_known(columns["stimulus_id"]),
        condition=_known(columns["condition"]),
        columns={key: columns[name] for name, key in sidecar["EventsColumns"].items()},
        nuisance_onset=np.array(nuisance["onset"], dtype=float),
        nuisance_duration=np.array(nuisance["duration"], dtype=float),
        nuisance_kind=tuple(nuisance["kind"]),
        n_rows=sidecar["EventsRows"],
        n_rows_in_trials=sidecar["EventsRowsInTrials"],
        excluded=sidecar["EventsExcluded"],
        stimulus_column=sidecar["StimulusColumn"],
        notes=tuple(sidecar["EventsNotes"]),
        movie=columns["movie"] if continuous else None,
        movie_seconds=np.array([number(cell) for cell in columns["movie_seconds"]]) if continuous else None,
    )
    return trials, np.array(columns["trial"], dtype=int)


def _own_columns(trials: Trials) -> dict[str, Mapping[str, str]]:
    return {**OWN_COLUMNS, **(MOVIE_COLUMNS if trials.continuous else {})}


def _names_in_table(trials: Trials) -> dict[str, str]:
    taken = set(_own_columns(trials))
    found: dict[str, str] = {}
    for name in trials.columns:
        free = name
        while free in taken:
            free = f"events_{free}"
        found[name] = free
        taken.add(free)
    return found


def _known(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("" if cell == NOT_AVAILABLE else cell for cell in cells)
