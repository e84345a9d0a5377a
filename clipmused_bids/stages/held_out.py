"""Test trials of one participant whose labels are known, and the decoders that did not see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import FloatArray, IntArray, SetName, Split
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decode import row_folds
from clipmused_bids.stages.decoder_choice import known_folds
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.training_set import row_sets


@dataclass(frozen=True)
class HeldOut:
    """Stored trials of one participant, and which of them a decoder is tested by.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        Labelled test trials among the stored ones, of folds that have a decoder.
    sets : tuple of str
        Set of each stored trial.
    labels : ndarray of shape (n_stored, C)
    fold : ndarray of int, shape (n_stored,)
        Fold that holds each stored trial out; 0 without a cross-validation.
    served : tuple of int
        Folds with a decoder of this participant, from 1.
    """

    rows: IntArray
    sets: tuple[SetName, ...]
    labels: FloatArray
    fold: IntArray
    served: tuple[int, ...]


def held_out_trials(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    person: ParticipantResponses,
    *,
    names: Sequence[str],
    model_label: str,
) -> HeldOut:
    """Find the trials that a decoder of the labels ``names`` is tested by."""
    sets = row_sets(person, plan, split)
    fold = row_folds(person, plan, split)
    served = tuple(known_folds(tree, person.participant, fold, model_label=model_label))
    labels = catalogue.labels_of(person.stimulus_id, names=names)
    tested = np.array(sets, dtype=str) == "test"
    known = (~np.isnan(labels)).any(axis=1)
    return HeldOut(np.flatnonzero(tested & known & np.isin(fold, [0, *served])), sets, labels, fold, served)
