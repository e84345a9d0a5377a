"""The guard every split must pass, and the validation set that completes one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from clipmused_bids.evaluation.hold_out import GAP, Proposal, last_part, repeated_clips
from clipmused_bids.evaluation.split_design import SplitDesign, codes
from clipmused_bids.evaluation.split_rules import Outcome, stimulus_labels
from clipmused_bids.evaluation.stratify import stratify
from clipmused_bids.records import BoolArray, IntArray

VALIDATION_SHARE = 0.1


def complete(
    design: SplitDesign, proposal: Proposal, *, guard: Literal["labels", "scores"], rng: np.random.Generator
) -> Outcome:
    """Add a validation set to a proposal that passes the guard, or say why there is none.

    Parameters
    ----------
    design : SplitDesign
    proposal : Proposal
    guard : {"labels", "scores"}
        ``labels``: the test set has a label that can be scored, and no label loses its last training trial.
        ``scores``: the first only (the user named the sets).
    rng : numpy.random.Generator

    Returns
    -------
    Proposal or str
        With ``validation``, and with ``left_out`` holding every trial that is in no set.
    """
    if not _scorable(design, proposal.test):
        return f"{proposal.reason}: no label has both a positive and a negative test trial"
    rest = ~proposal.test & ~proposal.left_out
    named = rest if proposal.validation is None else rest & ~proposal.validation
    lost = _lost_labels(design, named)
    if guard == "labels" and len(lost):
        return f"{proposal.reason}: no training trial is left for {_label_list(design, lost)}"
    for candidate, unusable in _candidates(design, proposal, rest, rng):
        train, validation = rest & ~candidate & ~unusable, candidate
        if design.continuous:
            validation = validation & ~near(design, validation, others=proposal.test)
            train = train & ~near(design, train, others=proposal.test | validation)
        if _is_usable(design, proposal, train, validation, n_lost=len(lost)):
            return replace(proposal, validation=validation, left_out=~proposal.test & ~train & ~validation)
    return f"{proposal.reason}: no validation trials can be taken without a label losing its training trials"


def near(design: SplitDesign, rows: BoolArray, *, others: BoolArray) -> BoolArray:
    """Find samples among ``rows`` that lie less than `GAP` seconds from one of ``others`` in the same run."""
    found = np.zeros(design.n_trials, dtype=bool)
    run = codes(design.run_key)
    # Runs are laid end to end, farther apart than the gap, so that one search serves all of them.
    length = float(np.ptp(design.onset)) + 2 * GAP
    time = design.onset - design.onset.min() + run * length
    other = np.sort(time[others])
    if len(other) == 0:
        return found
    index = np.flatnonzero(rows)
    place = np.searchsorted(other, time[index])
    after = np.abs(other[np.minimum(place, len(other) - 1)] - time[index])
    before = np.abs(time[index] - other[np.maximum(place - 1, 0)])
    found[index] = np.minimum(after, before) < GAP - 1e-6
    return found


def _candidates(
    design: SplitDesign, proposal: Proposal, rest: BoolArray, rng: np.random.Generator
) -> Iterator[tuple[BoolArray, BoolArray]]:
    """Yield validation trials, and trials no set can use with them, the best choice first."""
    nothing = np.zeros(design.n_trials, dtype=bool)
    repeated = repeated_clips(design)
    if proposal.validation is not None:
        yield proposal.validation, nothing
        return
    if proposal.unit == "group" and proposal.groups is not None:
        for group in proposal.next_groups:
            held = rest & (proposal.groups.code == group)
            yield held & ~repeated, held & repeated
    if proposal.unit == "tail" or design.continuous:
        last = last_part(design, rest, share=VALIDATION_SHARE / 0.8)
        yield last & ~repeated, last & repeated
        return
    if proposal.unit == "group":
        yield _stratified_trials(design, rest, rng), nothing
    yield _stratified_stimuli(design, rest, rng), nothing


def _stratified_stimuli(design: SplitDesign, rest: BoolArray, rng: np.random.Generator) -> BoolArray:
    stimuli = np.unique(design.stimulus[rest])
    shares = (1 - VALIDATION_SHARE, VALIDATION_SHARE)
    part = stratify(stimulus_labels(design)[stimuli], shares=shares, rng=rng)
    return np.asarray(rest & np.isin(design.stimulus, stimuli[part == 1]))


def _stratified_trials(design: SplitDesign, rest: BoolArray, rng: np.random.Generator) -> BoolArray:
    people = np.eye(int(design.person.max()) + 1, dtype=bool)[design.person[rest]]
    shares = (1 - VALIDATION_SHARE, VALIDATION_SHARE)
    part = stratify(np.column_stack([design.positive[rest], people]), shares=shares, rng=rng)
    chosen = np.zeros(design.n_trials, dtype=bool)
    chosen[np.flatnonzero(rest)[part == 1]] = True
    return chosen


def _is_usable(
    design: SplitDesign, proposal: Proposal, train: BoolArray, validation: BoolArray, *, n_lost: int
) -> bool:
    if not train.any() or not _scorable(design, validation):
        return False
    if len(_lost_labels(design, train)) > n_lost:
        return False
    if proposal.validation is not None:
        return True
    # Where the test stimuli are new, validation must not speak about stimuli that were trained on.
    test = design.stimulus[proposal.test]
    if np.isin(test, design.stimulus[train]).any():
        return True
    overlap = np.isin(design.stimulus[validation], design.stimulus[train]).any()
    return not overlap and not np.isin(test, design.stimulus[validation]).any()


def _scorable(design: SplitDesign, rows: BoolArray) -> bool:
    return bool((design.positive[rows].any(axis=0) & design.negative[rows].any(axis=0)).any())


def _lost_labels(design: SplitDesign, train: BoolArray) -> IntArray:
    return np.flatnonzero(design.positive.any(axis=0) & ~design.positive[train].any(axis=0))


def _label_list(design: SplitDesign, labels: IntArray) -> str:
    names = ", ".join(design.label_name(int(label)) for label in labels[:5])
    return (
        f"{len(labels)} label{'s' if len(labels) > 1 else ''} ({names}{', ...' if len(labels) > 5 else ''})"
    )
