"""The pages of a run: which sections they have, and where they are written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from clipmused_bids import __version__
from clipmused_bids.dataset.files.atomic import create_bytes, write_bytes
from clipmused_bids.dataset.files.contents import read_bytes
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.long_work import each_of
from clipmused_bids.report.blocks import Block, Page, Paragraph, Section
from clipmused_bids.report.page import is_about, render
from clipmused_bids.stages.reporting.group_comparison import (
    ablations_section,
    comparison_section,
    folds_section,
)
from clipmused_bids.stages.reporting.group_people import labels_section, participants_section
from clipmused_bids.stages.reporting.group_provenance import provenance_section
from clipmused_bids.stages.reporting.group_summary import group_summary
from clipmused_bids.stages.reporting.group_training import training_section
from clipmused_bids.stages.reporting.inputs.section import inputs_of_participant
from clipmused_bids.stages.reporting.maps import maps_of_participant
from clipmused_bids.stages.reporting.methods import ANCHOR, TITLE, group_methods, participant_methods
from clipmused_bids.stages.reporting.score_section import scores_section
from clipmused_bids.stages.reporting.score_summary import group_link, participant_summary
from clipmused_bids.stages.reporting.token_geometry import token_geometry
from clipmused_bids.stages.reporting.tokens import participant_tokens
from clipmused_bids.stages.reporting.view import ReportView

logger = logging.getLogger(__name__)

ParticipantSection = Callable[[ReportView, str], Section | None]
GroupSection = Callable[[ReportView], Section | None]

_FOOTER = f"Written by clipmused-bids {__version__}. A research instrument, not a medical device."

# In the order of the page. None: there is nothing to say, and nothing to miss.
PARTICIPANT_SECTIONS: tuple[tuple[str, str, ParticipantSection], ...] = (
    ("inputs", "What went in", inputs_of_participant),
    ("scores", "How it decodes", scores_section),
    ("tokens", "What the tokens learned", participant_tokens),
    ("maps", "Where it looks", maps_of_participant),
    (ANCHOR, TITLE, participant_methods),
)
GROUP_SECTIONS: tuple[tuple[str, str, GroupSection], ...] = (
    ("comparison", "Methods compared", comparison_section),
    ("participants", "Participants", participants_section),
    ("labels", "Labels", labels_section),
    ("training", "Training", training_section),
    ("token-geometry", "Token geometry", token_geometry),
    ("ablations", "Ablations", ablations_section),
    ("folds", "Folds", folds_section),
    (ANCHOR, TITLE, group_methods),
    ("provenance", "Provenance", provenance_section),
)


def write_reports(view: ReportView) -> None:
    """Write the page of each participant of a run, and at level ``group`` that of all.

    A section whose files cannot be read says so and does not keep the others away. A run that has only trained a
    decoder leaves the pages that are about another: it has nothing to tell of these people yet.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    written = []
    with each_of(view.people, "Reports", "page") as people:
        for participant in people:
            path = view.tree.report(participant)
            html = render(participant_page(view, participant))
            # Of jobs at the same time, those that decode stand.
            if not _gives_way(view, participant):
                write_bytes(path, html)
            elif create_bytes(path, html) == "taken":
                continue
            written.append(path.name)
    if view.plan.config.level == "group":
        write_bytes(view.tree.report(None), render(group_page(view)))
        written.append(view.tree.report(None).name)
    logger.info("Reports: %s.", ", ".join(written))


def _gives_way(view: ReportView, participant: str) -> bool:
    """Whether this run has only trained, and its page of somebody gives way to one about another decoder."""
    actions, path = set(view.plan.config.actions), view.tree.report(participant)
    if "train" not in actions or actions & {"decode", "evaluate"} or participant in view.errors:
        return False
    return not (path.exists() and is_about(read_bytes(path), view.model_label))


def participant_page(view: ReportView, participant: str) -> Page:
    """Page of one participant."""
    found = (
        _made(partial(make, view, participant), anchor=anchor, title=title)
        for anchor, title, make in PARTICIPANT_SECTIONS
    )
    return Page(
        title=f"sub-{participant}",
        subtitle=_subtitle(view),
        summary=participant_summary(view, participant),
        sections=[section for section in found if section is not None],
        footer=_FOOTER,
        links=group_link(view),
        model_label=view.model_label,
    )


def group_page(view: ReportView) -> Page:
    """Page of all participants."""
    found = (_made(partial(make, view), anchor=anchor, title=title) for anchor, title, make in GROUP_SECTIONS)
    return Page(
        title="Group report",
        subtitle=_subtitle(view),
        summary=_group_summary(view),
        sections=[section for section in found if section is not None],
        footer=_FOOTER,
        model_label=view.model_label,
    )


def _made(make: Callable[[], Section | None], *, anchor: str, title: str) -> Section | None:
    """Return a section, or what stands in its place where something it reads is broken."""
    try:
        return make()
    except ClipMusedError as error:
        logger.warning("Report, section %s: %s", title, error)
        return Section(anchor, title, [Paragraph(f"This part could not be made: {error}", tone="error")])


def _group_summary(view: ReportView) -> Sequence[Block]:
    try:
        return group_summary(view)
    except ClipMusedError as error:
        logger.warning("Report, summary of the group: %s", error)
        return [Paragraph(f"This summary could not be made: {error}", tone="error")]


def _subtitle(view: ReportView) -> str:
    return f"{view.plan.config.bids_dir.resolve().name}, model label {view.model_label}"
