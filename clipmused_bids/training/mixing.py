"""Trials mixed with others of the same participant.

Shape suffixes: B batch, V voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipmused_bids.records import IntArray

VALUES_AT_ONCE = 2**18  # 1 MB of single precision


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed: row i is ``share_i`` of trial i and ``1 - share_i`` of trial ``partner_i``.

    Parameters
    ----------
    share : ndarray of float32, shape (B,)
    partner : ndarray of int, shape (B,)
    """

    share: NDArray[np.float32]
    partner: IntArray

    def of_rows(self, values: NDArray[np.float32], rows: IntArray, places: IntArray) -> NDArray[np.float32]:
        """Mix rows of a batch, on the CPU; in ``values`` itself where it holds nothing else.

        Parameters
        ----------
        values : ndarray of shape (n, V)
            Those rows of the batch that are needed, changed.
        rows : ndarray of int, shape (m,)
            Rows of the batch that are wanted.
        places : ndarray of int, shape (2, m)
            Where ``values`` holds each of them, and its partner.

        Returns
        -------
        ndarray of shape (m, V)
        """
        own, partner = places
        share = self.share[rows][:, None]
        out = values if np.array_equal(own, np.arange(len(values))) else np.empty_like(values[: len(rows)])
        width = max(1, VALUES_AT_ONCE // max(1, len(rows)))
        for start in range(0, values.shape[1], width):
            columns = slice(start, start + width)
            part = values[:, columns]
            out[:, columns] = share * part[own] + (1 - share) * part[partner]
        return out

    def apply(self, values: Tensor) -> Tensor:
        """Mix the rows of a (B, ...) tensor."""
        share = torch.as_tensor(self.share, dtype=values.dtype, device=values.device)
        share = share.view(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[torch.as_tensor(self.partner, device=values.device)]


def draw_mixing(
    sizes: Sequence[int] | IntArray, *, concentration: float, generator: np.random.Generator
) -> Mixing:
    """Draw a partner of the same participant and a share for each trial of groups of these sizes.

    The share is Beta(concentration, concentration) distributed, folded to at least 1/2, so that a mixed trial
    still mostly is the trial in its row. Partners are of the same participant because voxels of two people
    may not be the same places. A label is unknown where either trial's is.

    References
    ----------
    Zhang et al. 2018 (mixup), arXiv 1710.09412.
    """
    starts = np.cumsum(sizes) - sizes
    partner = np.concatenate(
        [start + generator.permutation(n) for start, n in zip(starts, sizes, strict=True)]
    )
    share = generator.beta(concentration, concentration, size=len(partner))
    return Mixing(share=np.maximum(share, 1 - share).astype(np.float32), partner=partner)
