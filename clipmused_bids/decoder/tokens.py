"""Subject tokens and position embeddings.

Shape suffixes: B batch, N participants, M patches, T = M + 2 tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITIAL_SPREAD = 0.02


class SubjectTokens(nn.Module):
    """Put each participant's pair of learnable tokens before the patches and add positions.

    ``z_0 = [x_llv^(n); x_hlv^(n); p_1; ...; p_M] + E_pos``. One more participant costs exactly 2 D numbers.

    Parameters
    ----------
    n_participants, n_patches, width : int
        N, M and D.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994.
    """

    def __init__(self, *, n_participants: int, n_patches: int, width: int) -> None:
        super().__init__()
        self.subject = nn.Parameter(torch.randn(n_participants, 2, width) * INITIAL_SPREAD)
        self.position = nn.Parameter(torch.randn(n_patches + 2, width) * INITIAL_SPREAD)

    def forward(self, patches_BMD: Tensor, participant_B: Tensor) -> Tensor:
        """Return z_0 (B, T, D): low-level token, high-level token, patches."""
        pair_B2D = self.subject.index_select(0, participant_B)
        return torch.cat([pair_B2D.to(patches_BMD.dtype), patches_BMD], dim=1) + self.position
