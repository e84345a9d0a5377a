"""Similarities between stimuli, from CLIP features, for the batches that need them.

Shape suffixes: B batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clipmused_bids.records import FloatArray

WHOLE_MATRIX_BYTES = 256 * 1024**2


class TargetSimilarity:
    """Cosines between the features of stimuli, ``M^I[i, j] = cos(f(I_i), f(I_j))``.

    The whole matrix is computed once where it is small; otherwise each batch computes its own part.

    Parameters
    ----------
    features : ndarray of shape (n_stimuli, n_features)
        CLIP features of one level; a row of zeros is a stimulus without features. May be a memory map.
    device : torch.device
        Where the similarities go.
    whole_matrix_bytes : int
        Largest matrix (float32) that is computed at once.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994.
    """

    def __init__(
        self, features: FloatArray, *, device: torch.device, whole_matrix_bytes: int = WHOLE_MATRIX_BYTES
    ) -> None:
        self._features = features
        self._device = device
        self._whole: Tensor | None = None
        if 4 * len(features) ** 2 <= whole_matrix_bytes:
            self._whole = _cosines(_as_tensor(features, device=device))

    def of(self, stimulus_B: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities between the stimuli at rows ``stimulus_B``.

        Parameters
        ----------
        stimulus_B : Tensor of int, shape (B,)
            Rows of the features; -1 where unknown.

        Returns
        -------
        similarity_BB : Tensor of shape (B, B)
            Cosines; 0 where a trial is unknown.
        known_B : Tensor of bool, shape (B,)
            Trials whose stimulus has features.
        """
        named_B = stimulus_B >= 0
        row_B = stimulus_B.clamp(min=0)
        if self._whole is not None:
            similarity_BB = self._whole[row_B][:, row_B]
        else:
            similarity_BB = _cosines(_as_tensor(self._features[row_B.cpu().numpy()], device=self._device))
        similarity_BB = similarity_BB * named_B[:, None] * named_B
        return similarity_BB, named_B & (similarity_BB.diagonal() > 0)


def _as_tensor(features: FloatArray, *, device: torch.device) -> Tensor:
    return torch.as_tensor(np.asarray(features, dtype=np.float32), device=device)


def _cosines(features: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(features, dim=1)
    return unit @ unit.T
