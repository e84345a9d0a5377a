"""Events of one run: a robust reading of ``events.tsv``, every row accounted for."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.events.blocks import merge_rows
from clipmused_bids.dataset.events.rows import (
    WITHOUT_STIMULUS,
    RowClass,
    class_values,
    classify,
    condition_of,
    is_role,
    nuisance_kind,
)  # fmt: skip
from clipmused_bids.dataset.events.stimulus_columns import choose_column
from clipmused_bids.dataset.events.times import event_times
from clipmused_bids.dataset.files.tsv import Table, is_missing, read_table
from clipmused_bids.dataset.stimuli.names import without_fraction
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, Run, Trials

logger = logging.getLogger(__name__)

_TIMES = ("onset", "duration")


@dataclass(frozen=True)
class _Row:
    """One row with a usable onset."""

    index: int
    kind: RowClass
    stimulus: str
    condition: str
    nuisance_kind: str


@dataclass(frozen=True)
class _Classed:
    """Rows by class, sorted by onset; and how many were left out, by reason."""

    trials: list[_Row]
    nuisance: list[_Row]
    excluded: Counter[str]


def read_events(
    run: Run,
    *,
    trial_types: tuple[str, ...],
    stimulus_column: str | None,
    merge_blocks: str,
    decode: bool = False,
    run_seconds: float | None = None,
) -> Trials:
    """Read and class the events of a run.

    Parameters
    ----------
    run : Run
    trial_types : tuple of str
        ``--trial-type``: values of ``trial_type``, ``event_type`` or the stimulus column (globs) that are trials; all
        other rows that are no baseline are modelled. Empty: rows with a stimulus, or with a condition where the file
        names no stimuli, unless they are called catch, oddball, response, cue and the like.
    stimulus_column : str or None
        ``--stimulus-column``.
    merge_blocks : str
        ``auto``, ``off``, or the gap in s; see ``merge_rows``.
    decode : bool
        Neither stimulus nor condition is needed: every row that is neither baseline nor called nuisance is a trial.
    run_seconds : float or None
        Length of the run. With it, onsets in milliseconds are recognised and converted.

    Returns
    -------
    Trials
        ``n_rows == n_rows_in_trials + len(nuisance_onset) + sum(excluded.values())``.

    Raises
    ------
    MissingInputError
        If the file was not fetched.
    DataError
        If the run has no events file; if the file has no rows (or is the template of a converter), no onset column,
        neither stimuli nor conditions, or no trial.
    UsageError
        If ``stimulus_column`` does not exist.
    """
    table, notes = _read(run)
    onset, duration = event_times(table, run, run_seconds=run_seconds, notes=notes)
    column = choose_column(table.columns, wanted=stimulus_column)
    classed = _classed(table, onset, column, trial_types=trial_types, decode=decode)
    trials = classed.trials
    _check_trials(run, table, trials, column, chosen=bool(trial_types), decode=decode)
    index = np.array([row.index for row in trials], dtype=int)
    merged = merge_rows(
        onset[index],
        duration[index],
        [row.condition for row in trials],
        how=merge_blocks,
        names_stimuli=column is not None or not _by_category(trials, chosen=bool(trial_types)),
    )
    result = _trials(
        table, classed, onset=onset, duration=duration, merged=merged, column=column, notes=notes
    )
    _log(run, result)
    return result


def _read(run: Run) -> tuple[Table, list[str]]:
    if run.events is None:
        raise DataError(f"{run.label}: this run has no events file.", hint="BIDS_DIR must be the raw dataset")
    table = read_table(run.events)
    if table.n_rows == 0:
        template = any(name.upper().startswith("TODO") for name in table.columns)
        what = (
            "is a converter's unfilled template (a TODO column, no rows)"
            if template
            else "has a header but no rows"
        )
        raise DataError(
            f"{run.label}: {run.events} {what}.", hint="fill in the events, or leave this run out: --run-id"
        )
    return table, list(table.notes)


def _classed(
    table: Table, onset: FloatArray, column: str | None, *, trial_types: tuple[str, ...], decode: bool
) -> _Classed:
    excluded: Counter[str] = Counter()
    if table.n_repeated_headers:
        excluded["repeated header"] = table.n_repeated_headers
    values = class_values(table.columns, stimulus_column=column)
    rows = []
    for index in range(table.n_rows):
        row = _row(table, index, values[index], column, trial_types=trial_types, decode=decode)
        if math.isnan(onset[index]):
            excluded["no onset"] += 1
        elif row.kind in {"baseline", "scanner pulse"}:
            excluded[row.kind] += 1
        else:
            rows.append(row)
    rows.sort(key=lambda row: onset[row.index])
    return _Classed(
        trials=[row for row in rows if row.kind == "trial"],
        nuisance=[row for row in rows if row.kind == "nuisance"],
        excluded=excluded,
    )


def _row(
    table: Table,
    index: int,
    values: tuple[str, ...],
    column: str | None,
    *,
    trial_types: tuple[str, ...],
    decode: bool,
) -> _Row:
    cell = table.columns[column][index] if column is not None else ""
    stimulus = "" if is_missing(cell) else without_fraction(cell)
    condition = without_fraction(condition_of(table.columns, index, stimulus_column=column))
    kind = classify(
        values,
        stimulus=stimulus,
        condition=condition,
        has_stimuli=column is not None,
        trial_types=trial_types,
        decode=decode,
    )
    if column is None and (trial_types or not is_role(condition)):
        stimulus = condition
    # Rows without a stimulus share one regressor, whatever their condition, unless conditions were chosen.
    named = condition if trial_types else ""
    return _Row(index, kind, stimulus, condition, nuisance_kind(values, condition=named))


def _by_category(trials: Sequence[_Row], *, chosen: bool) -> bool:
    """Whether conditions say what was seen (or were chosen), not only which part a row plays."""
    return any(row.condition and (chosen or not is_role(row.condition)) for row in trials)


def _check_trials(
    run: Run, table: Table, trials: Sequence[_Row], column: str | None, *, chosen: bool, decode: bool
) -> None:
    if not trials:
        if (
            not decode
            and column is None
            and not any(name in table.columns for name in ("trial_type", "event_type"))
        ):
            raise DataError(
                f"{run.label}: {table.path.name} has no stimulus column and no trial_type; columns are {table.names}.",
                hint="name the column with --stimulus-column",
            )
        raise DataError(
            f"{run.label}: {table.path.name} has no trial among its {table.n_rows} rows"
            f"{' that --trial-type chooses' if chosen else ''}; columns are {table.names}.",
            hint="choose trials with --trial-type, or name the column of stimuli with --stimulus-column",
        )
    if column is None and not decode and not _by_category(trials, chosen=chosen):
        conditions = ", ".join(sorted({row.condition for row in trials}))
        raise DataError(
            f"{run.label}: {table.path.name} names neither stimuli nor categories: trials are only called "
            f"{conditions}; columns are {table.names}.",
            hint="name the column of stimuli with --stimulus-column, or accept these as categories with --trial-type",
        )


def _trials(
    table: Table,
    classed: _Classed,
    *,
    onset: FloatArray,
    duration: FloatArray,
    merged: IntArray,
    column: str | None,
    notes: Sequence[str],
) -> Trials:
    trials, nuisance = classed.trials, classed.nuisance
    first = np.flatnonzero(np.diff(merged, prepend=-1))
    joins = len(first) < len(trials)
    index = np.array([row.index for row in trials], dtype=int)
    end = np.zeros(len(first))
    np.maximum.at(end, merged, onset[index] + duration[index])
    kept = [trials[int(k)] for k in first]
    start = onset[[row.index for row in kept]]
    side = np.array([row.index for row in nuisance], dtype=int)
    more = [f"{len(trials)} rows were joined into {len(first)} blocks"] if joins else []
    return Trials(
        onset=start,
        # Without merging, a duration is what the file says, not a difference.
        duration=end - start if joins else duration[index],
        stimulus_id=tuple(row.condition if joins else row.stimulus for row in kept),
        condition=tuple(row.condition for row in kept),
        columns={
            name: tuple(cells[row.index] for row in kept)
            for name, cells in table.columns.items()
            if name.lower() not in _TIMES
        },
        nuisance_onset=onset[side],
        nuisance_duration=duration[side],
        nuisance_kind=tuple(row.nuisance_kind for row in nuisance),
        n_rows=table.n_rows + table.n_repeated_headers,
        n_rows_in_trials=len(trials),
        excluded=dict(classed.excluded),
        stimulus_column=column,
        notes=(*notes, *more),
    )


def _log(run: Run, trials: Trials) -> None:
    kinds = Counter(trials.nuisance_kind)
    without = kinds.get(WITHOUT_STIMULUS, 0)
    logger.debug(
        "%s: %d rows: %d trials (%s), modelled besides: %s, left out: %s.%s",
        run.label,
        trials.n_rows,
        trials.n_trials,
        f"stimuli from {trials.stimulus_column}" if trials.stimulus_column else "stimuli by condition",
        ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "nothing",
        ", ".join(f"{reason} {count}" for reason, count in trials.excluded.items()) or "nothing",
        f" {without} rows have no stimulus." if without else "",
    )
