"""What comes after a participant's own linear maps, as a decoder that reads features and label scores.

Shape suffixes: B batch, V voxels, F shared features, M patches, D width, C labels.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from clipmused_bids.decoder.network import Features, Network
from clipmused_bids.decoder.parts import RowDropout
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches
from clipmused_bids.records import FloatArray, ResponseTable, TrialData


class FeaturePatches(nn.Module):
    """Patches of features that are given: the first columns of what is read.

    Parameters
    ----------
    patches : Features
        Whose shared step is taken.
    """

    def __init__(self, patches: Features) -> None:
        super().__init__()
        self.shared = patches
        self.n_patches = patches.n_patches
        self.n_features = patches.n_features

    def features(self, x_BV: Tensor, participant: int) -> Tensor:  # noqa: ARG002 - nothing is a participant's own
        """Return the features (B, F)."""
        return x_BV[:, : self.n_features]

    def embed(self, f_BF: Tensor) -> Tensor:
        """Return the patches (B, M, D)."""
        assert isinstance(self.shared, AlignedPatches | OwnRegionPatches)
        return self.shared.embed(f_BF)


def core_of(model: Network) -> Network:
    """Copy a decoder of one participant into one that reads what ``as_features`` lays out.

    Nothing is dropped at random: features are few, and each is needed.
    """
    core = copy.deepcopy(model)
    n_features = core.patches.n_features
    if isinstance(core.readout, FixedReadout):
        n_labels = core.readout.offset.shape[1]
        readout = FixedReadout(n_voxels=[n_features + n_labels], n_labels=n_labels)
        pick = np.eye(n_features + n_labels)[:, n_features:]
        readout.start_from([pick], [np.zeros(n_labels)], weight=float(core.readout.weight.detach()))
        core.readout = readout.to(next(core.parameters()).device)
    core.patches = FeaturePatches(core.patches)
    core.input_dropout = RowDropout(0.0)
    return core


def as_features(data: TrialData, features: FloatArray, scores: FloatArray | None) -> TrialData:
    """Put features (n, F), and scores (n, C) of a fixed readout, in the place of one participant's voxels."""
    values = features if scores is None else np.column_stack([features, scores])
    width = values.shape[1]
    zero, one = np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32)
    table = ResponseTable((values.astype(np.float32),), (np.arange(width),), (zero,), (one,))
    return replace(data, responses=(table,), row=np.arange(data.n_trials))


@torch.no_grad()
def through_maps(model: Network, data: TrialData) -> TrialData:
    """Trials that nothing was fitted to, as features and scores by the model's own maps."""
    x_BV = torch.as_tensor(data.read()[0], device=next(model.parameters()).device)
    features = model.patches.features(x_BV, 0).cpu().numpy()
    scores = None
    if isinstance(model.readout, FixedReadout):
        scores = model.readout.scores(x_BV, 0).cpu().numpy()
    return as_features(data, features, scores)
