"""Semantic labels of stimuli, from whatever the dataset or the user has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import hdf5_place
from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.events.rows import is_role
from clipmused_bids.dataset.runs.names import natural_key
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable, label_keys
from clipmused_bids.dataset.stimuli.coco import image_id, read_instances
from clipmused_bids.dataset.stimuli.label_tables import (
    LabelTable,
    join_labels,
    labels_of_columns,
    read_label_table,
)
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import FloatArray

logger = logging.getLogger(__name__)

_LEAST_COVERAGE = 0.5


@dataclass(frozen=True)
class _Labels:
    """Labels of all stimuli; ``several`` are those whose presentations differ, which count as unlabelled."""

    names: tuple[str, ...]
    values: NDArray[np.float64]
    single_label: bool
    several: frozenset[str] = frozenset()


def read_labels(
    paths: tuple[str, ...],
    *,
    stimulus_ids: Sequence[str],
    presentations: Presentations,
    stimuli_table: StimulusTable | None,
) -> tuple[tuple[str, ...], FloatArray, bool]:
    """Labels of all stimuli.

    Parameters
    ----------
    paths : tuple of str
        ``--labels``: one or several TSV tables (see ``read_label_table``) or COCO ``instances_*.json``. Empty: label
        columns of the stimuli's own table; else the condition of each stimulus.
    stimulus_ids : sequence of str
        n_stimuli of them.
    presentations : Presentations
        What the events say about them.
    stimuli_table : StimulusTable or None
        The stimuli's own table. Where it has a column ``label_id``, labels are looked up under it.

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
    if paths:
        labels = _from_files([Path(text) for text in paths], stimulus_ids, presentations, stimuli_table)
        source = ", ".join(paths)
    else:
        labels, source = _from_dataset(stimulus_ids, presentations, stimuli_table)
    _check_coverage(labels, stimulus_ids, source=source)
    return labels.names, labels.values, labels.single_label


def _from_files(
    paths: Sequence[Path],
    stimulus_ids: Sequence[str],
    presentations: Presentations,
    stimuli_table: StimulusTable | None,
) -> _Labels:
    kinds = {path.suffix.lower() for path in paths}
    keys = [label_keys(stimulus, stimuli_table) for stimulus in stimulus_ids]
    if kinds == {".json"}:
        return _from_coco(paths, keys)
    if kinds == {".tsv"}:
        tables = [read_label_table(path, event_columns=presentations.columns) for path in paths]
        parts = [_from_table(table, stimulus_ids, keys, presentations) for table in tables]
        return parts[0] if len(parts) == 1 else _joined(parts)
    given = f"--labels {' '.join(str(path) for path in paths)}"
    if any(hdf5_place(str(path)) for path in paths):
        raise UsageError(
            f"{given}: matrices in HDF5 files label the seconds of movies; here stimuli are no movies.",
            hint="a label table is tab-separated, with the column stimulus_id",
        )
    raise UsageError(
        f"{given}: expected .tsv tables, or COCO .json files, and one kind of them.",
        hint="a label table is tab-separated, with the column stimulus_id",
    )


def _from_dataset(
    stimulus_ids: Sequence[str], presentations: Presentations, table: StimulusTable | None
) -> tuple[_Labels, str]:
    if table is not None:
        found = labels_of_columns(table.columns)
        if found is not None:
            rows = [table.row_of(stimulus) for stimulus in stimulus_ids]
            values = np.full((len(rows), len(found[0])), np.nan)
            for k, row in enumerate(rows):
                if row is not None:
                    values[k] = found[1][row]
            return _Labels(found[0], values, found[2]), table.source
    return _from_conditions(stimulus_ids, presentations), "trial_type"


