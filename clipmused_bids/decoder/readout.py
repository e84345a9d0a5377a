"""Linear readouts in parallel with the tokens (not in the paper).

Shape suffixes: B batch, V voxels, F features, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clipmused_bids.records import FloatArray


class LearnedReadout(nn.Module):
    """``w (f W)``: a linear map of the features, trained with the rest, times a learned weight that starts at 1.

    Parameters
    ----------
    n_features, n_labels : int
        F and C.
    """

    def __init__(self, *, n_features: int, n_labels: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.randn(n_features, n_labels) * 0.1 * n_features**-0.5)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, f_BF: Tensor) -> Tensor:
        """Return (B, C)."""
        return self.weight * (f_BF @ self.map)


class FixedReadout(nn.Module):
    """``w z_c``: linear scores fitted beforehand, which stay as they are, times one learned weight.

    The weight is common to all labels, so that by itself the readout ranks labels as the scores do.

    Parameters
    ----------
    n_voxels : sequence of int
        V of each participant; a single number where one map serves all.
    n_labels : int
        C.
    """

    def __init__(self, *, n_voxels: Sequence[int], n_labels: int) -> None:
        super().__init__()
        self.own = nn.ParameterList(_fixed(torch.zeros(size, n_labels)) for size in n_voxels)
        self.offset = _fixed(torch.zeros(len(n_voxels), n_labels))
        self.weight = nn.Parameter(torch.ones(()))

    def scores(self, x_BV: Tensor, participant: int) -> Tensor:
        """Return the fitted scores (B, C) of one participant's trials."""
        n = participant if len(self.own) > 1 else 0
        own: Tensor = self.own[n]
        return x_BV @ own + self.offset[n]

    def forward(self, score_BC: Tensor) -> Tensor:
        """Return (B, C)."""
        return self.weight * score_BC

    @torch.no_grad()
    def start_from(self, maps: Sequence[FloatArray], offsets: Sequence[FloatArray], *, weight: float) -> None:
        """Set the maps (V_n, C) and offsets (C,), or the first where one serves all, and the learned weight."""
        for n, (one, offset) in enumerate(zip(maps, offsets, strict=True)):
            if n < len(self.own):
                self.own[n].copy_(torch.as_tensor(one))
                self.offset[n].copy_(torch.as_tensor(offset))
        self.weight.fill_(weight)


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
