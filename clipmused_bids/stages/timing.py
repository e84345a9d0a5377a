"""How long fitting and decoding took, beside the scores and not among them: no two runs take equally long."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from clipmused_bids.dataset.outputs.comparison_files import write_timing
from clipmused_bids.dataset.outputs.comparison_reading import read_timing
from clipmused_bids.dataset.outputs.tree import OutputTree

Step = Literal["fit", "decode"]


@dataclass
class Stopwatch:
    """Seconds of each step by model label; where work was reused, those of the run that did it.

    Parameters
    ----------
    seconds : dict
        By model label and step.
    """

    seconds: dict[tuple[str, Step], float] = field(default_factory=dict)

    @contextmanager
    def measured(self, label: str, step: Step) -> Iterator[None]:
        """Measure a step; ``discard`` afterwards where it turned out to be reused."""
        started = time.monotonic()
        yield
        self.seconds[label, step] = time.monotonic() - started

    def discard(self, label: str, step: Step) -> None:
        """Forget what was measured: the work was done before."""
        self.seconds.pop((label, step), None)

    def of(self, label: str, step: Step) -> float:
        """Seconds; NaN where they are not known."""
        return self.seconds.get((label, step), math.nan)

    def store(self, tree: OutputTree, *, model_label: str) -> None:
        """Write what is known of the main decoder and the others; of what was reused, what was measured first."""
        path = tree.group_table(model_label=model_label, kind="timing")
        for row in read_timing(path) if path.exists() else ():
            if (row.model_label, "fit") in self.seconds:
                continue  # fitted now, so what is stored is of another decoder
            self.seconds[row.model_label, "fit"] = row.fit_seconds
            if not math.isnan(row.decode_seconds):
                self.seconds[row.model_label, "decode"] = row.decode_seconds
        labels = list(dict.fromkeys(label for label, _ in self.seconds))
        rows = [(label, self.of(label, "fit"), self.of(label, "decode")) for label in labels]
        write_timing(tree, rows, model_label=model_label)
