"""The split on disk: which trials train, validate and test, in one table that stands alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from clipmused_bids.dataset.files.atomic import create_bytes, write_bytes
from clipmused_bids.dataset.files.documents import NOT_AVAILABLE, encode_tsv, write_json
from clipmused_bids.dataset.files.tsv import Table, is_missing, read_table
from clipmused_bids.errors import DataError
from clipmused_bids.records import FEWEST_FOLDS, SetName, Split

_NEEDED = ("run", "stimulus_id", "set")
_COLUMNS: Mapping[str, Any] = {
    "participant_id": {"Description": "Participant"},
    "run": {
        "Description": "Run, by its name in the raw dataset; leading zeros of the run index do not matter"
    },
    "stimulus_id": {"Description": "Stimulus; `#2` after it is its second presentation in the run"},
    "set": {"Description": "train, val, test, or none for trials that are left out"},
    "fold": {"Description": "Fold of the cross-validation that holds the trials out; n/a without one"},
    "reason": {"Description": "Why the trials are in this set"},
    "rule": {"Description": "Rule that made the split"},
    "regime": {"Description": "What a score of the test set speaks about"},
}


def write_split(
    path: Path,
    split: Split,
    *,
    sources: Sequence[str] = (),
    present: Literal["replace", "keep"] = "replace",
) -> None:
    """Write a split, with a sidecar that describes its columns.

    Parameters
    ----------
    path : Path
        ``OUT/split.tsv``.
    split : Split
    sources : sequence of str
        BIDS URIs of the events it was made from.
    present : {"replace", "keep"}
        What becomes of a split that is there, or that another process writes in the same instant.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    n_rows = len(split.run_key)
    table = encode_tsv(
        {
            "participant_id": [key.partition("_")[0] for key in split.run_key],
            "run": split.run_key,
            "stimulus_id": split.stimulus_id,
            "set": split.set_name,
            "fold": split.fold or (None,) * n_rows,
            "reason": split.reason,
            "rule": [split.rule] * n_rows,
            "regime": [split.regime] * n_rows,
        },
        name=path.name,
    )
    if present == "keep":
        create_bytes(path, table)
    else:
        write_bytes(path, table)
    about = (
        "Which trials fit the decoder, decide when to stop, and are scored; made before anything was fitted."
    )
    write_json(path.with_suffix(".json"), {**_COLUMNS, "Description": about, "Sources": list(sources)})


def read_split(path: Path) -> Split:
    """Read a split, our own or one made by hand.

    Parameters
    ----------
    path : Path
        Table with the columns ``run`` (``sub-01_[ses-02_]task-x_run-3``), ``stimulus_id`` and ``set``;
        ``reason``, ``rule`` and ``regime`` are optional.

    Returns
    -------
    Split
        ``rule`` is ``file`` and ``regime`` is "" (to be told from the rows) where the file does not state
        them.

    Raises
    ------
    MissingInputError
        If the file is not there.
    DataError
        If a column is missing, a set is unknown, or a stimulus of a run is in two sets.
    """
    table = read_table(path)
    lacking = [name for name in _NEEDED if name not in table.columns]
    if lacking:
        raise DataError(
            f"{path}: column {lacking[0]} is missing; columns are {table.names}.",
            hint=f"a split needs the columns {', '.join(_NEEDED)}",
        )
    keys = [_run_key(cell) for cell in table.columns["run"]]
    stimuli = ["" if cell == NOT_AVAILABLE else cell for cell in table.columns["stimulus_id"]]
    sets = [_set_name(cell, row, path=path) for row, cell in enumerate(table.columns["set"], start=1)]
    folds = _folds(table)
    reasons = table.columns.get("reason", (f"listed in {path.name}",) * table.n_rows)
    rows = _first_rows(keys, stimuli, sets, path=path)
    return Split(
        run_key=tuple(keys[k] for k in rows),
        stimulus_id=tuple(stimuli[k] for k in rows),
        set_name=tuple(sets[k] for k in rows),
        reason=tuple(reasons[k] for k in rows),
        rule=_constant(table, "rule", otherwise="file"),
        regime=_constant(table, "regime", otherwise=""),
        fold=tuple(folds[k] for k in rows) if folds else (),
    )


def _run_key(cell: str) -> str:
    """Take leading zeros from the run index: raw ``run-01`` is ``run-1`` in ``Run.key``."""
    stem, mark, index = cell.rpartition("run-")
    return f"{stem}{mark}{int(index)}" if mark and index.isdecimal() else cell


def _first_rows(keys: list[str], stimuli: list[str], sets: list[SetName], *, path: Path) -> list[int]:
    """Find one row for each stimulus of a run: tables made by hand may list every presentation."""
    first: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(zip(keys, stimuli, strict=True)):
        known = first.setdefault(pair, row)
        if sets[known] != sets[row]:
            raise DataError(
                f"{path}: {pair[1]} of {pair[0]} is in {sets[known]} (row {known + 1}), {sets[row]} (row {row + 1}).",
                hint=f"name single presentations {pair[1]}#1, {pair[1]}#2, ... to part them",
            )
    return sorted(first.values())


def _set_name(cell: str, row: int, *, path: Path) -> SetName:
    names: tuple[SetName, ...] = get_args(SetName)
    for name in names:
        if cell == name != "new":
            return name
    raise DataError(f"{path}: row {row} has the set {cell}.", hint="sets are train, val, test and none")


def _folds(table: Table) -> tuple[int | None, ...]:
    """Fold of each row; empty where there is no cross-validation."""
    cells = table.columns.get("fold", ())
    if all(is_missing(cell) for cell in cells):
        return ()
    wrong = [cell for cell in cells if not (is_missing(cell) or (cell.isdecimal() and int(cell) > 0))]
    if wrong:
        raise DataError(f"{table.path}: fold {wrong[0]}; expected numbers from 1, or n/a.")
    numbers = sorted({int(cell) for cell in cells if not is_missing(cell)})
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < FEWEST_FOLDS:
        raise DataError(
            f"{table.path}: folds {', '.join(map(str, numbers))}; expected 1, 2, ... up to at least {FEWEST_FOLDS}."
        )
    return tuple(None if is_missing(cell) else int(cell) for cell in cells)


def _constant(table: Table, name: str, *, otherwise: str) -> str:
    values = [cell for cell in dict.fromkeys(table.columns.get(name, ())) if cell != NOT_AVAILABLE]
    if len(values) > 1:
        raise DataError(
            f"{table.path}: column {name} has several values ({values[0]}, {values[1]}); a split has one."
        )
    return values[0] if values else otherwise
