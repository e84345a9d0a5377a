"""Semantic labels of stimuli, from whatever the dataset or the user has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.catalogue import StimulusTable
from clipmused_bids.dataset.coco import image_id, read_instances
from clipmused_bids.dataset.event_rows import is_role
from clipmused_bids.dataset.label_tables import LabelTable, labels_of_columns, read_label_table
from clipmused_bids.dataset.names import natural_key
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import FloatArray

logger = logging.getLogger(__name__)

_LEAST_COVERAGE = 0.5
_Labels = tuple[tuple[str, ...], NDArray[np.float64], bool]


def read_labels(
    paths: tuple[str, ...],
    *,
    stimulus_ids: Sequence[str],
    conditions: Mapping[str, str] | None,
    stimuli_table: StimulusTable | None,
) -> tuple[tuple[str, ...], FloatArray, bool]:
    """Labels of all stimuli.

    Parameters
    ----------
    paths : tuple of str
        ``--labels``: one or several TSV tables (see ``read_label_table``) or COCO ``instances_*.json``. Empty: label
        columns of ``stimuli.tsv``; else the condition of each stimulus.
    stimulus_ids : sequence of str
        n_stimuli of them.
    conditions : mapping of str to str, or None
        Condition of each stimulus.
    stimuli_table : StimulusTable or None
        The dataset's own catalogue.

    Returns
    -------
    tuple of str
        Names of the labels, C of them.
    ndarray of shape (n_stimuli, C)
        1, 0, NaN where unknown.
    bool
        Whether every labelled stimulus has exactly one label by construction.

    Raises
    ------
    DataError
        If fewer than half of the stimuli have labels (the first five without are named), or nothing labels them.
    UsageError
        If tables and COCO files are mixed, or a file is neither.
    """
    conditions = conditions or {}
    if paths:
        labels = _from_files([Path(text) for text in paths], stimulus_ids, conditions, stimuli_table)
        source = ", ".join(paths)
    else:
        labels, source = _from_dataset(stimulus_ids, conditions, stimuli_table)
    names, values, single = labels
    _check_coverage(values, stimulus_ids, source=source)
    return names, values, single


def _from_files(
    paths: Sequence[Path],
    stimulus_ids: Sequence[str],
    conditions: Mapping[str, str],
    stimuli_table: StimulusTable | None,
) -> _Labels:
    kinds = {path.suffix.lower() for path in paths}
    if kinds == {".json"}:
        return _from_coco(paths, stimulus_ids)
    if kinds == {".tsv"}:
        parts = [
            _from_table(read_label_table(path), stimulus_ids, conditions, stimuli_table) for path in paths
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)
    raise UsageError(
        f"--labels {' '.join(str(path) for path in paths)}: expected .tsv tables or COCO .json files, not both.",
        hint="a label table is tab-separated, with the column stimulus_id",
    )


def _from_dataset(
    stimulus_ids: Sequence[str], conditions: Mapping[str, str], table: StimulusTable | None
) -> tuple[_Labels, str]:
    if table is not None:
        found = labels_of_columns(table.columns)
        if found is not None:
            rows = [table.row_of(stimulus) for stimulus in stimulus_ids]
            values = np.full((len(rows), len(found[0])), np.nan)
            for k, row in enumerate(rows):
                if row is not None:
                    values[k] = found[1][row]
            return (found[0], values, found[2]), str(table.path)
    return _from_conditions(stimulus_ids, conditions), "trial_type"


def _from_conditions(stimulus_ids: Sequence[str], conditions: Mapping[str, str]) -> _Labels:
    of_stimulus = [conditions.get(stimulus, "") for stimulus in stimulus_ids]
    names = tuple(sorted({name for name in of_stimulus if name}, key=natural_key))
    only_roles = all(is_role(name) for name in names)
    if not names or (only_roles and set(names) != {s for s in stimulus_ids if s}):
        raise DataError(
            f"The stimuli have no labels: no --labels, no label columns in stimuli/stimuli.tsv, and trial_type "
            f"{'only says ' + ', '.join(names) if names else 'is empty'}.",
            hint="--labels TABLE.tsv with the column stimulus_id, or a COCO instances_*.json",
        )
    values = np.full((len(of_stimulus), len(names)), np.nan)
    for k, condition in enumerate(of_stimulus):
        if condition:
            values[k] = [float(name == condition) for name in names]
    return names, values, True


def _from_table(
    table: LabelTable,
    stimulus_ids: Sequence[str],
    conditions: Mapping[str, str],
    catalogue: StimulusTable | None,
) -> _Labels:
    values = np.full((len(stimulus_ids), len(table.names)), np.nan)
    for k, stimulus in enumerate(stimulus_ids):
        rows = table.rows_of(stimulus, condition=conditions.get(stimulus, ""))
        row = None if rows or catalogue is None else catalogue.row_of(stimulus)
        if row is not None and catalogue is not None:
            rows = table.rows_of(catalogue.stimulus_id[row], condition="")
        if rows:
            # fmax takes 1 over 0 where several rows speak, and anything over unknown.
            values[k] = np.fmax.reduce(table.values[rows], axis=0)
    return table.names, values, table.single_label and bool((np.nansum(values, axis=1) <= 1).all())


def _from_coco(paths: Sequence[Path], stimulus_ids: Sequence[str]) -> _Labels:
    coco = read_instances(paths)
    values = np.full((len(stimulus_ids), len(coco.names)), np.nan)
    for k, stimulus in enumerate(stimulus_ids):
        number = image_id(stimulus, coco.ids)
        if number is not None and number in coco.of_image:
            values[k] = [float(name in coco.of_image[number]) for name in coco.names]
    return coco.names, values, False


def _joined(parts: Sequence[_Labels]) -> _Labels:
    names = tuple(dict.fromkeys(name for part in parts for name in part[0]))
    values = np.full((len(parts[0][1]), len(names)), np.nan)
    for part_names, part_values, _ in parts:
        columns = [names.index(name) for name in part_names]
        values[:, columns] = np.fmax(values[:, columns], part_values)
    return names, values, False


def _check_coverage(values: NDArray[np.float64], stimulus_ids: Sequence[str], *, source: str) -> None:
    unlabelled = np.isnan(values).all(axis=1)
    if not unlabelled.any():
        return
    missing = [stimulus_ids[int(k)] for k in np.flatnonzero(unlabelled)]
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    message = f"{len(missing)} of {len(stimulus_ids)} stimuli have no label in {source}: {shown}."
    if unlabelled.mean() > 1 - _LEAST_COVERAGE:
        raise DataError(
            f"{message} At least half must have one.",
            hint="the column stimulus_id of --labels must name stimuli as the events do; globs (dog/*) are allowed",
        )
    logger.warning("%s Their trials are left out.", message)
