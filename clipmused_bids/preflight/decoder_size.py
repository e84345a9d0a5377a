"""The decoder that would be trained, built without data or memory, and what one training step of it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.config import ModelOptions
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.preflight.run_sizes import ParticipantSize, shared_voxels
from clipmused_bids.records import IntArray, ResponseTable, TrialData, VoxelSpace
from clipmused_bids.stages.plan import Plan

# Regions of the atlas that most people take (Schaefer et al. 2018); an atlas itself is not read here.
ATLAS_REGIONS = 400


@dataclass(frozen=True)
class DecoderSize:
    """A decoder and its training step.

    Parameters
    ----------
    patches : str
        Kind of patches.
    n_patches : int
    shared, own : int
        Parameters that all share, and those of all participants together.
    state_bytes, activation_bytes : int
        Weights, gradients and moments; what is kept of a forward pass.
    step_flops : int
        Operations of one step.
    n_decoders : int
        Decoders of this size that are trained: one of everyone, or one for each participant, of which this is the
        largest.
    """

    patches: str
    n_patches: int
    shared: int
    own: int
    state_bytes: int
    activation_bytes: int
    step_flops: int
    n_decoders: int = 1

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return self.shared + self.own


def decoder_size(
    plan: Plan, sizes: Sequence[ParticipantSize], *, label_names: Sequence[str], method: str | None = None
) -> DecoderSize:
    """Size of the deep decoder of these participants, by ``method`` or the one that was asked for.

    Where each participant has a decoder, it is that of the participant with the most voxels.

    Raises
    ------
    UsageError
        If the options ask for patches that the data cannot give.
    DataError
        If participants of a common space have no voxel in common.
    """
    import torch

    from clipmused_bids.decoder.cost import training_cost
    from clipmused_bids.methods.architecture import build_decoder, choose_architecture

    info = METHODS[method or plan.config.method]
    assert info.network is not None, "only networks have such a size"
    n_decoders = 1
    if info.per_participant or plan.config.level == "participant":
        n_decoders, sizes = len(sizes), [max(sizes, key=lambda size: size.n_voxels)]
    options = info.network.model_options(plan.hyperparameters.model)
    empty = _empty_trials(plan, sizes, label_names=label_names, options=options)
    architecture = choose_architecture(empty, options, network=info.network)
    with torch.device("meta"):
        model = build_decoder(architecture, options, n_participants=len(sizes))
    cost = training_cost(
        model,
        n_voxels=architecture.n_voxels,
        batch_size=plan.hyperparameters.training.batch_size,
    )
    return DecoderSize(
        patches=architecture.kind,
        n_patches=model.patches.n_patches,
        shared=cost.shared,
        own=sum(cost.per_participant),
        state_bytes=cost.state_bytes,
        activation_bytes=cost.activation_bytes,
        step_flops=cost.step_flops,
        n_decoders=n_decoders,
    )


def _empty_trials(
    plan: Plan, sizes: Sequence[ParticipantSize], *, label_names: Sequence[str], options: ModelOptions
) -> TrialData:
    """No trials of these participants, in spaces with regions of equal sizes where there would be regions."""
    voxels = [shared_voxels(sizes)] * len(sizes) if plan.common_space else [size.voxels for size in sizes]
    # Regions are those that everyone has voxels in.
    n_regions = min(_n_regions(plan, options=options), *(len(own) for own in voxels))
    spaces = tuple(_space(size, own, n_regions=n_regions) for size, own in zip(sizes, voxels, strict=True))
    nothing = np.empty(0, dtype=np.int64)
    return TrialData(
        participants=tuple(size.participant for size in sizes),
        responses=tuple(_no_rows(len(space.voxels)) for space in spaces),
        spaces=spaces,
        common_space=plan.common_space,
        participant=nothing,
        row=nothing,
        labels=np.empty((0, len(label_names)), dtype=np.float32),
        label_names=tuple(label_names),
        single_label=False,
        stimulus=nothing,
        stimulus_id=(),
        targets=None,
        group=nothing,
    )


def _space(size: ParticipantSize, voxels: IntArray, *, n_regions: int) -> VoxelSpace:
    assert size.grid is not None
    region = np.arange(len(voxels)) * n_regions // len(voxels)
    names = tuple(f"region{k}" for k in range(n_regions))
    return VoxelSpace(size.grid, voxels, region if n_regions else region - 1, names)


def _n_regions(plan: Plan, *, options: ModelOptions) -> int:
    atlas = plan.config.inputs.atlas
    if atlas is not None and atlas.partition(":")[0] not in {"clusters", "grid"}:
        return ATLAS_REGIONS
    # In native space, regions of two people correspond only where an atlas says so.
    return options.n_regions if plan.common_space else 0


def _no_rows(n_voxels: int) -> ResponseTable:
    zero = np.zeros(n_voxels, dtype=np.float32)
    return ResponseTable(
        blocks=(np.empty((0, n_voxels), dtype=np.float32),),
        columns=(np.arange(n_voxels),),
        mean=(zero,),
        sd=(zero + 1,),
    )
