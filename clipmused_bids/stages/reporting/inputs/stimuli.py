"""Stimuli of one participant with their labels and thumbnails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clipmused_bids.dataset.stimuli.thumbnails import thumbnails
from clipmused_bids.records import FloatArray
from clipmused_bids.report.blocks import Block
from clipmused_bids.report.inputs.stimuli import (
    LabelFacts,
    StimulusFacts,
    chosen_stimuli,
    gallery_blocks,
    label_blocks,
    stimulus_blocks,
)
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.movies import samples_of
from clipmused_bids.stages.reporting.inputs.stored import StoredRun
from clipmused_bids.stages.reporting.inputs.trials import by_fold, shown_stimuli
from clipmused_bids.stages.reporting.view import ReportView


def stimuli_blocks(
    view: ReportView, catalogue: Catalogue, runs: Sequence[StoredRun], sets: Mapping[str, Sequence[str]]
) -> list[Block]:
    """Coverage of the stimuli, their labels, and a gallery of a dozen."""
    plan = view.plan
    own = {one.run.key: plan.trials[one.run.key] for one in runs}
    samples = samples_of(own)
    shown = shown_stimuli(plan, runs)
    pictures = dict(zip(catalogue.stimuli.stimulus_id, catalogue.stimuli.picture, strict=True))
    facts = StimulusFacts(
        shown=shown,
        pictured=frozenset(name for name in shown if pictures.get(name) is not None),
        label_names=catalogue.stimuli.label_names,
        labels=catalogue.labels_of(list(shown)),
        movies=len({movie for movie, _ in samples.values()}),
    )
    if not shown:
        return []
    blocks = stimulus_blocks(facts)
    blocks += label_blocks(_labels(view, catalogue, runs, sets), single=catalogue.stimuli.single_label)
    if facts.pictured:
        chosen = chosen_stimuli(facts)
        found = thumbnails({name: picture for name in chosen if (picture := pictures.get(name)) is not None})
        blocks += gallery_blocks(facts, {name: found.get(name) for name in chosen})
    return blocks


def _labels(
    view: ReportView, catalogue: Catalogue, runs: Sequence[StoredRun], sets: Mapping[str, Sequence[str]]
) -> list[LabelFacts]:
    names = catalogue.stimuli.label_names
    rows = [(one, k) for one in runs for k in one.rows.tolist()]
    stimuli = [view.plan.trials[one.run.key].stimulus_id[k] for one, k in rows]
    own_set = np.array([sets[one.run.key][k] for one, k in rows], dtype=str)
    # Of a cross-validation every trial in a fold is fitted by some decoders, and tested by one.
    folds = by_fold(view.split) and ~np.isin(own_set, ("train", "val", "test", "none", "new"))
    labels = catalogue.labels_of(stimuli)
    train, test = (_counts(labels[np.isin(own_set, (name,)) | folds]) for name in ("train", "test"))
    of_stimuli = catalogue.labels_of(list(shown_stimuli(view.plan, runs)))
    return [
        LabelFacts(name, int((of_stimuli[:, c] == 1).sum()), train[c], test[c])
        for c, name in enumerate(names)
    ]


def _counts(labels: FloatArray) -> list[tuple[int, int]]:
    """Trials that have each label, and trials where it is known."""
    return [(int((column == 1).sum()), int(np.isfinite(column).sum())) for column in labels.T]
