"""Made-up comparisons whose every number is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow

NAN = math.nan
_UNKNOWN: Mapping[str, Any] = {
    "metric": "", "value": NAN, "low": NAN, "high": NAN, "floor": NAN, "n_labels": None, "n_trials": None,
    "baseline": "", "difference": NAN, "people_low": NAN, "people_high": NAN, "people_verdict": "", "people_p": NAN,
    "people_p_holm": NAN, "stimuli_low": NAN, "stimuli_high": NAN, "stimuli_verdict": "", "p_value": NAN,
    "parameters_shared": None, "parameters_own": None, "note": "",
}  # fmt: skip


def row(method: str, who: str = "group", **values: Any) -> ComparisonRow:
    """Row of a table; what is not given is unknown."""
    label = "m" if method == "clip-mused" else f"m+{method.replace(':', '+').replace('-', '')}"
    return ComparisonRow(method=method, model_label=label, participant_id=who, **{**_UNKNOWN, **values})


def rows_of(
    method: str, scores: Sequence[float], *, metric: str = "mAP", **group: Any
) -> list[ComparisonRow]:
    """The group's row and one for each participant ``sub-01``, ..."""
    shared = {"metric": metric, "floor": 0.2, "n_labels": 2, "n_trials": 10}
    mean = {**shared, "value": sum(scores) / len(scores), **group}
    people = [
        row(method, f"sub-{k:02d}", **{**shared, "value": score}) for k, score in enumerate(scores, start=1)
    ]
    return [row(method, **mean), *people]


def missing(method: str, note: str) -> ComparisonRow:
    """Row of a method that could not be compared."""
    return row(method, note=note)
