"""Which stored decoder decodes whom."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    ModelRecord,
    StoredModel,
    decoders_in,
    model_path,
    read_config,
    read_record,
    stored_participants,
)
from clipmused_bids.errors import MissingInputError
from clipmused_bids.records import IntArray

logger = logging.getLogger(__name__)


def decoder_of(
    tree: OutputTree, participant: str, *, model_label: str, fold: int | None = None
) -> StoredModel:
    """Load the decoder of a participant; as :func:`find_decoder`."""
    return find_decoder(tree, participant, model_label=model_label, fold=fold).load()


def find_decoder(
    tree: OutputTree, participant: str, *, model_label: str, fold: int | None = None
) -> ModelRecord:
    """Find the group decoder if it knows the participant, else the participant's own, else one that decodes anyone.

    Parameters
    ----------
    fold : int, optional
        Fold of a cross-validation whose decoder is wanted.

    Raises
    ------
    MissingInputError
        If there is neither; names the participants that have one.
    """
    folder = tree.model_folder(model_label, fold=fold)
    known: list[str] = list(stored_participants(folder))
    group = model_path(folder, participant=None)
    if group.exists():
        model = read_record(folder, participant=None)
        if participant in model.config["participants"]:
            return model
        known += model.config["participants"]
    if participant in stored_participants(folder):
        return read_record(folder, participant=participant)
    if group.exists() and _decodes_anyone(model):
        return model
    listed = f"it knows {', '.join(f'sub-{p}' for p in sorted(set(known)))}" if known else "there is none"
    raise MissingInputError(
        f"sub-{participant}: no decoder {model_label} for this participant; {listed}.",
        hint="train one: clipmused-bids BIDS_DIR OUTPUT_DIR group --train",
    )


def left_out_by(tree: OutputTree, *, model_label: str) -> tuple[str, ...]:
    """Stimuli that the decoders of this label were trained without, since their pictures could not be read."""
    folder = tree.model_folder(model_label)
    stored = (read_config(folder, participant=participant) for participant in decoders_in(folder))
    return tuple(sorted({name for config in stored for name in config.get("left_out", ())}))


def known_folds(tree: OutputTree, participant: str, folds: IntArray, *, model_label: str) -> list[int]:
    """Folds with trials of a participant whose decoder knows the participant."""
    known = []
    for fold in np.unique(folds[folds > 0]).tolist():
        folder = tree.model_folder(model_label, fold=fold)
        group = model_path(folder, participant=None)
        if participant in stored_participants(folder) or (
            group.exists() and participant in read_config(folder, participant=None)["participants"]
        ):
            known.append(fold)
        else:
            logger.warning("sub-%s: no decoder of fold %d; its trials are not decoded.", participant, fold)
    return known


def _decodes_anyone(model: ModelRecord) -> bool:
    """Whether people who were not in the training data may be decoded: a common space, and nothing of one's own."""
    signature: Mapping[str, Any] = model.config["decoder"].get("signature", {})
    return bool(model.config["common_space"] and signature.get("any_participant"))
