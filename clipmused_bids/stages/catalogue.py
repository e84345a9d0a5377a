"""All stimuli of a dataset with their files, labels, captions and contents."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipmused_bids.dataset.captions import read_captions
from clipmused_bids.dataset.catalogue import read_stimuli_table
from clipmused_bids.dataset.contents import content_hash, read_json
from clipmused_bids.dataset.labels import read_labels
from clipmused_bids.dataset.outputs import OutputTree
from clipmused_bids.dataset.stimuli import Resolved, resolve_stimuli
from clipmused_bids.dataset.stimulus_catalogue import write_catalogue
from clipmused_bids.records import FloatArray, Picture, Stimuli
from clipmused_bids.stages.plan import Plan
from clipmused_bids.targets.prompts import stimulus_prompts

logger = logging.getLogger(__name__)

# What the simulator writes into the descriptions of its datasets.
SIMULATOR = "clipmused-bids simulator"


@dataclass(frozen=True)
class Catalogue:
    """Stimuli of all participants.

    Parameters
    ----------
    stimuli : Stimuli
    content : tuple of str
        SHA-256 of each stimulus's file; "" where there is none.
    table : mapping of str to tuple of str
        Columns of the dataset's own ``stimuli.tsv``, in the order of ``stimuli``; empty without one.
    simulated : bool
        Whether the dataset was written by this package's simulator.
    """

    stimuli: Stimuli
    content: tuple[str, ...]
    table: Mapping[str, tuple[str, ...]]
    simulated: bool

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.stimuli.stimulus_id)}

    @cached_property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """A sentence made of each stimulus's labels, where it has any."""
        return stimulus_prompts(self.stimuli.labels, label_names=self.stimuli.label_names)

    def rows_of(self, stimulus_ids: Sequence[str]) -> list[int]:
        """Positions of stimuli among ``stimuli``; all must be known."""
        return [self._row_of[name] for name in stimulus_ids]

    def labels_of(self, stimulus_ids: Sequence[str], *, names: Sequence[str] | None = None) -> FloatArray:
        """Labels of each trial's stimulus, (n, C); NaN for unknown stimuli and for labels nobody knows."""
        columns = list(self.stimuli.label_names)
        values = np.vstack([self.stimuli.labels, np.full((1, len(columns)), np.nan)])
        rows = np.array([self._row_of.get(name, len(values) - 1) for name in stimulus_ids], dtype=int)
        if names is not None:
            values = np.column_stack([values, np.full(len(values), np.nan)])
            chosen = [columns.index(name) if name in columns else len(columns) for name in names]
            values = values[:, chosen]
        found: FloatArray = values[rows]
        return found

    def contents_of(self, stimulus_ids: Sequence[str]) -> tuple[str, ...]:
        """Content hash of each trial's stimulus; "" where there is no file."""
        known = self._row_of
        return tuple(self.content[known[name]] if name in known else "" for name in stimulus_ids)


def make_catalogue(plan: Plan, *, read_contents: bool = True) -> Catalogue:
    """Find files, labels and captions of every stimulus that an events file names.

    Parameters
    ----------
    plan : Plan
    read_contents : bool
        Without it no picture is opened, and ``Catalogue.content`` is "" throughout.

    Raises
    ------
    DataError
        If the stimuli have no labels, or fewer than half of them do.
    """
    names = sorted({name for trials in plan.trials.values() for name in trials.stimulus_id if name})
    conditions = {
        name: condition
        for trials in plan.trials.values()
        for name, condition in zip(trials.stimulus_id, trials.condition, strict=True)
        if name
    }
    inputs = plan.config.inputs
    table = read_stimuli_table(plan.config.bids_dir)
    named = any(trials.stimulus_column for trials in plan.trials.values())
    pictures = _pictures(plan, names) if named else (None,) * len(names)
    label_names, labels, single = read_labels(
        inputs.labels, stimulus_ids=names, conditions=conditions, stimuli_table=table
    )
    captions = read_captions(inputs.captions, stimulus_ids=names, stimuli_table=table)
    rows = [None if table is None else table.row_of(name) for name in names]
    columns = {} if table is None else table.columns
    return Catalogue(
        stimuli=Stimuli(tuple(names), pictures, captions, label_names, labels, single),
        content=tuple(
            content_hash(picture.path) if read_contents and picture is not None else ""
            for picture in pictures
        ),
        table={
            column: tuple("n/a" if row is None else cells[row] for row in rows)
            for column, cells in columns.items()
        },
        simulated=_is_simulated(plan),
    )


def store_catalogue(plan: Plan, catalogue: Catalogue, tree: OutputTree) -> None:
    """Write the list of stimuli for people to read."""
    contents = [content or None for content in catalogue.content]
    write_catalogue(tree, catalogue.stimuli, content_hash=contents, bids_dir=plan.config.bids_dir)


def _pictures(plan: Plan, names: Sequence[str]) -> tuple[Picture | None, ...]:
    resolved: Resolved = resolve_stimuli(
        names, bids_dir=plan.config.bids_dir, stimuli_dirs=plan.config.inputs.stimuli_dirs
    )
    columns = sorted({trials.stimulus_column for trials in plan.trials.values() if trials.stimulus_column})
    logger.info(
        "Stimuli: %d named in column %s; image files of %d found, %d missing%s.",
        len(names),
        ", ".join(columns),
        len(names) - len(resolved.missing),
        len(resolved.missing),
        f" ({', '.join(resolved.missing[:5])}{', ...' if len(resolved.missing) > 5 else ''})"
        if resolved.missing
        else "",
    )
    return tuple(None if path is None else Picture(path) for path in resolved.path)


def _is_simulated(plan: Plan) -> bool:
    described = plan.config.bids_dir / "dataset_description.json"
    generators = read_json(described).get("GeneratedBy", []) if described.is_file() else []
    return any(str(entry.get("Name")) == SIMULATOR for entry in generators if isinstance(entry, Mapping))
