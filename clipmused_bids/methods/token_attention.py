"""Attention of a fitted network's tokens over its patches, trial by trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from clipmused_bids.decoder.attention import PatchPlaces, last_block, patch_places, rollout
from clipmused_bids.decoder.model import TokenTransformer
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.each_participant import EachParticipant
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.randomised import Predictor
from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.batches import TrialReader

Token = Literal["Low", "High", "Class"]
Reading = Literal["last block", "rollout"]

# By the architecture's scheme of tokens.
TOKENS: Mapping[str, tuple[Token, ...]] = {
    "pair": ("Low", "High"),
    "one": ("Class",),
    "shared": ("Class",),
    "none": (),
}
# Of attention maps of all blocks: 256 MB.
VALUES_AT_ONCE = 2**26


@dataclass(frozen=True)
class MemberAttention:
    """Attention in one network of those that are averaged.

    Parameters
    ----------
    places : PatchPlaces
        Voxels that its patches stand for.
    of_token : mapping of (Token, Reading) to ndarray of shape (n_trials, M)
    depth : int
        Number of blocks.
    """

    places: PatchPlaces
    of_token: Mapping[tuple[Token, Reading], FloatArray]
    depth: int


def tokens_of(method: Predictor, participant: str) -> tuple[Token, ...]:
    """Tokens whose attention a method has; none where it is no transformer."""
    network = _network(method, participant)
    return () if network is None else TOKENS[network.fitted().architecture.tokens]


def regions_of(method: Method, participant: str) -> IntArray | None:
    """Region of each voxel (-1: none) as a network's patches have it; None where they are no regions."""
    network = _network(method, participant)
    if network is None or network.fitted().architecture.kind not in {"roi", "own-roi"}:
        return None
    fitted = network.fitted()
    regions, people = fitted.architecture.regions, list(fitted.signature.masks)
    return regions[people.index(participant) if len(regions) > 1 else 0]


def token_attention(method: Predictor, data: TrialData) -> tuple[MemberAttention, ...]:
    """Pass trials of one participant through each member of a network, and keep what its tokens attend to.

    Parameters
    ----------
    method : Predictor
        With tokens (``tokens_of``).
    data : TrialData
        Of a single participant.
    """
    (participant,) = data.participants
    network = _network(method, participant)
    assert network is not None, "no tokens, no attention"
    fitted = network.fitted()
    tokens = tokens_of(method, participant)
    index = list(fitted.signature.masks).index(participant) if participant in fitted.signature.masks else 0
    reader = TrialReader(data, device=network.device, token=[index])
    found = []
    for model in fitted.members:
        assert isinstance(model, TokenTransformer)
        model.to(network.device).eval()
        found.append(
            MemberAttention(
                places=patch_places(model.patches, participant=index, n_voxels=data.responses[0].n_voxels),
                of_token=_attention(model, reader, tokens),
                depth=len(model.blocks),
            )
        )
    return tuple(found)


@torch.no_grad()
def _attention(
    model: TokenTransformer, reader: TrialReader, tokens: tuple[Token, ...]
) -> dict[tuple[Token, Reading], FloatArray]:
    n_patches, n_trials = model.patches.n_patches, reader.data.n_trials
    found = {
        (token, reading): np.empty((n_trials, n_patches))
        for token in tokens
        for reading in ("last block", "rollout")
    }
    heads = sum(block.attention.heads for block in model.blocks)  # type: ignore[union-attr,misc]
    batch_size = max(1, VALUES_AT_ONCE // (int(heads) * (n_patches + len(tokens)) ** 2))
    for places, batch in reader.in_order(batch_size=batch_size):
        maps = model(batch.responses, batch.participants, part=batch.part, with_attention=True).attention
        for reading, values in (
            ("last block", last_block(maps, n_tokens=len(tokens))),
            ("rollout", rollout(maps, n_tokens=len(tokens))),
        ):
            for k, token in enumerate(tokens):
                found[token, reading][places] = values[:, k].double().cpu().numpy()
    return found  # type: ignore[return-value]


def _network(method: Predictor, participant: str) -> NetworkMethod | None:
    if isinstance(method, EachParticipant):
        method = method.own(participant)
    return method if isinstance(method, NetworkMethod) else None
