"""Test trials that the maps of a decoder are made from, each with the decoder that has not seen it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.dataset.files.tensors import digest, raw_bytes
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import ModelRecord
from clipmused_bids.evaluation.metrics import scorable
from clipmused_bids.methods.token_attention import TOKENS, Token
from clipmused_bids.records import FloatArray, IntArray, SetName, Split
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decoder_choice import find_decoder
from clipmused_bids.stages.held_out import held_out_trials
from clipmused_bids.stages.plan import Plan


@dataclass(frozen=True)
class MapTrials:
    """Test trials of one participant.

    Parameters
    ----------
    person : ParticipantResponses
    record : ModelRecord
        The decoder that is described; after a cross-validation the one fitted to all folds, which gives regions and
        labels alone.
    decoders : mapping of int to ModelRecord
        Decoder of each fold in ``fold``; ``record`` itself without a cross-validation.
    rows : ndarray of int, shape (n,)
        Among the stored trials.
    sets : tuple of str
        Set of each stored trial.
    labels : ndarray of shape (n, C)
        In the order of the decoder's names.
    fold : ndarray of int, shape (n,)
        0 without a cross-validation.
    n_available : int
        Test trials of which these were taken.
    """

    person: ParticipantResponses
    record: ModelRecord
    decoders: Mapping[int, ModelRecord]
    rows: IntArray
    sets: tuple[SetName, ...]
    labels: FloatArray
    fold: IntArray
    n_available: int

    @property
    def participant(self) -> str:
        """Whose they are."""
        return self.person.participant

    @property
    def label_names(self) -> tuple[str, ...]:
        """C labels."""
        return tuple(self.record.config["label_names"])

    @property
    def stimulus_id(self) -> tuple[str, ...]:
        """Stimulus of each trial."""
        names = self.person.stimulus_id
        return tuple(names[int(row)] for row in self.rows)

    @property
    def problem(self) -> str:
        """Why no map can be made of them; empty where one can."""
        if len(self.rows) == 0:
            return "no labelled test trial was decoded by a decoder that did not see it"
        if not any(scorable(self.labels[self.fold == k]).any() for k in np.unique(self.fold)):
            return "no label has both a positive and a negative test trial"
        return ""

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Tokens of the decoder, as stored with it."""
        stored = self.record.config["decoder"]
        own = stored.get("participants", {})
        architecture = own.get(self.participant, stored).get("architecture")
        return TOKENS[architecture.get("tokens", "pair")] if architecture else ()

    def fingerprint(self) -> str:
        """Hash of decoders, responses and truth."""
        return digest(
            canonical_json(
                {
                    "decoders": {str(k): one.weights_hash for k, one in sorted(self.decoders.items())},
                    "record": self.record.weights_hash,
                    "responses": [file.fingerprint for file in self.person.stored],
                    "stimuli": self.stimulus_id,
                }
            ),
            *(raw_bytes(values).tobytes() for values in (self.rows, self.labels, self.fold)),
        )


def map_trials(
    plan: Plan,
    tree: OutputTree,
    split: Split,
    catalogue: Catalogue,
    participant: str,
    *,
    model_label: str,
    most: int,
) -> MapTrials:
    """Find the labelled test trials of a participant; of more than ``most``, so many at equal distances."""
    record = find_decoder(tree, participant, model_label=model_label)
    person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
    found = held_out_trials(
        plan, tree, catalogue, split, person, names=record.config["label_names"], model_label=model_label
    )
    decoders = {0: record} | {
        fold: find_decoder(tree, participant, model_label=model_label, fold=fold) for fold in found.served
    }
    kept = found.rows
    if len(kept) > most:
        kept = kept[np.round(np.linspace(0, len(kept) - 1, most)).astype(int)]
    used = set(np.unique(found.fold[kept]).tolist())
    return MapTrials(
        person=person,
        record=record,
        decoders={fold: one for fold, one in decoders.items() if fold in used},
        rows=kept,
        sets=found.sets,
        labels=found.labels[kept],
        fold=found.fold[kept],
        n_available=len(found.rows),
    )
