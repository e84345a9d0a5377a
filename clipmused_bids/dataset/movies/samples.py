"""Samples of movies: where a run shows which second of which movie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.events.stimulus_columns import looks_like_movie
from clipmused_bids.dataset.events.times import numbers
from clipmused_bids.dataset.movies.logs import LOG_COLUMNS, is_log, log_column
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, Trials

# s; events shorter than this evoke one response, longer ones (blocks) have a plateau: as for the kind of response.
SHORTEST_MOVIE = 10.0
# s; two rows between which movie and run move on by amounts that differ more are separated by a cut or a pause.
_JUMP = 0.5
_ROUNDING = 1e-6
# Logs in milliseconds or frames run faster than this; cuts within a movie do not, over more than a few rows.
_FASTEST, _FEW_ROWS = 10, 5

NO_MOVIE = "not a movie"
TOO_SHORT = "shorter than the frame interval"


def sample_id(movie: str, seconds: float) -> str:
    """Name of one sample: ``movie1.mp4@12``, ``movie1.mp4@12.5``; milliseconds are the finest."""
    return f"{movie}@{f'{seconds:.3f}'.rstrip('0').rstrip('.')}"


def may_show_movies(trials: Trials, *, forced: bool) -> bool:
    """Whether a run's events may be samples of movies, as far as can be told without the files."""
    rows = _movie_rows(trials)
    if is_log(trials) or len(rows) == 0:
        return is_log(trials)
    durations = trials.duration[rows]
    named = forced or log_column(trials.columns) is not None
    return named or not durations.all() or bool(np.median(durations) >= SHORTEST_MOVIE)


def shows_movies(trials: Trials, *, forced: bool, lengths: Mapping[str, float]) -> bool:
    """Whether a run's events are to be sampled, rather than being one trial each.

    They are if the run logs movie times; else if it names movie files and at least half of these events last 10 s or
    longer. A shorter clip in an event design evokes one response, which cannot be told apart into seconds.

    Parameters
    ----------
    trials : Trials
        As read from the events.
    forced : bool
        Sample clips of any length (``--frame-interval`` was given).
    lengths : mapping of str to float
        Lengths in s of movie files, for events without a duration.

    Raises
    ------
    DataError
        If neither the events nor the files say how long movies are.
    """
    if not may_show_movies(trials, forced=forced):
        return False
    if forced or log_column(trials.columns) is not None:
        return True
    durations = [_length_of(trials, k, lengths) for k in _movie_rows(trials)]
    return bool(np.median(durations) >= SHORTEST_MOVIE)


def _movie_rows(trials: Trials) -> list[int]:
    return [k for k, name in enumerate(trials.stimulus_id) if looks_like_movie(name)]


def _length_of(trials: Trials, row: int, lengths: Mapping[str, float]) -> float:
    name = trials.stimulus_id[row]
    if trials.duration[row] > 0:
        return min(float(trials.duration[row]), lengths.get(name, np.inf))
    if name not in lengths:
        raise DataError(
            f"the event of {name} at {trials.onset[row]:g} s has no duration, and the movie file was not found.",
            hint="--stimuli-dir names the folder of the movies",
        )
    return lengths[name]


