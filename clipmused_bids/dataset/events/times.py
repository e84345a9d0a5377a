"""Onsets and durations in seconds."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from clipmused_bids.dataset.files.tsv import Table
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, Run

logger = logging.getLogger(__name__)


def event_times(
    table: Table, run: Run, *, run_seconds: float | None, notes: list[str]
) -> tuple[FloatArray, FloatArray]:
    """Read onsets and durations, wherever the columns stand.

    Parameters
    ----------
    table : Table
    run : Run
        For messages.
    run_seconds : float or None
        Length of the run. Onsets that lie beyond it as seconds but within it as milliseconds are converted.
    notes : list of str
        What was unusual is added to it.

    Returns
    -------
    ndarray of shape (n_rows,)
        Onsets in s; NaN where a row has none.
    ndarray of shape (n_rows,)
        Durations in s; 0 where a row has none.

    Raises
    ------
    DataError
        If there is no column onset.
    """
    columns = {name.lower(): cells for name, cells in reversed(list(table.columns.items()))}
    if "onset" not in columns:
        raise DataError(
            f"{run.label}: {table.path} has no column onset; columns are {table.names}.",
            hint="BIDS events are separated by tabs and have the columns onset and duration, in seconds",
        )
    onset = numbers(columns["onset"])
    duration = numbers(columns.get("duration", ("n/a",) * table.n_rows))
    if "duration" not in columns or np.isnan(duration).any() or (duration < 0).any():
        notes.append("rows without a duration were read as events of 0 s")
    duration = np.where(np.isnan(duration) | (duration < 0), 0.0, duration)
    if run_seconds is not None and not np.isnan(onset).all():
        onset, duration = _in_seconds(onset, duration, run, run_seconds=run_seconds, notes=notes)
    return onset, duration


def _in_seconds(
    onset: FloatArray, duration: FloatArray, run: Run, *, run_seconds: float, notes: list[str]
) -> tuple[FloatArray, FloatArray]:
    last = float(np.nanmax(onset))
    if last <= run_seconds:
        return onset, duration
    # Beyond the end as seconds, but within the run as milliseconds: only then can milliseconds be meant.
    if np.nanmedian(onset) > run_seconds and last / 1000 <= run_seconds:
        note = f"onsets up to {last:g} in a run of {run_seconds:g} s were read as milliseconds"
        onset, duration = onset / 1000, duration / 1000
    else:
        note = f"the last onset, {last:g} s, lies beyond the end of the run at {run_seconds:g} s"
    logger.warning("%s: %s.", run.label, note)
    notes.append(note)
    return onset, duration


def numbers(cells: Sequence[str]) -> FloatArray:
    """Cells as numbers; NaN where a cell holds none."""
    return np.array([_number(cell) for cell in cells], dtype=float)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
