"""What people read, at the end of a run or by itself: model cards, methods text, reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from logging.handlers import MemoryHandler

from clipmused_bids.errors import ExitCode, MissingInputError
from clipmused_bids.stages.reporting.cards import write_cards
from clipmused_bids.stages.reporting.methods import write_methods
from clipmused_bids.stages.reporting.pages import write_reports
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.run_log import run_log

logger = logging.getLogger(__name__)


def write_texts(view: ReportView) -> None:
    """Write what people read, from the files that a run has left; reports last, since they show the others.

    Raises
    ------
    MissingInputError, DataError
        If a stored decoder or its scores are broken.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    write_cards(view)
    write_methods(view)
    write_reports(view)


def tell(view: ReportView, *, command_line: Sequence[str], early: MemoryHandler) -> ExitCode:
    """Write reports, or the methods text, from what is there; nothing else is done.

    Raises
    ------
    MissingInputError
        If there is no output folder yet.
    """
    config, tree = view.plan.config, view.tree
    if not tree.root.is_dir():
        flag = "--reports-only" if config.reports_only else "--boilerplate-only"
        raise MissingInputError(
            f"{tree.root}: nothing was made there yet.", hint=f"the same command without {flag}"
        )
    with run_log(tree, replace(config, preset=view.plan.preset), command_line=command_line, early=early):
        if config.boilerplate_only:
            write_methods(view)
            logger.info("Methods text: %s, with its BibTeX beside it.", tree.citation)
        if config.reports_only:
            write_cards(view)
            write_reports(view)
    return ExitCode.OK
