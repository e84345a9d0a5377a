"""Features of stimuli that were made elsewhere: one safetensors file and the stimuli its rows belong to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.contents import content_hash
from clipmused_bids.dataset.files.tensors import map_tensors, read_text_metadata
from clipmused_bids.dataset.files.tsv import is_missing, read_table
from clipmused_bids.dataset.stimuli.names import KeyIndex
from clipmused_bids.errors import DataError

LEVELS = ("low", "high")
_IDS = "stimulus_id"
_VALUES_AT_ONCE = 2**24
_HINT = (
    "arrays low and high with one row for each stimulus, and the stimuli as metadata stimulus_id (a JSON list) or in "
    "the column stimulus_id of a .tsv of the same name beside the file"
)


@dataclass(frozen=True)
class TargetFile:
    """An opened and checked file of features.

    Parameters
    ----------
    path : Path
    content_hash : str
        SHA-256 of the file.
    stimulus_id : tuple of str
        Stimulus of each row, each once.
    low, high : ndarray of shape (n_stimuli, n_features), or None
        Memory maps, as stored; None where the file has no such array, never both.
    """

    path: Path
    content_hash: str
    stimulus_id: tuple[str, ...]
    low: NDArray[Any] | None
    high: NDArray[Any] | None

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.stimulus_id)

    def rows_of(self, stimulus_ids: Sequence[str]) -> list[int | None]:
        """Row of each stimulus, however its name is spelt; None where the file has none."""
        found = [self._index.rows_of(name) if name else [] for name in stimulus_ids]
        return [rows[0] if len(rows) == 1 else None for rows in found]

    def read(
        self, stimulus_ids: Sequence[str]
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Features of stimuli at both levels, rows of unit length; zero rows where they are unknown.

        Returns
        -------
        low, high : ndarray of shape (n, n_features), float32, or None
        """
        rows = self.rows_of(stimulus_ids)
        return _unit_rows(self.low, rows), _unit_rows(self.high, rows)


def open_target_file(path: Path) -> TargetFile:
    """Open a file of features and look at every number in it.

    Parameters
    ----------
    path : Path
        A safetensors file with ``low``, ``high``, or both: floating point, one row for each stimulus.

    Raises
    ------
    MissingInputError
        If it is not there or was not fetched.
    DataError
        If it is no such file; if stimuli are not named, named twice, or more or fewer than rows; if a value is NaN or
        infinite.
    """
    found_hash = content_hash(path)
    try:
        tensors, _ = map_tensors(path)
    except DataError as error:
        raise DataError(str(error.args[0]), hint=_HINT) from error
    ids = _stimulus_ids(path)
    levels = {name: tensors[name] for name in LEVELS if name in tensors}
    if not levels:
        raise DataError(
            f"{path}: neither low nor high among its arrays ({', '.join(tensors) or 'none'}).", hint=_HINT
        )
    for name, values in levels.items():
        _check_level(values, n_stimuli=len(ids), where=f"{path}: {name}")
    return TargetFile(path, found_hash, ids, levels.get("low"), levels.get("high"))


def _stimulus_ids(path: Path) -> tuple[str, ...]:
    """Stimuli of the rows, from the file's metadata or the table beside it; they must agree where both are there."""
    table = path.with_suffix(".tsv")
    sources: dict[str, tuple[str, ...]] = {}
    text = read_text_metadata(path).get(_IDS)
    if text is not None:
        sources[f"{path}: metadata {_IDS}"] = _listed(text, path=path)
    if table.is_file():
        columns = read_table(table).columns
        if _IDS not in columns:
            raise DataError(f"{table}: no column {_IDS}; columns are {', '.join(columns)}.", hint=_HINT)
        sources[f"{table}"] = columns[_IDS]
    if not sources:
        raise DataError(f"{path}: nothing says which stimuli its rows belong to.", hint=_HINT)
    for where, ids in sources.items():
        _check_ids(ids, where=where)
    if len(set(sources.values())) > 1:
        raise DataError(
            f"{path}: its metadata and {table.name} name different stimuli.", hint="remove one of the two"
        )
    return next(iter(sources.values()))


def _listed(text: str, *, path: Path) -> tuple[str, ...]:
    try:
        ids = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: metadata {_IDS} is not JSON ({error}).", hint=_HINT) from error
    if not isinstance(ids, list) or not all(isinstance(name, str | int) for name in ids):
        raise DataError(f"{path}: metadata {_IDS} is not a list of names.", hint=_HINT)
    return tuple(str(name) for name in ids)


def _check_ids(ids: Sequence[str], *, where: str) -> None:
    missing = sum(is_missing(name) for name in ids)
    if missing:
        raise DataError(f"{where}: {missing} of {len(ids)} rows name no stimulus.", hint=_HINT)
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(
            f"{where}: {len(twice)} stimuli are named more than once, for example {twice[0]}.",
            hint="each stimulus has one row",
        )


def _check_level(values: NDArray[Any], *, n_stimuli: int, where: str) -> None:
    if values.ndim != 2 or values.dtype.kind != "f":
        raise DataError(
            f"{where} has shape {values.shape} and type {values.dtype}; expected (stimuli, features), floating point.",
            hint=_HINT,
        )
    if len(values) != n_stimuli:
        raise DataError(f"{where} has {len(values)} rows for {n_stimuli} stimuli.", hint=_HINT)
    step = max(1, _VALUES_AT_ONCE // max(1, values.shape[1]))
    bad = 0
    for start in range(0, len(values), step):
        bad += int((~np.isfinite(values[start : start + step])).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{where}: {bad} of {n_stimuli} rows hold NaN or infinite values.",
            hint="leave the row out, or set it to zero: then the stimulus guides nothing",
        )


def _unit_rows(values: NDArray[Any] | None, rows: Sequence[int | None]) -> NDArray[np.float32] | None:
    if values is None:
        return None
    unit = np.zeros((len(rows), values.shape[1]), dtype=np.float32)
    for k, row in enumerate(rows):
        if row is None:
            continue
        one = np.asarray(values[row], dtype=np.float64)
        length = float(np.linalg.norm(one))
        if length > 0:
            unit[k] = one / length
    return unit
