"""Trials of one participant: in which set they are, and what was left out for which reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clipmused_bids.report.blocks import Block, Paragraph, Table
from clipmused_bids.report.inputs.wording import counted, share

_SETS = {
    "train": "training",
    "val": "validation",
    "test": "test: seen by no fit",
    "none": "in no set",
    "new": "not in the split",
}


@dataclass(frozen=True)
class SetFacts:
    """Trials of one set, or of one fold of a cross-validation."""

    name: str
    n_trials: int
    n_stimuli: int
    n_runs: int


@dataclass(frozen=True)
class Exclusion:
    """What was left out, for one reason.

    Parameters
    ----------
    what : str
        ``rows of the events``, ``trials``, ``stimuli``, ``runs``.
    count : int
    reason : str
    consequence : str
        What that means for what was fitted and scored.
    """

    what: str
    count: int
    reason: str
    consequence: str


def set_blocks(sets: Sequence[SetFacts], *, rule: str, regime: str, folds: bool) -> list[Block]:
    """Trials by set, with the rule that made the split and what a test score speaks about."""
    total = sum(one.n_trials for one in sets)
    speaks = f" A score of the test trials speaks about {regime}." if regime else ""
    how = f"The split was made by the rule “{rule}”.{speaks}"
    if folds:
        how += " Each fold is tested by a decoder that was fitted to the others."
    rows = [
        [
            f"fold {one.name}" if folds and one.name not in _SETS else _SETS[one.name],
            f"{one.n_trials:,}",
            share(one.n_trials, total),
            f"{one.n_stimuli:,}",
            f"{one.n_runs}",
        ]
        for one in sets
    ]
    blocks: list[Block] = [
        Paragraph(how),
        Table(
            caption="Trials with a response, by set. A stimulus or a run can be in several sets.",
            columns=("set", "trials", "share", "stimuli", "runs"),
            rows=rows,
            numeric=(False, True, True, True, True),
        ),
    ]
    if not folds and not any(one.name == "test" for one in sets):
        blocks.append(
            Paragraph("This participant has no test trials: nothing of it is scored.", tone="warning")
        )
    return blocks


def exclusion_blocks(exclusions: Sequence[Exclusion], *, n_rows: int) -> list[Block]:
    """What was left out by reason; says so where nothing was."""
    if not exclusions:
        rows = f" Each of {counted(n_rows, 'row')} of the events belongs to a trial." if n_rows else ""
        return [Paragraph(f"Nothing was left out.{rows}")]
    return [
        Table(
            caption=f"What was left out, by reason; the events have {counted(n_rows, 'row')}.",
            columns=("count", "of", "reason", "what it means"),
            rows=[[f"{one.count:,}", one.what, one.reason, one.consequence] for one in exclusions],
        )
    ]