def _from_conditions(stimulus_ids: Sequence[str], presentations: Presentations) -> _Labels:
    of_stimulus = [presentations.conditions.get(stimulus, ()) for stimulus in stimulus_ids]
    names = tuple(sorted({name for own in of_stimulus for name in own}, key=natural_key))
    only_roles = all(is_role(name) for name in names)
    if not names or (only_roles and set(names) != {s for s in stimulus_ids if s}):
        raise DataError(
            f"The stimuli have no labels: no --labels, no label columns in stimuli/stimuli.tsv, and trial_type "
            f"{'only says ' + ', '.join(names[:5]) if names else 'is empty'}.",
            hint="--labels TABLE.tsv with the column stimulus_id, or a COCO instances_*.json",
        )
    values = np.full((len(of_stimulus), len(names)), np.nan)
    column_of = {name: k for k, name in enumerate(names)}
    for k, conditions in enumerate(of_stimulus):
        if len(conditions) == 1:
            values[k] = 0
            values[k, column_of[conditions[0]]] = 1
    several = (name for name, own in zip(stimulus_ids, of_stimulus, strict=True) if len(own) > 1)
    return _Labels(names, values, single_label=True, several=frozenset(several))


def _from_table(
    table: LabelTable,
    stimulus_ids: Sequence[str],
    keys: Sequence[tuple[str, ...]],
    presentations: Presentations,
) -> _Labels:
    values = np.full((len(stimulus_ids), len(table.names)), np.nan)
    shown_with = presentations.values_of(table.key_column)
    several = set()
    for k, (stimulus, own) in enumerate(zip(stimulus_ids, keys, strict=True)):
        found = _first(table, own) if table.names_stimuli else []
        found = found or _each(table, shown_with.get(stimulus, ()))
        if len(found) > 1:
            several.add(stimulus)
        elif found:
            values[k] = found[0]
    single = table.single_label and bool((np.nansum(values, axis=1) <= 1).all())
    return _Labels(table.names, values, single, frozenset(several))


def _first(table: LabelTable, keys: Sequence[str]) -> list[NDArray[np.float64]]:
    """Labels of the first key that the table knows, if any."""
    found = (table.labels_of(key) for key in keys)
    return [labels for labels in found if labels is not None][:1]


def _each(table: LabelTable, values: Sequence[str]) -> list[NDArray[np.float64]]:
    """Labels of all these keys that the table knows, without equal ones."""
    different: list[NDArray[np.float64]] = []
    for labels in (table.labels_of(value) for value in values):
        if labels is not None and not any(np.array_equal(labels, one, equal_nan=True) for one in different):
            different.append(labels)
    return different


def _from_coco(paths: Sequence[Path], keys: Sequence[tuple[str, ...]]) -> _Labels:
    coco = read_instances(paths)
    values = np.full((len(keys), len(coco.names)), np.nan)
    for k, names in enumerate(keys):
        number = image_id(names, ids=coco.ids, known=coco.of_image)
        if number is not None:
            values[k] = [float(name in coco.of_image[number]) for name in coco.names]
    return _Labels(coco.names, values, single_label=False)


def _joined(parts: Sequence[_Labels]) -> _Labels:
    names, values = join_labels([(part.names, part.values) for part in parts], n_rows=len(parts[0].values))
    several = frozenset(name for part in parts for name in part.several)
    return _Labels(names, values, single_label=False, several=several)


def _check_coverage(labels: _Labels, stimulus_ids: Sequence[str], *, source: str) -> None:
    unlabelled = np.isnan(labels.values).all(axis=1)
    if not unlabelled.any():
        return
    missing = [stimulus_ids[int(k)] for k in np.flatnonzero(unlabelled)]
    several = len(labels.several.intersection(missing))
    differ = f", {several} of them since each presentation has another one" if several else ""
    message = (
        f"{len(missing)} of {len(stimulus_ids)} stimuli have no label in {source}{differ}: {_shown(missing)}."
    )
    if unlabelled.mean() > 1 - _LEAST_COVERAGE:
        raise DataError(
            f"{message} At least half must have one.",
            hint="--labels with the column trial_type says what each condition shows"
            if several
            else "--labels must name stimuli as the events do; globs (dog/*) are allowed; the column label_id of "
            "--stimulus-map gives stimuli other names for this",
        )
    logger.warning("%s Their trials are left out.", message)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
