"""Label tables: which labels each key of a table has."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.events.rows import CLASS_COLUMNS
from clipmused_bids.dataset.files.tsv import is_missing, read_table
from clipmused_bids.dataset.runs.names import natural_key
from clipmused_bids.dataset.stimuli.catalogue import RESERVED
from clipmused_bids.dataset.stimuli.names import GlobIndex, KeyIndex
from clipmused_bids.errors import DataError

logger = logging.getLogger(__name__)

STIMULUS_KEYS = ("stimulus_id", "stim_id", "stim_file", "stimulus", "filename", "file_name")
_NAME_COLUMNS = ("labels", "label", "categories", "category")
_VALUES = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}


@dataclass(frozen=True)
class LabelTable:
    """Labels by key.

    Parameters
    ----------
    names : tuple of str
        Labels, C of them.
    keys : tuple of str
        Stimuli, globs of stimuli, or values of an events column; one for each row.
    values : ndarray of shape (n_rows, C)
        1, 0, NaN where unknown.
    single_label : bool
        Whether each row names exactly one label.
    key_column : str
        Column that the keys stood in.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    single_label: bool
    key_column: str = "stimulus_id"

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.keys)

    @cached_property
    def _globs(self) -> GlobIndex:
        return GlobIndex(self.keys)

    @property
    def names_stimuli(self) -> bool:
        """Whether the keys are meant for stimuli, not for values of an events column."""
        return self.key_column in STIMULUS_KEYS

    def labels_of(self, key: str) -> NDArray[np.float64] | None:
        """Labels of a key, (C,): from the rows of this very key, else from all rows whose glob it matches; else None.

        Where several rows speak, 1 goes over 0, and both over unknown.
        """
        rows = self._index.rows_of(key) or self._globs.rows_of(key)
        if not rows:
            return None
        joined: NDArray[np.float64] = np.fmax.reduce(self.values[rows], axis=0)
        return joined


def read_label_table(path: Path, *, event_columns: Collection[str] = ()) -> LabelTable:
    """Read a TSV of labels.

    The key is ``stimulus_id`` (or ``stim_id``, ``stim_file``, ``filename``), else ``trial_type`` (or ``event_type``,
    ``condition``, ``cond``), else the first column that the events files have too. Either every label has a column of
    0, 1 and n/a, or one column (``labels``, ``label``, ``categories``, ``category``, or the only one besides the key)
    holds names separated by ``;``, or by ``,`` where no cell has a ``;``. Names are never split on underscores.

    Raises
    ------
    DataError
        If there is no key column, or no column of labels.
    """
    table = read_table(path)
    shared = (name for name in table.columns if name in event_columns)
    key = next((name for name in (*STIMULUS_KEYS, *CLASS_COLUMNS, *shared) if name in table.columns), None)
    if key is None:
        raise DataError(
            f"{path}: no column that names stimuli, and none that the events have too; columns are {table.names}.",
            hint="a label table has the column stimulus_id, and one column for each label or one column of names",
        )
    rest = {name: cells for name, cells in table.columns.items() if name != key}
    labels = labels_of_columns(rest)
    if labels is None and len(rest) == 1:
        labels = _from_names(next(iter(rest.values())))
    if labels is None:
        raise DataError(
            f"{path}: no labels: neither columns of 0 and 1, nor a column named labels; columns are {table.names}.",
            hint="one column of 0 and 1 for each label, or a column labels with names separated by ;",
        )
    names, values, single = labels
    _say_unused(path, rest, used=names)
    if set(names) <= set(rest):
        _say_contradictions(path, table.columns[key], values)
    return LabelTable(names, table.columns[key], values, single, key_column=key)


def _say_contradictions(path: Path, keys: Sequence[str], values: NDArray[np.float64]) -> None:
    """Warn where rows of one key hold 0 and 1 for one label; rows of names only add to each other."""
    _, row = np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)
    said = np.zeros((2, row.max(initial=-1) + 1, values.shape[1]), dtype=bool)
    for value in (0, 1):
        np.logical_or.at(said[value], row, values == value)
    differ = (said[0] & said[1]).any(axis=1)
    if differ.any():
        first = keys[int(np.flatnonzero(differ[row])[0])]
        logger.warning(
            "%s: rows of %d key(s) contradict each other (%s); 1 goes over 0.", path, differ.sum(), first
        )


def _say_unused(path: Path, columns: Mapping[str, Sequence[str]], *, used: Sequence[str]) -> None:
    """Name the columns beside labels of 0 and 1 that are none, with the first cell that is neither."""
    if not any(name in used for name in columns):
        return
    for name, cells in columns.items():
        if name in used or name.lower() in RESERVED or all(is_missing(cell) for cell in cells):
            continue
        other = next(cell for cell in cells if not is_missing(cell) and cell.lower() not in _VALUES)
        logger.warning("%s: column %s is no label: it holds %s; expected 0, 1 or n/a.", path, name, other)


def labels_of_columns(
    columns: Mapping[str, Sequence[str]],
) -> tuple[tuple[str, ...], NDArray[np.float64], bool] | None:
    """Labels in some columns of a table: all columns of 0 and 1, else a column of names; None if there are none.

    Returns
    -------
    tuple of str
        Names of the labels, C of them.
    ndarray of shape (n_rows, C)
        1, 0, NaN where unknown.
    bool
        Whether each row that has a label has exactly one.
    """
    free = {name: cells for name, cells in columns.items() if name.lower() not in RESERVED}
    binary = {name: cells for name, cells in free.items() if _is_binary(cells)}
    if binary:
        values = np.array([[_value(cell) for cell in cells] for cells in binary.values()], dtype=float).T
        return tuple(binary), values, False
    named = next((free[name] for name in _NAME_COLUMNS if name in free), None)
    return None if named is None else _from_names(named)


def _from_names(cells: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.float64], bool]:
    separator = ";" if any(";" in cell for cell in cells) else ","
    split = [
        None if is_missing(cell) else [part.strip() for part in cell.split(separator) if part.strip()]
        for cell in cells
    ]
    names = tuple(sorted({name for row in split for name in row or ()}, key=natural_key))
    column_of = {name: k for k, name in enumerate(names)}
    values = np.zeros((len(split), len(names)))
    for k, row in enumerate(split):
        if row is None:
            values[k] = np.nan
        else:
            values[k, [column_of[name] for name in row]] = 1
    return names, values, all(len(row) == 1 for row in split if row is not None)


def _is_binary(cells: Sequence[str]) -> bool:
    known = [cell for cell in cells if not is_missing(cell)]
    return bool(known) and all(cell.lower() in _VALUES for cell in known)


def _value(cell: str) -> float:
    return _VALUES.get(cell.lower(), np.nan)


def join_labels(
    parts: Sequence[tuple[tuple[str, ...], NDArray[np.float64]]], *, n_rows: int
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Join labels of the same rows from several sources; where they differ, 1 goes over 0 and both over unknown.

    Parameters
    ----------
    parts : sequence of (names, values)
        ``names``: labels of a source; ``values``: ndarray of shape (n_rows, n_names), 1, 0, NaN.
    n_rows : int

    Returns
    -------
    tuple of str
        Names of all labels, in the order of first mention, C of them.
    ndarray of shape (n_rows, C)
    """
    names = tuple(dict.fromkeys(name for own, _ in parts for name in own))
    values = np.full((n_rows, len(names)), np.nan)
    for own, own_values in parts:
        columns = [names.index(name) for name in own]
        values[:, columns] = np.fmax(values[:, columns], own_values)
    return names, values
