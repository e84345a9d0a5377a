"""What the events say about each stimulus, over all of its presentations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from clipmused_bids.dataset.events.rows import CLASS_COLUMNS
from clipmused_bids.dataset.files.tsv import is_missing
from clipmused_bids.records import Trials


@dataclass(frozen=True)
class Presentations:
    """Trials of all runs, looked at by stimulus.

    Parameters
    ----------
    trials : sequence of Trials
    """

    trials: Sequence[Trials]

    @cached_property
    def columns(self) -> frozenset[str]:
        """Columns of the events files."""
        return frozenset(name for run in self.trials for name in run.columns)

    @cached_property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Conditions of each stimulus, each once, in the order they occur; stimuli without any are not in it."""
        return _distinct(
            pair for run in self.trials for pair in zip(run.stimulus_id, run.condition, strict=True)
        )

    def values_of(self, column: str) -> dict[str, tuple[str, ...]]:
        """Values that an events column has at each stimulus, each once; ``n/a`` does not count.

        A column that stands for the condition (``trial_type``, ``event_type``, ``condition``, ``cond``) is served by
        the condition where no events file has it.
        """
        if column not in self.columns:
            return self.conditions if column in CLASS_COLUMNS else {}
        return _distinct(
            pair
            for run in self.trials
            if column in run.columns
            for pair in zip(run.stimulus_id, run.columns[column], strict=True)
        )


def _distinct(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for stimulus, value in pairs:
        if stimulus and not is_missing(value):
            found.setdefault(stimulus, {})[value] = None
    return {stimulus: tuple(values) for stimulus, values in found.items()}