def sampled(trials: Trials, *, interval: float, lengths: Mapping[str, float]) -> Trials:
    """Replace events of movies by one trial for each multiple of ``interval`` in movie time that was on screen.

    Within a stretch without cuts and pauses, the onset of a movie time is interpolated between rows.

    Parameters
    ----------
    trials : Trials
        As read from the events, sorted by onset.
    interval : float
        In s; the duration of each sample.
    lengths : mapping of str to float
        Lengths in s of the movie files that are there; no sample lies beyond them.

    Returns
    -------
    Trials
        With ``movie`` and ``movie_seconds``; rows that gave no sample are counted in ``excluded``. Columns and
        conditions are those of the row that was on screen.

    Raises
    ------
    DataError
        If an event has no length, movie time does not run at the pace of the run, or nothing is left.
    """
    stretches = list(_stretches(trials, lengths=lengths))
    samples = [_samples(stretch, interval) for stretch in stretches]
    table = np.concatenate([np.empty((0, 3)), *samples])
    if len(table) == 0:
        raise DataError(
            "no second of a movie is on screen long enough to be sampled.", hint="a smaller --frame-interval"
        )
    row, seconds, onset = table[np.argsort(table[:, 2], kind="stable")].T
    chosen = trials.take(row.astype(np.int64))
    excluded = Counter(trials.excluded)
    for stretch, found in zip(stretches, samples, strict=True):
        excluded[TOO_SHORT] += 0 if len(found) else len(stretch.rows)
    excluded[NO_MOVIE] += trials.n_trials - sum(len(stretch.rows) for stretch in stretches)
    lost = excluded[TOO_SHORT] + excluded[NO_MOVIE]
    return replace(
        chosen,
        onset=onset,
        duration=np.full(len(row), interval),
        stimulus_id=tuple(sample_id(m, s) for m, s in zip(chosen.stimulus_id, seconds.tolist(), strict=True)),
        n_rows_in_trials=trials.n_rows_in_trials - lost,
        excluded={reason: n for reason, n in excluded.items() if n},
        movie=chosen.stimulus_id,
        movie_seconds=seconds,
    )


@dataclass(frozen=True)
class _Stretch:
    """Rows during which one movie runs without a cut or a pause.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
    start, onset : ndarray of shape (n,)
        Movie time and time in the run at which each row begins, in s.
    end : float
        Movie time at which the last row ends, in s.
    """

    rows: IntArray
    start: FloatArray
    onset: FloatArray
    end: float


def _stretches(trials: Trials, *, lengths: Mapping[str, float]) -> Iterator[_Stretch]:
    column, logged = log_column(trials.columns), is_log(trials)
    start = np.zeros(trials.n_trials) if column is None else np.nan_to_num(numbers(trials.columns[column]))
    names = np.array(trials.stimulus_id, dtype=object)
    for movie in dict.fromkeys(trials.stimulus_id):
        if not logged and not looks_like_movie(movie):
            continue
        rows = np.flatnonzero(names == movie)
        step, pace = np.diff(start[rows]), np.diff(trials.onset[rows])
        cut = (step < 0) | (np.abs(step - pace) > _JUMP) | (column is None)
        if logged and len(rows) > _FEW_ROWS:
            _require_pace(step, pace)
        for part in np.split(rows, np.flatnonzero(cut) + 1):
            yield _stretch(trials, part, start[part], lengths=lengths)


def _stretch(trials: Trials, rows: IntArray, start: FloatArray, *, lengths: Mapping[str, float]) -> _Stretch:
    last = int(rows[-1])
    file_end = lengths.get(trials.stimulus_id[last], np.inf)
    if trials.duration[last] > 0:
        end = float(start[-1] + trials.duration[last])
    elif len(rows) > 1:
        # A log without durations: what it names was on screen.
        end = float(start[-1]) + 2 * _ROUNDING
    else:
        end = float(start[-1]) + _length_of(trials, last, lengths)
    return _Stretch(rows, start, trials.onset[rows], min(end, file_end))


def _require_pace(step: FloatArray, pace: FloatArray) -> None:
    moving = (step > 0) & (pace > 0)
    speed = float(np.median(step[moving] / pace[moving])) if moving.any() else 1.0
    if speed > _FASTEST:
        raise DataError(
            f"movie time runs {speed:g} times as fast as the run; both must be in seconds.",
            hint=f"columns {' and '.join(LOG_COLUMNS)} hold seconds from the start of the movie",
        )


def _samples(stretch: _Stretch, interval: float) -> NDArray[np.float64]:
    """Row, movie time and onset of the samples of one stretch, (n, 3)."""
    first = int(np.ceil((stretch.start[0] - _ROUNDING) / interval))
    after = int(np.ceil((stretch.end - _ROUNDING) / interval))
    seconds = np.round(np.arange(first, max(first, after)) * interval, 3)
    beyond = np.maximum(seconds - stretch.start[-1], 0)
    onset = np.interp(seconds, stretch.start, stretch.onset) + beyond
    place = np.searchsorted(stretch.start, seconds + _ROUNDING, side="right") - 1
    return np.column_stack([stretch.rows[np.maximum(place, 0)], seconds, onset])
