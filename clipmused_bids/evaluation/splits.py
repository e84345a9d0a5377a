"""Which trials train, validate and test: rules, guards, and the regime that follows from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.evaluation.assignment import SET_NAMES, Assignment, assign, count_sets, split_rows
from clipmused_bids.evaluation.hold_out import Proposal
from clipmused_bids.evaluation.split_design import SplitDesign
from clipmused_bids.evaluation.split_rules import RULES, Outcome, by_column, by_named_runs, by_participants
from clipmused_bids.evaluation.validation import complete
from clipmused_bids.records import BoolArray, IntArray, Split

__all__ = ["Assignment", "SplitDesign", "assign", "count_sets", "make_split", "regime_of"]

_TRAIN, _VAL, _TEST, _NONE = range(len(SET_NAMES))

log = logging.getLogger(__name__)


def make_split(design: SplitDesign, *, rule: str = "auto", seed: int) -> Split:
    """Divide the trials of all participants into training, validation and test sets.

    ``auto`` takes the first of six rules that fits: a column of the dataset; whole movies or their runs;
    the same run of all participants (blocks, conditions, few stimuli); stimuli shown more often than usual;
    stimuli several participants saw; 80/10/10 by stimulus. A rule is passed over if its test set has no label
    with a positive and a negative trial, or leaves a label without a positive training trial; the reason then
    names it. Validation data come from the training side, by the same unit (run, movie, stimulus) where that
    is possible.

    Parameters
    ----------
    design : SplitDesign
        All participants. Trials without stimulus get no row.
    rule : str
        ``auto``, ``runs:8``, ``runs:8,9``, ``column:NAME`` (the column's values are ``design.column``),
        ``participants:05``, ``participants:05,06`` or ``participants:05+stimuli``.
        Under a rule named by the user labels may lose all training trials.
    seed : int
        Decides ties of the stratification.

    Returns
    -------
    Split
        One row for each pair of run and stimulus.

    Raises
    ------
    UsageError
        If ``rule`` is none of these.
    SelectionError
        If no participant has a run named by the user.
    DataError
        If no rule gives a usable split; says why each failed.
    """
    known = design.take(np.asarray(design.stimulus_id, dtype=str) != "")
    if known.n_trials == 0:
        raise DataError("split: no trial has a known stimulus or condition.")
    rng = np.random.default_rng(seed)
    refused: dict[str, str] = {}
    for name, outcome in _outcomes(known, rule, rng):
        result = outcome
        if isinstance(outcome, Proposal):
            result = complete(known, outcome, guard="labels" if rule == "auto" else "scores", rng=rng)
        if isinstance(result, Proposal):
            return _as_split(known, result, passed_over=_passed_over(refused))
        # Of several proposals of one rule, the first is the one a reader expects.
        log.debug("split: %s does not serve: %s", name, result)
        refused.setdefault(f"{name}*" if isinstance(outcome, Proposal) else name, result)
    reasons = "".join(
        f"\n  {why if name.endswith('*') else f'{name}: {why}'}" for name, why in refused.items()
    )
    raise DataError(
        f"split: {rule} gives no usable training, validation and test sets.{reasons}",
        hint="--split FILE with the columns of split.tsv, or --split runs:N",
    )


def regime_of(stimulus: IntArray, participant: IntArray, *, train: BoolArray, test: BoolArray) -> str:
    """Say what a score of the test trials speaks about.

    Parameters
    ----------
    stimulus, participant : ndarray of int, shape (n,)
        Codes of each trial.
    train, test : ndarray of bool, shape (n,)
        ``train`` includes validation trials: what is chosen on them has been seen.
    """
    new_stimuli = not np.isin(stimulus[test], stimulus[train]).any()
    new_people = not np.isin(participant[test], participant[train]).any()
    if new_people:
        return "unseen participant and unseen stimuli" if new_stimuli else "unseen participant"
    return "unseen stimuli" if new_stimuli else "unseen trials of seen stimuli"


def _outcomes(design: SplitDesign, rule: str, rng: np.random.Generator) -> Iterator[tuple[str, Outcome]]:
    if rule == "auto":
        for number, each in enumerate(RULES, start=1):
            for outcome in each(design, rng):
                yield f"rule {number}", outcome
    elif rule.startswith("runs:"):
        yield rule, by_named_runs(design, rule.removeprefix("runs:"))
    elif rule.startswith("participants:"):
        yield rule, by_participants(design, rule.removeprefix("participants:"))
    elif rule.startswith("column:"):
        for outcome in by_column(design, rng):
            named = isinstance(outcome, Proposal)
            yield rule, replace(outcome, reason=f"--split {rule}") if named else outcome  # type: ignore[type-var]
    else:
        raise UsageError(
            f"--split {rule}: unknown rule.",
            hint="auto, runs:8, runs:8,9, column:NAME, participants:05, or a file",
        )


def _passed_over(refused: dict[str, str]) -> str:
    """Rules that fitted but did not pass the guard."""
    return "".join(f"; passed over: {why}" for name, why in refused.items() if name.endswith("*"))


def _set_codes(proposal: Proposal) -> IntArray:
    sets = np.full(len(proposal.test), _TRAIN, dtype=np.int64)
    sets[proposal.test] = _TEST
    if proposal.validation is not None:
        sets[proposal.validation] = _VAL
    sets[proposal.left_out] = _NONE
    return sets


def _as_split(design: SplitDesign, proposal: Proposal, *, passed_over: str) -> Split:
    sets = _set_codes(proposal)
    rows, names = split_rows(design, sets)
    why = {
        _TRAIN: f"the rest{passed_over}",
        _VAL: f"validation data for {proposal.reason}{passed_over}",
        _TEST: f"{proposal.reason}{passed_over}",
        _NONE: f"left out: a repeated clip, too close to another set, or named so{passed_over}",
    }
    seen = (sets == _TRAIN) | (sets == _VAL)
    split = Split(
        run_key=tuple(design.run_key[i] for i in rows.tolist()),
        stimulus_id=names,
        set_name=tuple(SET_NAMES[k] for k in sets[rows].tolist()),
        reason=tuple(why[k] for k in sets[rows].tolist()),
        rule=proposal.rule,
        regime=regime_of(design.stimulus, design.person, train=seen, test=sets == _TEST),
    )
    counts = ", ".join(f"{name} {n}" for name, n in count_sets(SET_NAMES[k] for k in sets.tolist()).items())
    log.info("split: %s; regime: %s; trials: %s", proposal.reason, split.regime, counts)
    return split
