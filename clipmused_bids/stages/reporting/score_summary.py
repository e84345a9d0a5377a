"""The first screen of a participant's page: how many trials, how well, against what, and what to beware of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.dataset.outputs.weights import model_path
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.report.blocks import Block, Link, Paragraph
from clipmused_bids.report.scores import difference_text, headline_text
from clipmused_bids.stages.reporting.score_files import DecodedPerson, decoded_person
from clipmused_bids.stages.reporting.score_remarks import remarks
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.scored import LabelledPredictions


def participant_summary(view: ReportView, participant: str) -> Sequence[Block]:
    """Sum up a participant in a few sentences and boxes."""
    blocks: list[Block] = []
    error = view.errors.get(participant)
    if error is not None:
        blocks.append(Paragraph(f"This participant failed in this run: {error}", tone="error"))
    try:
        one = decoded_person(view, participant)
    except ClipMusedError as broken:
        return [*blocks, Paragraph(f"Scores could not be read: {broken}", tone="error")]
    if one is None or one.predictions is None:
        return [*blocks, Paragraph(_undecoded(view, participant, trained=one is not None))]
    blocks.append(Paragraph(_decoded(one, one.predictions)))
    blocks += _scores(one)
    found = remarks(one)
    if found:
        tone, text = found[0]
        more = f" ({len(found) - 1} more below, under How it decodes.)" if len(found) > 1 else ""
        blocks.append(Paragraph(text + more, tone=tone))
    return blocks


def group_link(view: ReportView) -> list[Link]:
    """Address of the group's page, where there is one, or a run at that level writes it, now or at the same time."""
    page = view.tree.report(None)
    of_group = model_path(view.tree.model_folder(view.model_label), participant=None).exists()
    there = view.plan.config.level == "group" or of_group or page.exists()
    return [Link("Group report", page.name)] if there else []


def _undecoded(view: ReportView, participant: str, *, trained: bool) -> str:
    n_runs = len(view.plan.runs_of(participant))
    runs = f"{n_runs} run{'' if n_runs == 1 else 's'}"
    if trained:
        return f"{runs}. A decoder was trained; nothing was decoded by it yet."
    return f"{runs}. No decoder {view.model_label} knows this participant yet, so nothing is decoded."


def _decoded(one: DecodedPerson, predictions: LabelledPredictions) -> str:
    known = ~np.isnan(predictions.probabilities).all(axis=1)
    names = {predictions.stimulus_id[k] for k in np.flatnonzero(known)} - {""}
    of = f" of {len(names):,} stimuli" if names else ""
    method = one.config.get("variant", one.config["method"])
    text = f"{int(known.sum()):,} trials{of} were decoded by {method}"
    tested = np.flatnonzero(predictions.test)
    if one.scores is None or len(tested) == 0:
        return f"{text}."
    scored = len({predictions.stimulus_id[k] for k in tested})
    folds = f", over {one.scores.n_folds} folds" if one.scores.n_folds else ""
    of = f"{len(tested):,} held-out trials of {scored:,} stimuli{folds}"
    return f"{text}. Scores are of the {of} ({one.scores.regime})."


def _scores(one: DecodedPerson) -> list[Block]:
    if one.scores is None:
        return [Paragraph("There are no scores: see How it decodes.", tone="note")]
    blocks: list[Block] = []
    if one.scores.headline is not None:
        blocks.append(Paragraph(headline_text(one.scores.headline)))
    if one.found is not None:
        text, tone = difference_text(one.found)
        blocks.append(Paragraph(text, tone=tone))
    else:
        blocks.append(Paragraph(one.no_difference))
    return blocks
