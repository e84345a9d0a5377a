"""What is stored of the runs of one participant, as far as it is there and whole."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.outputs.response_files import StoredResponses, read_responses
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import IntArray, Run
from clipmused_bids.stages.reporting.view import ReportView

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredRun:
    """A run, and its responses if they are there.

    Parameters
    ----------
    run : Run
    n_trials : int
        In the events.
    responses : StoredResponses or None
    """

    run: Run
    n_trials: int
    responses: StoredResponses | None

    @property
    def rows(self) -> IntArray:
        """Positions of the trials that have a response; of all where none are stored."""
        if self.responses is None:
            return np.arange(self.n_trials)
        return self.responses.trial_number - 1

    @property
    def dropped(self) -> Counter[str]:
        """Trials without a response, by reason; none where no responses are stored."""
        return Counter() if self.responses is None else Counter(self.responses.dropped)


def stored_runs(view: ReportView, participant: str) -> list[StoredRun]:
    """Runs of a participant with what is stored of each; what cannot be read counts as not there."""
    return [_stored(view, run) for run in view.plan.runs_of(participant)]


def _stored(view: ReportView, run: Run) -> StoredRun:
    found = None
    path = view.tree.responses(run, kind=view.plan.kind)
    try:
        found = read_responses(path) if path.exists() else None
    except ClipMusedError as error:
        logger.warning("Report: %s", error)
    return StoredRun(run, view.plan.trials[run.key].n_trials, found)
