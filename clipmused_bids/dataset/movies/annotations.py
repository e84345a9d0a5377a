"""Annotations of movies over time: tables whose rows hold from an onset for a duration, in seconds of the movie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.events.times import numbers
from clipmused_bids.dataset.files.tsv import is_missing, read_table
from clipmused_bids.dataset.stimuli.names import KeyIndex, base_name, without_extension
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray

MOVIE_COLUMNS = ("movie", "stimulus_id", "stim_id", "stim_file", "stimulus", "filename", "file_name")
_TIMES = ("onset", "duration")
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Annotations:
    """A table of annotations.

    Parameters
    ----------
    path : Path
    onset, end : ndarray of shape (n_rows,)
        Seconds of the movie; a row holds from ``onset`` up to, not including, ``end``.
    movie : tuple of str or None
        Movie of each row as the table writes it; None where it has no such column.
    columns : mapping of str to tuple of str
        All other columns.
    """

    path: Path
    onset: FloatArray
    end: FloatArray
    movie: tuple[str, ...] | None
    columns: Mapping[str, tuple[str, ...]]

    def rows_by_movie(self, movies: Sequence[str]) -> dict[str, IntArray]:
        """Rows that speak of each movie; movies without any are left out.

        Raises
        ------
        DataError
            If the table speaks of none of them, or does not say of which of several.
        """
        if self.movie is None:
            return {movie_of_name(self.path.name, movies, path=self.path): np.arange(len(self.onset))}
        index = KeyIndex(movies)
        found = [index.rows_of(cell) for cell in self.movie]
        of_row = np.array([rows[0] if len(rows) == 1 else -1 for rows in found], dtype=np.int64)
        rows = {movie: np.flatnonzero(of_row == k) for k, movie in enumerate(movies)}
        known: dict[str, IntArray] = {movie: own for movie, own in rows.items() if len(own)}
        if not known:
            raise DataError(
                f"{self.path}: speaks of {_first(dict.fromkeys(self.movie))}; the movies are {_first(movies)}.",
                hint=f"the first of the columns {', '.join(MOVIE_COLUMNS)} names movies as the events do",
            )
        return known

    def covering(self, rows: IntArray, seconds: FloatArray) -> list[IntArray]:
        """Which of ``seconds`` (ascending) each row holds at."""
        first = np.searchsorted(seconds, self.onset[rows] - _ROUNDING, side="left")
        after = np.searchsorted(seconds, self.end[rows] - _ROUNDING, side="left")
        return [np.arange(one, other) for one, other in zip(first, after, strict=True)]


def is_over_time(path: Path) -> bool:
    """Whether a table has the columns onset and duration."""
    return path.suffix.lower() == ".tsv" and set(_TIMES) <= set(read_table(path).columns)


def read_annotations(path: Path) -> Annotations:
    """Read a table of annotations.

    Raises
    ------
    DataError
        If a row has no onset, or no duration above 0.
    """
    table = read_table(path)
    onset, duration = (numbers(table.columns[name]) for name in _TIMES)
    bad = np.flatnonzero(~(np.isfinite(onset) & (duration > 0)))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{path}: row {row + 1} has onset {table.columns['onset'][row]} and duration "
            f"{table.columns['duration'][row]}; expected seconds of the movie, the duration above 0.",
            hint="give each annotation the time for which it holds",
        )
    key = next((name for name in MOVIE_COLUMNS if name in table.columns), None)
    rest = {name: cells for name, cells in table.columns.items() if name not in {*_TIMES, key}}
    return Annotations(path, onset, onset + duration, None if key is None else table.columns[key], rest)


def movie_of_name(name: str, movies: Sequence[str], *, path: Path) -> str:
    """Movie that a file or dataset is named after (``movie1_labels.tsv``); the only one, whatever the name.

    Raises
    ------
    DataError
        If there are several movies, and the name is none of theirs.
    """
    if len(movies) == 1:
        return movies[0]
    stems = {movie: without_extension(base_name(movie)).lower() for movie in movies}
    lowered = name.lower()
    fitting = [
        movie
        for movie, stem in stems.items()
        if lowered.startswith(stem) and not lowered[len(stem) : len(stem) + 1].isalnum()
    ]
    if not fitting:
        raise DataError(
            f"{path}: of which movie? {name} is named like none of {_first(movies)}.",
            hint="a column movie names them; or one file for each, named like the movie",
        )
    return max(fitting, key=lambda movie: len(stems[movie]))


def captions_over_time(
    table: Annotations, samples: Mapping[str, tuple[NDArray[np.float64], IntArray]], *, n_samples: int
) -> list[tuple[str, ...]]:
    """Sentences that hold at each sample.

    Parameters
    ----------
    table : Annotations
        With a column ``caption``.
    samples : mapping of str to (ndarray, ndarray)
        Seconds (ascending) and positions of the samples of each movie.
    n_samples : int
    """
    column = next((name for name in ("caption", "captions", "description") if name in table.columns), None)
    if column is None:
        raise DataError(f"{table.path}: no column caption; columns are {', '.join(table.columns)}.")
    found: list[tuple[str, ...]] = [()] * n_samples
    for movie, rows in table.rows_by_movie(tuple(samples)).items():
        seconds, places = samples[movie]
        for row, held in zip(rows, table.covering(rows, seconds), strict=True):
            sentence = table.columns[column][row]
            for place in () if is_missing(sentence) else places[held]:
                found[place] = (*found[place], sentence)
    return found


def _first(names: Sequence[str] | Mapping[str, None]) -> str:
    return ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
