"""What stands on a page, for tests to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clipmused_bids.report.blocks import Block, Details, Paragraph, Section, Table
from clipmused_bids.stages.reporting.score_section import scores_section
from clipmused_bids.stages.reporting.view import ReportView


def flat(blocks: Sequence[Block]) -> list[Block]:
    found: list[Block] = []
    for block in blocks:
        found += [block, *flat(block.blocks)] if isinstance(block, Details) else [block]
    return found


def said(blocks: Sequence[Block]) -> str:
    return "\n".join(block.text for block in flat(blocks) if isinstance(block, Paragraph))


def tables(section: Section) -> list[Table]:
    return [block for block in flat(section.blocks) if isinstance(block, Table)]


def made(view: ReportView, participant: str = "01") -> Section:
    section = scores_section(replace(view, kept={}), participant)
    assert section is not None
    return section
