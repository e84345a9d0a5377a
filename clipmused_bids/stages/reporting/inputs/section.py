"""The section of a participant's page that says what went in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.report.blocks import Block, Figure, Paragraph, Section
from clipmused_bids.report.inputs.runs import motion_blocks, run_blocks
from clipmused_bids.report.inputs.trials import exclusion_blocks, set_blocks
from clipmused_bids.report.inputs.wording import counted
from clipmused_bids.stages.reporting.inputs.runs import run_facts
from clipmused_bids.stages.reporting.inputs.stimuli import stimuli_blocks
from clipmused_bids.stages.reporting.inputs.stored import StoredRun, stored_runs
from clipmused_bids.stages.reporting.inputs.trials import (
    by_fold,
    exclusions,
    set_facts,
    set_of_trials,
    shown_stimuli,
)
from clipmused_bids.stages.reporting.inputs.voxels import voxel_blocks
from clipmused_bids.stages.reporting.view import ReportView

ANCHOR, TITLE = "inputs", "What went in"


def inputs_of_participant(view: ReportView, participant: str) -> Section:
    """Runs, trials, exclusions, stimuli, motion and maps of voxel quality of one participant.

    Raises
    ------
    ClipMusedError
        If a stored map is broken.
    """
    runs = stored_runs(view, participant)
    if not runs:
        return Section(
            ANCHOR,
            TITLE,
            [Paragraph("Nothing went in: no run of this participant could be read.", tone="warning")],
        )
    facts = run_facts(view.plan, runs)
    try:
        sets: Mapping[str, Sequence[str]] = set_of_trials(view, runs)
        of_sets = _sets(view, runs, sets)
    except ClipMusedError as error:
        sets = {one.run.key: ("new",) * one.n_trials for one in runs}
        of_sets = [Paragraph(f"The split does not fit these trials: {error}", tone="error")]
    n_rows = sum(view.plan.trials[one.run.key].n_rows for one in runs)
    blocks: list[Block] = [Paragraph(_lead(view, runs)), *run_blocks(facts), *of_sets]
    blocks += exclusion_blocks(exclusions(view, participant, runs), n_rows=n_rows)
    if view.catalogue is None:
        blocks.append(
            Paragraph("Stimuli were not looked at: decoding alone needs neither pictures nor labels.")
        )
    else:
        blocks += stimuli_blocks(view, view.catalogue, runs, sets)
    blocks += _kept(view, participant, motion_blocks(facts), name="motion")
    blocks += voxel_blocks(view, runs)
    return Section(ANCHOR, TITLE, blocks)


def _lead(view: ReportView, runs: Sequence[StoredRun]) -> str:
    n_trials = sum(one.n_trials for one in runs)
    n_stimuli = len(shown_stimuli(view.plan, runs))
    n_sessions = len({one.run.session for one in runs})
    read = counted(len(runs), "run") + (f" of {n_sessions} sessions" if n_sessions > 1 else "")
    stimuli = f" of {counted(n_stimuli, 'stimulus', 'stimuli')}" if n_stimuli else ""
    text = f"{read} with {counted(n_trials, 'trial')}{stimuli} were read."
    have = sum(len(one.rows) for one in runs if one.responses is not None)
    if not any(one.responses is not None for one in runs):
        return f"{text} No responses are stored yet."
    if have == n_trials:
        return f"{text} All of the trials have a response ({view.plan.kind})."
    left = counted(n_trials - have, "has none", "have none")
    return f"{text} {have:,} of the trials have a response ({view.plan.kind}), {left}."


def _sets(view: ReportView, runs: Sequence[StoredRun], sets: Mapping[str, Sequence[str]]) -> list[Block]:
    if view.split is None:
        return [Paragraph("There is no split yet: trials are divided when a decoder is trained.")]
    return set_blocks(
        set_facts(view, runs, sets), rule=view.split.rule, regime=view.split.regime, folds=by_fold(view.split)
    )


def _kept(view: ReportView, participant: str, blocks: Sequence[Block], *, name: str) -> Sequence[Block]:
    """Write the figure among these blocks beside the page as well, as a file of its own."""
    for figure in (block for block in blocks if isinstance(block, Figure)):
        write_bytes(view.tree.figures(participant) / f"sub-{participant}_desc-{name}_runs.svg", figure.image)
    return blocks
