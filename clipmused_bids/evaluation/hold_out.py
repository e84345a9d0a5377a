"""Proposals of a test set: whole groups, whole stimuli, or the end of each run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipmused_bids.evaluation.split_design import Groups, SplitDesign, codes
from clipmused_bids.records import BoolArray

GAP = 15.0  # s between samples of one continuous run in different sets
SMALLEST_TEST = 20  # stimuli
LARGEST_TEST_SHARE = 0.3


@dataclass(frozen=True)
class Proposal:
    """A test set, and how validation data are to be taken from what remains.

    Parameters
    ----------
    rule : str
        Name of the rule.
    reason : str
        The rule in words, with its numbers.
    test, left_out : ndarray of bool, shape (n,)
    unit : {"group", "stimulus", "tail"}
        Validation takes whole groups (runs, movies), whole stimuli, or the last part of each run.
    groups : Groups, optional
        For ``unit`` "group".
    next_groups : tuple of int
        Groups to try for validation, the best first.
    validation : ndarray of bool, shape (n,), optional
        Given where the rule or the dataset names the validation set itself.
    """

    rule: str
    reason: str
    test: BoolArray
    left_out: BoolArray
    unit: Literal["group", "stimulus", "tail"]
    groups: Groups | None = None
    next_groups: tuple[int, ...] = ()
    validation: BoolArray | None = None


def each_group(design: SplitDesign, groups: Groups, *, rule: str, words: str) -> Iterator[Proposal]:
    """Propose the last eligible group, then the ones before it."""
    for held in reversed(groups.eligible):
        yield whole_groups(design, groups, test=[held], rule=rule, reason=f"{words}, {groups.names[held]}")


def whole_groups(design: SplitDesign, groups: Groups, *, test: list[int], rule: str, reason: str) -> Proposal:
    """Hold groups out, without their repeated clips; validation is the group before them, else another."""
    place = groups.eligible.index
    before = [
        g for g in reversed(groups.eligible) if g not in test and place(g) < place(min(test, key=place))
    ]
    after = [g for g in groups.eligible if g not in test and g not in before]
    held = np.isin(groups.code, test)
    return Proposal(
        rule=rule,
        reason=reason,
        test=held & ~repeated_clips(design),
        left_out=held & repeated_clips(design),
        unit="group",
        groups=groups,
        next_groups=(*before, *after),
    )


def whole_stimuli(
    design: SplitDesign, chosen: BoolArray, *, rule: str, number: int, words: str
) -> Proposal | str:
    """Hold stimuli out, if they are neither too few nor too many; ``chosen`` has shape (n_stimuli,)."""
    if chosen.sum() < SMALLEST_TEST or chosen.mean() > LARGEST_TEST_SHARE:
        return (
            f"{chosen.sum()} of {len(chosen)} stimuli are {words}; "
            f"expected at least {SMALLEST_TEST} and at most {LARGEST_TEST_SHARE:.0%}"
        )
    return Proposal(
        rule=rule,
        reason=f"rule {number}: {words}",
        test=chosen[design.stimulus],
        left_out=np.zeros(design.n_trials, dtype=bool),
        unit="stimulus",
    )


def end_of_each_run(design: SplitDesign, *, rule: str, reason: str) -> Proposal:
    """Hold out the last fifth of each run."""
    test = last_part(design, np.ones(design.n_trials, dtype=bool), share=0.2)
    repeated = repeated_clips(design)
    return Proposal(rule, reason, test=test & ~repeated, left_out=test & repeated, unit="tail")


def last_part(design: SplitDesign, rows: BoolArray, *, share: float) -> BoolArray:
    """Take the last part of each run among ``rows``."""
    last = np.zeros(design.n_trials, dtype=bool)
    run = codes(design.run_key)
    for key in np.unique(run[rows]):
        here = np.flatnonzero(rows & (run == key))
        here = here[np.argsort(design.onset[here], kind="stable")]
        last[here[len(here) - int(np.ceil(share * len(here))) :]] = True
    return last


def repeated_clips(design: SplitDesign) -> BoolArray:
    """Mark samples of clips that are shown more than once, shape (n,)."""
    if design.repeated_clip is None:
        return np.zeros(design.n_trials, dtype=bool)
    return design.repeated_clip
