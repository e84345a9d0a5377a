"""Which test stimuli tokens are looked at for, and in which order they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.evaluation.agreement import spread_over
from clipmused_bids.evaluation.resampling import rarest_labels
from clipmused_bids.records import IntArray, Split
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.held_out import held_out_trials
from clipmused_bids.stages.plan import Plan

MOST_STIMULI = 500
_LEAST_OF_A_FOLD = 50
NO_LABEL = "no label"


@dataclass(frozen=True)
class TestStimuli:
    """Test stimuli of one participant, sorted by fold, group and name: one entry each.

    Parameters
    ----------
    fold, group : ndarray of int, shape (n,)
    stimulus_id : tuple of str
    rows : tuple of ndarray of int
        Stored rows of each stimulus's trials.
    group_names : tuple of str
    ordered_by : {"label", "rarest label"}
        What the group of a stimulus is: its label, or of several the rarest among the stimuli.
    n_tested : int
        Stimuli that were tested, chosen or not; each once for every fold.
    """

    fold: IntArray
    group: IntArray
    stimulus_id: tuple[str, ...]
    rows: tuple[IntArray, ...]
    group_names: tuple[str, ...]
    ordered_by: str
    n_tested: int


def choose_stimuli(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    person: ParticipantResponses,
    *,
    names: Sequence[str],
) -> TestStimuli | None:
    """Choose labelled stimuli of held-out trials: all, or at most some 500 over all folds, as many of each label.

    Parameters
    ----------
    names : sequence of str
        Labels of the decoder.

    Returns
    -------
    TestStimuli or None
        None where the participant has no labelled test trial.
    """
    tested = held_out_trials(
        plan, tree, catalogue, split, person, names=names, model_label=plan.config.model_label
    )
    rows_of: dict[tuple[int, str], list[int]] = {}
    for row in tested.rows.tolist():
        rows_of.setdefault((int(tested.fold[row]), person.stimulus_id[row]), []).append(row)
    if not rows_of:
        return None
    keys = list(rows_of)
    group = rarest_labels(tested.labels[[rows_of[key][0] for key in keys]], np.arange(len(keys)))
    fold = np.array([key[0] for key in keys], dtype=np.int64)
    chosen = _spread(fold, group, seed=plan.config.random_seed)
    order = sorted(chosen, key=lambda k: (fold[k], group[k], keys[k][1]))
    return TestStimuli(
        fold=fold[order],
        group=group[order],
        stimulus_id=tuple(keys[k][1] for k in order),
        rows=tuple(np.array(rows_of[keys[k]], dtype=np.int64) for k in order),
        group_names=(*names, NO_LABEL),
        ordered_by="label" if catalogue.stimuli.single_label else "rarest label",
        n_tested=len(keys),
    )


def _spread(fold: IntArray, group: IntArray, *, seed: int) -> list[int]:
    """Positions of the stimuli that are looked at; every fold has its share."""
    numbers = np.unique(fold)
    most = max(_LEAST_OF_A_FOLD, MOST_STIMULI // len(numbers))
    found: list[int] = []
    for one in numbers:
        own = np.flatnonzero(fold == one)
        found += own[spread_over(group[own], most=most, seed=seed)].tolist()
    return found
