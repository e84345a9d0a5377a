"""What all parts of a report look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Split
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan


@dataclass(frozen=True)
class ReportView:
    """A run's dataset and what the output folder holds about it.

    Parameters
    ----------
    plan : Plan
        With the participants that failed.
    tree : OutputTree
    catalogue : Catalogue or None
        None where the stimuli were not looked at (decoding alone).
    split : Split or None
        None where nothing was ever held out.
    errors : mapping of str to ClipMusedError
        Participants that failed in this run, and why.
    kept : dict
        What a part of the page being written has read, for the other parts of it; by any key.
    """

    plan: Plan
    tree: OutputTree
    catalogue: Catalogue | None
    split: Split | None
    errors: Mapping[str, ClipMusedError]
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def model_label(self) -> str:
        """Label of the decoder that the reports are about."""
        return self.plan.config.model_label

    @property
    def people(self) -> tuple[str, ...]:
        """Participants that get a page: the plan's, and those that failed."""
        return tuple(dict.fromkeys((*self.plan.participants, *self.errors)))
