"""What a decoder costs: parameters, operations, memory; measured without computing anything (meta tensors)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from clipmused_bids.decoder.model import TokenTransformer
from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.tokens import SubjectTokens


@dataclass(frozen=True)
class Cost:
    """Cost of one training step.

    Parameters
    ----------
    shared, per_participant : int, tuple of int
        Parameters that all participants share, and that each participant adds.
    forward_flops, step_flops : int
        Floating-point operations (a multiply-add counts two) of a forward pass, and of forward and backward.
    state_bytes : int
        Weights, gradients and both moments of Adam in float32.
    activation_bytes : int
        What autograd keeps of the forward pass.
    """

    shared: int
    per_participant: tuple[int, ...]
    forward_flops: int
    step_flops: int
    state_bytes: int
    activation_bytes: int


def count_parameters(model: Network) -> tuple[int, tuple[int, ...]]:
    """Parameters that are shared, and that each participant has alone (tokens; maps in native space)."""
    own = [0] * model.n_participants
    if isinstance(model, TokenTransformer) and isinstance(model.tokens, SubjectTokens):
        own = [token.numel() for token in model.tokens.subject]
    # A fixed readout of one map serves all participants.
    fixed = isinstance(model.readout, FixedReadout) and len(model.readout.own) > 1
    several = {"patches", "readout"} if fixed else {"patches"}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if parts[1] == "own" and parts[0] in several:
            own[int(parts[2])] += parameter.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    return total - sum(own), tuple(own)


def without_data(model: Network) -> Network:
    """Copy a network to the meta device without copying a single weight: that may be what there is no memory for."""
    known: dict[int, object] = {}
    for parameter in model.parameters():
        shape = torch.empty_like(parameter, device="meta")
        known[id(parameter)] = nn.Parameter(shape, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        known[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, known)


def training_cost(model: Network, *, n_voxels: Sequence[int], batch_size: int) -> Cost:
    """Cost of one training step with a batch spread evenly over participants.

    Parameters
    ----------
    model : Network
        Not changed; a copy without data is traced.
    n_voxels : sequence of int
        V of each participant.
    batch_size : int
        B; participants beyond it are not in the batch.
    """
    meta = without_data(model)
    groups = [len(range(n, batch_size, len(n_voxels))) for n in range(len(n_voxels))]
    present = [n for n, size in enumerate(groups) if size]
    responses = [torch.empty(groups[n], n_voxels[n], device="meta") for n in present]
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[id(storage)] = storage
        return tensor

    # Views of weights are kept as well, and are no memory of their own.
    weights = [tensor.untyped_storage() for tensor in (*meta.parameters(), *meta.buffers())]
    own_memory = {id(storage) for storage in weights}
    counter = FlopCounterMode(display=False)
    with counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = meta(responses, present).logits.sum()
        forward = counter.get_total_flops()
        loss.backward()
    shared, own = count_parameters(model)
    return Cost(
        shared=shared,
        per_participant=own,
        forward_flops=forward,
        step_flops=counter.get_total_flops(),
        state_bytes=16 * (shared + sum(own)),
        activation_bytes=sum(storage.nbytes() for key, storage in saved.items() if key not in own_memory),
    )
