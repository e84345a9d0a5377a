"""What a fit is told, keeps and shares, beside its data: nothing of it changes the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from clipmused_bids.training.checkpoint import Keeper, KeepsNothing
from clipmused_bids.training.processes import Processes

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FitContext:
    """Surroundings of a fit.

    Parameters
    ----------
    report : callable, optional
        Called with each row of the history.
    keeper : Keeper
        Keeps the state of trainings, so that they can be stopped and go on.
    processes : Processes
        That fit together.
    """

    report: Report | None = None
    keeper: Keeper = field(default_factory=KeepsNothing)
    processes: Processes = field(default_factory=Processes)

    def told(self, **columns: float) -> FitContext:
        """Report rows with further columns before the others."""
        report = self.report
        if report is None:
            return self
        return replace(self, report=lambda row: report(columns | row))

    def of(self, name: str) -> FitContext:
        """Return the context of a part of the fit that is trained by itself."""
        return replace(self, keeper=self.keeper.of(name))


ALONE = FitContext()
