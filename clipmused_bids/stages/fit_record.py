"""What each step of a fit has read: noted where trials are read, so that no step need be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from clipmused_bids.evaluation.leakage import Fitted, Purpose
from clipmused_bids.records import BoolArray, FloatArray, IntArray, ResponseTable, SetName, Split
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import sets_of_runs

_BySet = dict[SetName, list[tuple[str, int | None]]]
ORDER: tuple[SetName, ...] = ("train", "val", "test", "none", "new")


@dataclass(frozen=True)
class TrialKey:
    """A trial of the dataset: ``Run.key``, its position among the trials of the run, its stimulus."""

    run_key: str
    position: int
    stimulus_id: str


@dataclass
class FitRecord:
    """Trials that each step has read, by the run they are of and their position in it.

    Parameters
    ----------
    people : sequence of ParticipantResponses
        Whose tables may be watched.
    """

    people: Sequence[ParticipantResponses] = ()
    _purpose: dict[str, Purpose] = field(default_factory=dict)
    _labels: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    _rows: dict[str, list[BoolArray]] = field(default_factory=dict)
    _stimuli: dict[str, set[str]] = field(default_factory=dict)

    def labels_of(self, catalogue: Catalogue, trials: Sequence[TrialKey], *, step: str) -> FloatArray:
        """Labels of trials, (n, C), for a step that chooses or fits something by them."""
        self._purpose[step] = "fit"
        self._labels.setdefault(step, set()).update((one.run_key, one.position) for one in trials)
        return catalogue.labels_of([one.stimulus_id for one in trials])

    def watched(
        self, tables: Sequence[ResponseTable], *, step: str, purpose: Purpose = "fit"
    ) -> tuple[ResponseTable, ...]:
        """Tables of all people that mark the rows a step reads of them."""
        self._purpose[step] = purpose
        seen = [np.zeros(table.n_rows, dtype=bool) for table in tables]
        self._rows[step] = seen
        return tuple(replace(table, seen=marks) for table, marks in zip(tables, seen, strict=True))

    def marks(self) -> dict[str, BoolArray]:
        """Rows of each person's table that each step has read so far, by step and person."""
        return {f"{step}.{p}": seen for step, people in self._rows.items() for p, seen in enumerate(people)}

    def mark(self, marks: Mapping[str, BoolArray]) -> None:
        """Add what ``marks`` gave in an earlier run, whose reading is not done again."""
        for name, seen in marks.items():
            step, p = name.rsplit(".", 1)
            self._rows[step][int(p)] |= seen

    def targets_loaded(self, stimulus_ids: Sequence[str], *, step: str) -> None:
        """Note the stimuli whose targets a method is handed; they guide training and validation."""
        self._purpose[step] = "tuning"
        self._stimuli.setdefault(step, set()).update(stimulus_ids)

    def fitted(self, plan: Plan, split: Split) -> tuple[Fitted, ...]:
        """What each step has read so far, in terms of the split's sets."""
        return tuple(
            Fitted(
                name=step,
                sets=tuple(name for name in ORDER if name in found),
                purpose=self._purpose[step],
                example=_example(found, self._purpose[step]),
            )
            for step, found in self._by_set(plan, split).items()
        )

    def summary(self, plan: Plan, split: Split) -> dict[str, Any]:
        """Trials (or stimuli) that each step has read, counted by set, as stored with a decoder."""
        return {
            step: {
                "purpose": self._purpose[step],
                **{name: len(found[name]) for name in ORDER if name in found},
            }
            for step, found in self._by_set(plan, split).items()
        }

    def sets_of_rows(self, plan: Plan, split: Split, rows: Sequence[IntArray]) -> dict[SetName, int]:
        """Count rows of the people's tables by the set they are in."""
        sets = sets_of_runs(split, plan.event_runs, plan.trials)
        found: _BySet = {}
        for person, index in zip(self.people, rows, strict=True):
            marks = np.zeros(len(person.run_key), dtype=bool)
            marks[index] = True
            _sort_in(found, _keys(person, marks), sets)
        return {name: len(found[name]) for name in ORDER if name in found}

    def _by_set(self, plan: Plan, split: Split) -> dict[str, _BySet]:
        """Which trials or stimuli each step has read, by set; a set that was not read is not there."""
        sets = sets_of_runs(split, plan.event_runs, plan.trials)
        found: dict[str, _BySet] = {step: {} for step in self._purpose}
        for step, keys in self._labels.items():
            _sort_in(found[step], sorted(keys), sets)
        for step, people in self._rows.items():
            for person, marks in zip(self.people, people, strict=True):
                _sort_in(found[step], _keys(person, marks), sets)
        homes = _homes(plan, sets) if self._stimuli else {}
        for step, stimuli in self._stimuli.items():
            for name in sorted(stimuli):
                found[step].setdefault(homes.get(name, "new"), []).append((name, None))
        return found


def _sort_in(found: _BySet, keys: Iterable[tuple[str, int]], sets: Mapping[str, tuple[SetName, ...]]) -> None:
    for run_key, position in keys:
        found.setdefault(sets[run_key][position], []).append((run_key, position))


def _keys(person: ParticipantResponses, marks: BoolArray) -> list[tuple[str, int]]:
    """Run and position of the rows of a participant that are marked."""
    runs = person.run_key
    numbers = np.concatenate([file.trial_number for file in person.stored])
    return [(runs[row], int(numbers[row]) - 1) for row in np.flatnonzero(marks).tolist()]


def _homes(plan: Plan, sets: Mapping[str, tuple[SetName, ...]]) -> dict[str, SetName]:
    """Set of each stimulus; of several the one that may be learnt from most."""
    homes: dict[str, SetName] = {}
    for run_key, names in sets.items():
        for stimulus, name in zip(plan.trials[run_key].stimulus_id, names, strict=True):
            homes[stimulus] = min(homes.get(stimulus, "new"), name, key=ORDER.index)
    return homes


def _example(found: _BySet, purpose: Purpose) -> str:
    """Count what should not have been read, and name the first of it."""
    outside = Fitted("", tuple(found), purpose).outside
    read = [key for name in outside for key in found[name]]
    if not read:
        return ""
    name, position = read[0]
    return f"{len(read)}; first: {name}{'' if position is None else f' trial {position + 1}'}"
