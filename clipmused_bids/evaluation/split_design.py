"""Who saw what and when: all trials of a dataset, as the split rules look at them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, FloatArray, IntArray

_PER_TRIAL = (
    "run_key", "participant", "session", "run", "stimulus_id", "labels", "onset",
    "movie", "repeated_clip", "column", "content",
)  # fmt: skip


@dataclass(frozen=True)
class SplitDesign:
    """One row for each trial of all participants, in the order in which each saw them.

    Parameters
    ----------
    run_key, participant : tuple of str, length n
        ``Run.key`` and participant label of each trial.
    session : tuple of (str or None), length n
    run : tuple of (int or None), length n
        Run index.
    stimulus_id : tuple of str, length n
        "" where unknown; such trials belong to no set.
    labels : ndarray of shape (n, C)
        1, 0, or NaN where unknown.
    onset : ndarray of shape (n,)
        Seconds from the start of the run.
    label_names : tuple of str, length C or 0
        For messages.
    blocked : bool
        Trials are defined by a condition (``trial_type``), or are blocks of one.
    continuous : bool
        Trials are samples of movies.
    movie : tuple of str, length n, optional
        Movie each sample belongs to.
    repeated_clip : ndarray of bool, shape (n,), optional
        Samples of clips that are shown again elsewhere.
    column : tuple of str, length n, optional
        Set of each trial as a column of the dataset names it.
    content : tuple of str, length n, optional
        Hash of each stimulus file's content; two names with one content are one stimulus. "" where unknown.

    Raises
    ------
    DataError
        If the columns differ in length.
    """

    run_key: tuple[str, ...]
    participant: tuple[str, ...]
    session: tuple[str | None, ...]
    run: tuple[int | None, ...]
    stimulus_id: tuple[str, ...]
    labels: FloatArray
    onset: FloatArray
    label_names: tuple[str, ...] = ()
    blocked: bool = False
    continuous: bool = False
    movie: tuple[str, ...] | None = None
    repeated_clip: BoolArray | None = None
    column: tuple[str, ...] | None = None
    content: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in _PER_TRIAL:
            values = getattr(self, name)
            if values is not None and len(values) != self.n_trials:
                raise DataError(
                    f"split: {name} has {len(values)} entries for {self.n_trials} trials; expected one each."
                )
        if self.label_names and len(self.label_names) != self.labels.shape[1]:
            raise DataError(
                f"split: {len(self.label_names)} label names for {self.labels.shape[1]} columns of labels."
            )

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.run_key)

    @cached_property
    def positive(self) -> BoolArray:
        """Labels known to be present, of shape (n, C)."""
        return np.asarray(self.labels == 1)

    @cached_property
    def negative(self) -> BoolArray:
        """Labels known to be absent, of shape (n, C)."""
        return np.asarray(self.labels == 0)

    @cached_property
    def stimulus(self) -> IntArray:
        """Code of each trial's stimulus, 0 to n_stimuli - 1, of shape (n,)."""
        if self.content is None:
            return codes(self.stimulus_id)
        pairs = zip(self.content, self.stimulus_id, strict=True)
        return codes([content or f"name {name}" for content, name in pairs])

    @cached_property
    def n_stimuli(self) -> int:
        """Number of different stimuli."""
        return int(self.stimulus.max(initial=-1)) + 1

    @cached_property
    def person(self) -> IntArray:
        """Code of each trial's participant, of shape (n,)."""
        return codes(self.participant)

    def label_name(self, label: int) -> str:
        """Return the name of a label, its number where it has none."""
        return self.label_names[label] if self.label_names else f"label {label + 1}"

    def take(self, rows: BoolArray) -> SplitDesign:
        """Return the design of some trials only."""
        if rows.all():
            return self
        index = np.flatnonzero(rows)
        return replace(self, **{name: _take(getattr(self, name), index) for name in _PER_TRIAL})


def codes(values: Sequence[str]) -> IntArray:
    """Give each different text a number, in sorted order."""
    return np.unique(np.asarray(values, dtype=str), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Groups:
    """Runs or movies that correspond between participants.

    Parameters
    ----------
    code : ndarray of int, shape (n,)
        Group of each trial.
    eligible : tuple of int
        Groups that may be held out, in the order of presentation.
    names : mapping of int to str
        What each group is called.
    """

    code: IntArray
    eligible: tuple[int, ...]
    names: Mapping[int, str]


def run_groups(design: SplitDesign) -> Groups:
    """Group trials into runs that correspond between participants.

    The run index where at least two indices are common to all participants, else the position of the run
    among the participant's own (sessions and runs in natural order). Runs that not all participants have are
    not eligible, unless fewer than two are common.
    """
    if None not in design.run:
        index = np.array(design.run, dtype=np.int64)
        common = _common(index, design.person)
        if len(common) > 1:
            return Groups(index, common, {int(g): f"run {g}" for g in np.unique(index)})
    position = _positions(design)
    common = _common(position, design.person)
    everyone = [int(g) for g in np.unique(position)]
    names = {g: f"run {g + 1} in order of acquisition" for g in everyone}
    return Groups(position, common if len(common) > 1 else tuple(everyone), names)


def movie_groups(design: SplitDesign) -> Groups:
    """Group samples by movie, in the order of first appearance."""
    assert design.movie is not None
    order = {name: k for k, name in enumerate(dict.fromkeys(design.movie))}
    code = np.array([order[name] for name in design.movie], dtype=np.int64)
    common = _common(code, design.person)
    names = {k: f"movie {name}" for name, k in order.items()}
    return Groups(code, common if len(common) > 1 else tuple(order.values()), names)


def _positions(design: SplitDesign) -> IntArray:
    keys: dict[str, dict[str, tuple[Any, ...]]] = {}
    for person, key, session, run in zip(
        design.participant, design.run_key, design.session, design.run, strict=True
    ):
        runs = keys.setdefault(person, {})
        if key not in runs:
            runs[key] = (_natural(session or ""), -1 if run is None else run, _natural(key))
    place = {
        key: k for runs in keys.values() for k, key in enumerate(sorted(runs, key=lambda key: runs[key]))
    }
    return np.array([place[key] for key in design.run_key], dtype=np.int64)


def _common(group: IntArray, person: IntArray) -> tuple[int, ...]:
    n_people = len(np.unique(person))
    pairs = np.unique(np.column_stack([group, person]), axis=0)
    values, counts = np.unique(pairs[:, 0], return_counts=True)
    return tuple(int(g) for g in values[counts == n_people])


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _take(values: Any, index: IntArray) -> Any:
    if values is None:
        return None
    return values[index] if isinstance(values, np.ndarray) else tuple(values[int(i)] for i in index)
