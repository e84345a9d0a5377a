"""Between a split and trials: its rows, and the set of each trial looked up again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.split_design import SplitDesign, codes
from clipmused_bids.records import IntArray, SetName, Split

SET_NAMES: tuple[SetName, ...] = ("train", "val", "test", "none")


@dataclass(frozen=True)
class Assignment:
    """Set of each trial, and what the split names but the data lack.

    Parameters
    ----------
    set_name : tuple of str, length n
    notes : tuple of str
    fold : tuple of (int or None), length n
        Fold that holds each trial out; None without a cross-validation.
    """

    set_name: tuple[SetName, ...]
    notes: tuple[str, ...]
    fold: tuple[int | None, ...]


def assign(split: Split, run_key: Sequence[str], stimulus_id: Sequence[str]) -> Assignment:
    """Find the set of each trial in a split.

    Parameters
    ----------
    split : Split
    run_key, stimulus_id : sequence of str, length n
        All trials of each run, in the order of presentation; trials without stimulus ("") are ``new``.

    Raises
    ------
    DataError
        If the split does not name a trial; lists them.
    """
    folds = split.fold or (None,) * len(split.run_key)
    rows = zip(split.set_name, folds, strict=True)
    table = dict(zip(zip(split.run_key, split.stimulus_id, strict=True), rows, strict=True))
    used: set[tuple[str, str]] = set()
    seen: Counter[tuple[str, str]] = Counter()
    found: list[tuple[SetName, int | None]] = []
    missing: Counter[tuple[str, str]] = Counter()
    for pair in zip(run_key, stimulus_id, strict=True):
        seen[pair] += 1
        row = pair if pair in table else (pair[0], _presentation(pair[1], seen[pair]))
        used.add(row)
        if row not in table and pair[1]:
            missing[pair] += 1
        found.append(table.get(row, ("new", None)))
    if missing:
        listed = _first([f"{run} {name} ({count}x)" for (run, name), count in missing.items()])
        raise DataError(
            f"the split names no set for {missing.total()} of {len(found)} trials: {listed}.",
            hint="it was made from other events; name another with --split FILE, or remove split.tsv and train again",
        )
    return Assignment(
        set_name=tuple(name for name, _ in found),
        notes=tuple(_absent(table, used, run_key)),
        fold=tuple(fold for _, fold in found),
    )


def split_rows(design: SplitDesign, sets: IntArray) -> tuple[IntArray, tuple[str, ...]]:
    """Fold trials into rows of a split.

    Parameters
    ----------
    design : SplitDesign
    sets : ndarray of int, shape (n,)
        Set or fold of each trial, by number.

    Returns
    -------
    trial : ndarray of int, shape (n_rows,)
        A trial that stands for each row.
    stimulus_id : tuple of str, length n_rows
        Its stimulus; one presentation of it (``face#2``) where presentations in one run belong to several
        sets.

    Raises
    ------
    DataError
        If such a name is the name of another stimulus.
    """
    run = codes(design.run_key)
    name = codes(design.stimulus_id)
    pair = np.unique(run * (int(name.max()) + 1) + name, return_inverse=True)[1]
    lowest = np.full(int(pair.max()) + 1, int(sets.max()))
    highest = np.zeros(int(pair.max()) + 1, dtype=np.int64)
    np.minimum.at(lowest, pair, sets)
    np.maximum.at(highest, pair, sets)
    mixed = (lowest != highest)[pair]
    order = np.lexsort((design.onset, pair))
    number = np.empty(len(pair), dtype=np.int64)
    number[order] = np.arange(len(pair)) - np.searchsorted(pair[order], pair[order])
    rows = np.flatnonzero(mixed | (number == 0))
    names = tuple(
        _presentation(design.stimulus_id[i], int(number[i]) + 1) if mixed[i] else design.stimulus_id[i]
        for i in rows.tolist()
    )
    repetitions = {name for name, i in zip(names, rows.tolist(), strict=True) if mixed[i]}
    if not repetitions.isdisjoint(design.stimulus_id):
        raise DataError("split: a stimulus is named like the repetition of another (name#2); rename it.")
    return rows, names


def count_sets(set_name: Iterable[str]) -> dict[str, int]:
    """Count trials of each set, in the order train, val, test, none, new."""
    counts = Counter(set_name)
    return {name: counts[name] for name in ("train", "val", "test", "none", "new") if counts[name]}


def _presentation(stimulus_id: str, number: int) -> str:
    return f"{stimulus_id}#{number}"


def _absent(
    table: Mapping[tuple[str, str], object], used: set[tuple[str, str]], run_key: Sequence[str]
) -> Iterator[str]:
    runs = set(run_key)
    people = {key.split("_")[0] for key in runs}
    lacking = [f"{run} {name}" for run, name in table if run in runs and (run, name) not in used]
    if lacking:
        yield f"the split names {len(lacking)} stimuli that these runs lack: {_first(lacking)}"
    absent = sorted({run for run, _ in table if run not in runs and run.split("_")[0] in people})
    if absent:
        yield f"the split names {len(absent)} runs of these participants that are absent: {_first(absent)}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
