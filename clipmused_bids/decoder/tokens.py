"""Tokens before the patches, and position embeddings.

Shape suffixes: B batch, N participants, K tokens (2: a pair, 1), M patches, T = M + K tokens, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

INITIAL_SPREAD = 0.02

TokenScheme = Literal["pair", "one", "shared"]


class SubjectTokens(nn.Module):
    """Put each participant's own learnable tokens before the patches and add positions.

    A pair (CLIP-MUSED): ``z_0 = [x_llv^(n); x_hlv^(n); p_1; ...; p_M] + E_pos``, and one more participant costs
    exactly 2 D numbers. One (the class token is the participant's): ``z_0 = [x^(n); p_1; ...; p_M] + E_pos``, and
    D numbers.

    Parameters
    ----------
    n_participants, n_patches, width : int
        N, M and D.
    n_tokens : {2, 1}
        K, tokens of each participant.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994 (a pair); Chehab et al. 2022, arXiv 2103.02339 (an embedding of each
    participant).
    """

    def __init__(
        self, *, n_participants: int, n_patches: int, width: int, n_tokens: Literal[2, 1] = 2
    ) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.subject = nn.Parameter(torch.randn(n_participants, n_tokens, width) * INITIAL_SPREAD)
        self.position = nn.Parameter(torch.randn(n_patches + n_tokens, width) * INITIAL_SPREAD)

    def forward(self, patches_BMD: Tensor, participant_B: Tensor) -> Tensor:
        """Return z_0 (B, T, D): the participant's tokens (of a pair, the low level first), then the patches."""
        own_BKD = self.subject.index_select(0, participant_B)
        return torch.cat([own_BKD.to(patches_BMD.dtype), patches_BMD], dim=1) + self.position


class ClassToken(nn.Module):
    """Put one class token, the same for everyone, before the patches and add positions.

    ``z_0 = [x; p_1; ...; p_M] + E_pos``: nothing here is a participant's own.

    Parameters
    ----------
    n_patches, width : int
        M and D.

    References
    ----------
    Dosovitskiy et al. 2021, arXiv 2010.11929.
    """

    n_tokens = 1

    def __init__(self, *, n_patches: int, width: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.randn(1, width) * INITIAL_SPREAD)
        self.position = nn.Parameter(torch.randn(n_patches + 1, width) * INITIAL_SPREAD)

    def forward(self, patches_BMD: Tensor, participant_B: Tensor) -> Tensor:
        """Return z_0 (B, T, D): the class token, then the patches; ``participant_B`` gives B alone."""
        token_B1D = self.shared.expand(len(participant_B), 1, -1)
        return torch.cat([token_B1D.to(patches_BMD.dtype), patches_BMD], dim=1) + self.position


def make_tokens(
    scheme: TokenScheme, *, n_participants: int, n_patches: int, width: int
) -> SubjectTokens | ClassToken:
    """Tokens of a scheme.

    Parameters
    ----------
    scheme : {"pair", "one", "shared"}
        A pair for each participant, one for each participant, or one for all.
    n_participants, n_patches, width : int
        N, M and D.
    """
    if scheme == "shared":
        return ClassToken(n_patches=n_patches, width=width)
    return SubjectTokens(
        n_participants=n_participants,
        n_patches=n_patches,
        width=width,
        n_tokens=2 if scheme == "pair" else 1,
    )
