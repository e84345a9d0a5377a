"""What all participants saw: trials that are matched across them, by the first way that the data allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipmused_bids.methods.ridge_solver import BLOCK_ROWS, Rows
from clipmused_bids.records import FloatArray, IntArray, ResponseTable, TrialData
from clipmused_bids.training.rows import require_finite

MatchedBy = Literal["stimulus", "occurrence", "condition"]


@dataclass(frozen=True)
class Matching:
    """Trials of each participant that stand for the same thing, in the same order for all.

    Parameters
    ----------
    trials : tuple of tuple of ndarray of int
        For each participant and each thing, rows of the participant's table, which are averaged.
    matched_by : {"stimulus", "occurrence", "condition"}
        The trials of a stimulus; the k-th trial of a stimulus with everybody's k-th; the trials of a condition.
    """

    trials: tuple[tuple[IntArray, ...], ...]
    matched_by: MatchedBy

    @property
    def n_rows(self) -> int:
        """Number of things that are matched."""
        return len(self.trials[0])

    def rows(self, data: TrialData, p: int) -> Rows:
        """Mean responses of participant ``p`` to each thing, read in blocks."""
        table, sets, name = data.responses[p], self.trials[p], data.participants[p]

        def read(index: IntArray) -> FloatArray:
            chosen = [sets[int(i)] for i in index]
            return np.stack([_mean(table, one, participant=name) for one in chosen])

        if all(len(one) == 1 for one in sets):
            only = np.concatenate(sets)

            def read_one(index: IntArray) -> FloatArray:
                values = table.read(only[index])
                require_finite(values, participant=name)
                return values

            return Rows(len(sets), table.n_voxels, read_one)
        return Rows(len(sets), table.n_voxels, read)


@dataclass(frozen=True)
class SharedRows:
    """Responses to what all participants saw, in the same order for all.

    Parameters
    ----------
    responses : tuple of ndarray, each of shape (n_shared, n_voxels_n)
    matched_by : {"stimulus", "occurrence", "condition"}
    """

    responses: tuple[FloatArray, ...]
    matched_by: MatchedBy


def match_trials(data: TrialData, *, minimum: int) -> Matching | None:
    """Match trials across participants, by stimulus, else by the occurrence of a stimulus, else by condition.

    Repeats are averaged where at least ``minimum`` stimuli are shared by all. With fewer (a block design has one
    for each condition) the k-th trials of a stimulus are matched in the order of each participant's trials, as
    long as everyone has a k-th. Where no stimuli are shared but a trial has one label, its condition, all trials of
    a condition are averaged.

    Returns
    -------
    Matching or None
        None where fewer than two rows match.
    """
    stimuli = [_occurrences(data, p) for p in range(len(data.participants))]
    common = sorted(set.intersection(*(set(found) for found in stimuli)))
    if len(common) >= max(2, minimum):
        return Matching(tuple(tuple(found[name] for name in common) for found in stimuli), "stimulus")
    pairs = [(name, k) for name in common for k in range(min(len(found[name]) for found in stimuli))]
    if len(pairs) >= 2:
        kth = tuple(tuple(found[name][k : k + 1] for name, k in pairs) for found in stimuli)
        return Matching(kth, "occurrence")
    return _by_condition(data) if data.single_label else None


def shared_rows(data: TrialData, *, minimum: int) -> SharedRows | None:
    """Mean responses to what ``match_trials`` matches, all in memory; None where it matches nothing."""
    matching = match_trials(data, minimum=minimum)
    if matching is None:
        return None
    index = np.arange(matching.n_rows)
    means = tuple(
        np.concatenate([block for _, block in matching.rows(data, p).blocks(index)])
        for p in range(len(data.participants))
    )
    return SharedRows(means, matching.matched_by)


def _occurrences(data: TrialData, p: int) -> dict[str, IntArray]:
    """Rows of one participant's table for each stimulus, in order."""
    mine = np.flatnonzero(data.participant == p)
    places: dict[str, list[int]] = {}
    for i in mine:
        if data.stimulus_id[i]:
            places.setdefault(data.stimulus_id[i], []).append(int(data.row[i]))
    return {name: np.array(rows) for name, rows in places.items()}


def _by_condition(data: TrialData) -> Matching | None:
    positive = np.nan_to_num(data.labels) > 0.5
    people = [data.participant == p for p in range(len(data.participants))]
    common = np.flatnonzero(np.all([positive[mine].any(axis=0) for mine in people], axis=0))
    if len(common) < 2:
        return None
    trials = tuple(tuple(data.row[mine & positive[:, c]] for c in common) for mine in people)
    return Matching(trials, "condition")


def _mean(table: ResponseTable, rows: Sequence[int] | IntArray, *, participant: str) -> FloatArray:
    total = np.zeros(table.n_voxels)
    for start in range(0, len(rows), BLOCK_ROWS):
        values = table.read(np.asarray(rows[start : start + BLOCK_ROWS]))
        require_finite(values, participant=participant)
        total += values.sum(axis=0, dtype=np.float64)
    return total / len(rows)
