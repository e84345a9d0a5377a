"""Labels and captions of samples of movies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.movies.annotations import (
    Annotations,
    captions_over_time,
    is_over_time,
    read_annotations,
)
from clipmused_bids.dataset.movies.label_matrices import is_matrix, read_matrices
from clipmused_bids.dataset.stimuli.captions import read_captions
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable
from clipmused_bids.dataset.stimuli.label_tables import join_labels, labels_of_columns
from clipmused_bids.dataset.stimuli.labels import read_labels
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

_LEAST_COVERAGE = 0.5
_NAME_COLUMNS = ("labels", "label", "categories", "category", "name", "trial_type")
_ByMovie = dict[str, tuple[NDArray[np.float64], IntArray]]
_Labels = tuple[tuple[str, ...], NDArray[np.float64], bool]


def read_movie_labels(
    paths: tuple[str, ...],
    *,
    samples: Mapping[str, tuple[str, float]],
    presentations: Presentations,
    stimuli_table: StimulusTable | None,
) -> tuple[tuple[str, ...], FloatArray, bool]:
    """Labels of all samples.

    Parameters
    ----------
    paths : tuple of str
        ``--labels``: annotations over time (TSV with ``onset`` and ``duration``, see ``annotated``), matrices
        (``FILE.hdf5:/dataset``, see ``read_matrices``); or tables whose keys are samples (``movie1.mp4@12``,
        ``movie1.mp4@*``). Empty: label columns of ``stimuli.tsv``, where a movie's labels hold throughout; else the
        condition of each sample.
    samples : mapping of str to (str, float)
        Movie and time in s of each sample, by its name.
    presentations : Presentations
        What the events say about each sample.
    stimuli_table : StimulusTable or None

    Returns
    -------
    tuple of str
        Names of the labels, C of them.
    ndarray of shape (n_samples, C)
        1, 0, NaN where unknown.
    bool
        Whether every labelled sample has exactly one label by construction.

    Raises
    ------
    DataError
        If fewer than half of the samples have labels, or nothing labels them.
    UsageError
        If files over time and others are mixed.
    """
    over_time = [is_matrix(text) or is_over_time(Path(text)) for text in paths]
    if any(over_time):
        if not all(over_time):
            raise UsageError(
                f"--labels {' '.join(paths)}: tables with and without onset and duration cannot be joined."
            )
        return _over_time(paths, samples)
    if not paths and stimuli_table is not None and labels_of_columns(stimuli_table.columns) is not None:
        return read_labels(
            (),
            stimulus_ids=[movie for movie, _ in samples.values()],
            presentations=Presentations(()),
            stimuli_table=stimuli_table,
        )
    return read_labels(paths, stimulus_ids=list(samples), presentations=presentations, stimuli_table=None)


def read_movie_captions(
    paths: tuple[str, ...], *, samples: Mapping[str, tuple[str, float]]
) -> tuple[tuple[str, ...], ...]:
    """Captions of all samples.

    Parameters
    ----------
    paths : tuple of str
        ``--captions``: TSV tables with ``onset``, ``duration`` and ``caption``, or what ``read_captions`` takes with
        samples as keys. Descriptions of whole movies say nothing about a sample and are not used.
    samples : mapping of str to (str, float)

    Raises
    ------
    DataError
        If a table names no movie of these.
    """
    found: list[tuple[str, ...]] = [()] * len(samples)
    for text in paths:
        if is_over_time(Path(text)):
            more: Sequence[tuple[str, ...]] = captions_over_time(
                read_annotations(Path(text)), _by_movie(samples), n_samples=len(samples)
            )
        else:
            more = read_captions((text,), stimulus_ids=list(samples), stimuli_table=None)
        found = [old + new for old, new in zip(found, more, strict=True)]
    return tuple(found)


def annotated(table: Annotations, samples: _ByMovie, *, n_samples: int) -> _Labels:
    """Labels at each sample by a table of annotations.

    Tables with one column of 0 and 1 for each label say of every label whether it is there: a sample that no row
    covers is unknown. Tables with one column of names say what is there: in the movies they speak of, a sample that no
    row covers has none of the labels; rows named ``n/a`` mark what was not looked at. Where several rows cover a
    sample, 1 goes before 0.

    Returns
    -------
    tuple of str
        Names of the labels, C of them.
    ndarray of shape (n_samples, C)
    bool
        Whether every sample in the table's movies is named exactly one label.

    Raises
    ------
    DataError
        If the table has no labels.
    """
    labels = labels_of_columns(table.columns)
    binary = labels is not None and set(labels[0]) <= set(table.columns)
    if not binary:
        labels = labels_of_columns({"labels": _name_cells(table)})
    assert labels is not None
    names, of_row, _ = labels
    values = np.full((n_samples, len(names)), np.nan)
    for movie, rows in table.rows_by_movie(tuple(samples)).items():
        seconds, places = samples[movie]
        own = np.full((len(seconds), len(names)), np.nan if binary else 0.0)
        held = table.covering(rows, seconds)
        for row, here in zip(rows, held, strict=True):
            own[here] = np.fmax(own[here], of_row[row])
        if not binary:
            for row, here in zip(rows, held, strict=True):
                own[here] += 0 * of_row[row]  # NaN where the row says that nothing is known
        values[places] = own
    known = values[~np.isnan(values).any(axis=1)]
    return names, values, not binary and len(known) > 0 and bool((known.sum(axis=1) == 1).all())


def _name_cells(table: Annotations) -> tuple[str, ...]:
    named = next((table.columns[name] for name in _NAME_COLUMNS if name in table.columns), None)
    if named is None and len(table.columns) == 1:
        named = next(iter(table.columns.values()))
    if named is None:
        raise DataError(
            f"{table.path}: no labels; columns beside onset and duration are {', '.join(table.columns) or 'none'}.",
            hint="one column of 0 and 1 for each label, or a column labels with names separated by ;",
        )
    return named


def _over_time(paths: Sequence[str], samples: Mapping[str, tuple[str, float]]) -> _Labels:
    by_movie = _by_movie(samples)
    parts: list[_Labels] = []
    for text in paths:
        if is_matrix(text):
            parts += _of_matrices(text, by_movie, n_samples=len(samples))
        else:
            parts.append(annotated(read_annotations(Path(text)), by_movie, n_samples=len(samples)))
    names, values = join_labels([part[:2] for part in parts], n_rows=len(samples))
    _check_coverage(values, samples, source=", ".join(paths))
    return names, values, len(parts) == 1 and parts[0][2]


def _of_matrices(text: str, samples: _ByMovie, *, n_samples: int) -> list[_Labels]:
    parts = []
    for matrix in read_matrices(text, movies=tuple(samples)):
        seconds, places = samples[matrix.movie]
        values = np.full((n_samples, len(matrix.names)), np.nan)
        values[places] = matrix.at(seconds)
        parts.append((matrix.names, values, False))
    return parts


def _by_movie(samples: Mapping[str, tuple[str, float]]) -> _ByMovie:
    """Seconds (ascending) and positions of the samples of each movie."""
    movies = np.array([movie for movie, _ in samples.values()], dtype=object)
    seconds = np.array([time for _, time in samples.values()], dtype=np.float64)
    found: _ByMovie = {}
    for movie in dict.fromkeys(movies):
        places = np.flatnonzero(movies == movie)
        places = places[np.argsort(seconds[places], kind="stable")]
        found[movie] = (seconds[places], places)
    return found


def _check_coverage(
    values: NDArray[np.float64], samples: Mapping[str, tuple[str, float]], *, source: str
) -> None:
    unknown: BoolArray = np.asarray(np.isnan(values).all(axis=1))
    if not unknown.any():
        return
    names = [name for name, missing in zip(samples, unknown, strict=True) if missing]
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    message = f"{len(names)} of {len(samples)} samples of movies have no label in {source}: {shown}."
    if unknown.mean() > 1 - _LEAST_COVERAGE:
        raise DataError(
            f"{message} At least half must have one.",
            hint="annotations name movies as the events do, and their seconds count from the start of the movie",
        )
    logger.warning("%s They are left out.", message)
