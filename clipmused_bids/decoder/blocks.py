"""Pre-norm transformer blocks.

Shape suffixes: B batch, T tokens, D width, H heads, E = D / H width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clipmused_bids.decoder.parts import RowDropout


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Parameters
    ----------
    width, heads : int
        D and H; D must be a multiple of H.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def _heads(self, z_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_batch, n_tokens, width = z_BTD.shape
        qkv = self.qkv(z_BTD).view(n_batch, n_tokens, 3, self.heads, width // self.heads)
        q_BHTE, k_BHTE, v_BHTE = qkv.permute(2, 0, 3, 1, 4)
        return q_BHTE, k_BHTE, v_BHTE

    def forward(self, z_BTD: Tensor) -> Tensor:
        """Return (B, T, D) by the fused kernel."""
        mixed_BHTE = nn.functional.scaled_dot_product_attention(*self._heads(z_BTD))
        return self.out(mixed_BHTE.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def with_maps(self, z_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same (B, T, D) and the attention maps (B, H, T, T); rows sum to 1."""
        q_BHTE, k_BHTE, v_BHTE = self._heads(z_BTD)
        map_BHTT = torch.softmax(q_BHTE @ k_BHTE.transpose(2, 3) * q_BHTE.shape[-1] ** -0.5, dim=-1)
        return self.out((map_BHTT @ v_BHTE).transpose(1, 2).flatten(2)), map_BHTT


class Block(nn.Module):
    """One transformer block.

    ``z' = MHSA(LN(z)) + z`` and ``MLP(LN(z')) + z'`` (the paper prints ``+ z`` in the second; the standard block
    has ``+ z'``).

    Parameters
    ----------
    width, heads : int
        D and H.
    mlp_ratio : float
        Hidden width of the MLP over D.
    dropout : float
        Of both branches.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994; Dosovitskiy et al. 2021, arXiv 2010.11929.
    """

    def __init__(self, width: int, *, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = max(1, round(width * mlp_ratio))
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads=heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = RowDropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, z_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        return self._after_attention(z_BTD, self.attention(self.attention_norm(z_BTD)))

    def with_maps(self, z_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same (B, T, D) and the attention maps (B, H, T, T)."""
        mixed_BTD, map_BHTT = self.attention.with_maps(self.attention_norm(z_BTD))
        return self._after_attention(z_BTD, mixed_BTD), map_BHTT

    def _after_attention(self, z_BTD: Tensor, mixed_BTD: Tensor) -> Tensor:
        z_BTD = z_BTD + self.dropout(mixed_BTD)
        return z_BTD + self.dropout(self.mlp(self.mlp_norm(z_BTD)))  # type: ignore[no-any-return]
