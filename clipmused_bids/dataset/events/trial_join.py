"""The table beside an image of responses (``*_trials.tsv``): which event each of its volumes belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.files.tsv import Table, is_missing, read_table
from clipmused_bids.errors import DataError
from clipmused_bids.records import IntArray, Trials

ONSET_TOLERANCE = 1e-3  # s
_KEYS = ("onset", "trial", "stimulus_id")


def trial_table(image: Path) -> Path | None:
    """Table beside an image: the same name with the suffix ``trials``; None if there is none."""
    stem = image.name.partition(".")[0].rpartition("_")[0]
    path = image.with_name(f"{stem}_trials.tsv")
    # A broken link is a table that was not fetched, which reading it will say.
    return path if path.exists() or path.is_symlink() else None


def volume_of_trial(table: Path, trials: Trials, *, n_volumes: int) -> IntArray:
    """Volume of each trial of a run.

    Row k of the table is about volume k. Volumes and events are joined by onset (to 1 ms) where the table has any,
    else by the trial's number, else by the stimulus, whose presentations are then in the same order. A volume
    without a value there belongs to no event.

    Parameters
    ----------
    table : Path
    trials : Trials
        Events of the run.
    n_volumes : int

    Returns
    -------
    ndarray of int, shape (n_trials,)
        -1 for a trial without a volume.

    Raises
    ------
    MissingInputError
        If the table was not fetched.
    DataError
        If the table has not one row for each volume or none of the three columns; if a cell is no number, two volumes
        have one event, a stimulus has another number of volumes than of events, or the stimuli of joined volumes and
        events differ.
    """
    read = read_table(table)
    if read.n_rows != n_volumes:
        raise DataError(
            f"{table} has {read.n_rows} rows for {n_volumes} volumes; expected one each.",
            hint="row k of the table says which event volume k belongs to",
        )
    key = next((name for name in _KEYS if _known(read, name)), None)
    if key is None:
        raise DataError(f"{table} has no column onset, trial or stimulus_id; columns are {read.names}.")
    join: dict[str, Callable[[Table, Trials], list[int]]] = {
        "onset": _by_onset, "trial": _by_number, "stimulus_id": _by_stimulus,
    }  # fmt: skip
    trial = join[key](read, trials)
    _check_stimuli(read, trials, trial)
    volume = np.full(trials.n_trials, -1)
    for k, event in enumerate(trial):
        if event >= 0:
            volume[event] = k
    return volume


def _by_onset(table: Table, trials: Trials) -> list[int]:
    free = np.ones(trials.n_trials, dtype=bool)
    found = []
    for line, cell in enumerate(table.columns["onset"], start=1):
        distance = np.abs(trials.onset - _number(table, cell, "onset", line))
        near = np.flatnonzero(distance <= ONSET_TOLERANCE + 1e-9)
        events = near[free[near]]
        if len(near) and not len(events):
            raise _twice(table, line, f"the event at {cell} s")
        event = int(events[np.argmin(distance[events])]) if len(events) else -1
        if event >= 0:
            free[event] = False
        found.append(event)
    return found


def _by_number(table: Table, trials: Trials) -> list[int]:
    found: list[int] = []
    for line, cell in enumerate(table.columns["trial"], start=1):
        number = _number(table, cell, "trial", line)
        event = int(number) - 1 if 1 <= number <= trials.n_trials and number == int(number) else -1
        if event >= 0 and event in found:
            raise _twice(table, line, f"trial {cell}")
        found.append(event)
    return found


def _by_stimulus(table: Table, trials: Trials) -> list[int]:
    events, volumes = defaultdict(list), defaultdict(list)
    for event, name in enumerate(trials.stimulus_id):
        events[name].append(event)
    for k, name in enumerate(table.columns["stimulus_id"]):
        volumes[name].append(k)
    found = [-1] * table.n_rows
    for name, of_name in volumes.items():
        if is_missing(name) or name not in events:
            continue
        if len(of_name) != len(events[name]):
            raise DataError(
                f"{table.path} names {name} {len(of_name)} times, the events {len(events[name])} times; "
                "which presentation each volume is of cannot be told.",
                hint="a column onset or trial in the table tells presentations apart",
            )
        for k, event in zip(of_name, events[name], strict=True):
            found[k] = event
    return found


def _check_stimuli(table: Table, trials: Trials, trial: Sequence[int]) -> None:
    names = table.columns.get("stimulus_id", ())
    for line, (name, event) in enumerate(zip(names, trial, strict=False), start=1):
        if event < 0 or is_missing(name) or trials.stimulus_id[event] in {"", name}:
            continue
        raise DataError(
            f"{table.path}: row {line} is of {name}, but the event it is joined with shows "
            f"{trials.stimulus_id[event]}.",
            hint="the table is of other events; if names are only written otherwise, remove its column stimulus_id",
        )


def _known(table: Table, name: str) -> bool:
    return any(not is_missing(cell) for cell in table.columns.get(name, ()))


def _number(table: Table, cell: str, column: str, line: int) -> float:
    """A cell as a number; NaN, which is near nothing, where it is missing."""
    try:
        return float("nan") if is_missing(cell) else float(cell)
    except ValueError as error:
        raise DataError(f"{table.path}: row {line}: {column} {cell} is not a number.") from error


def _twice(table: Table, line: int, event: str) -> DataError:
    return DataError(f"{table.path}: row {line} is the second volume of {event}.")
