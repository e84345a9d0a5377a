"""Transformers over patches, with tokens of participants or of all: CLIP-MUSED and its rivals.

Shape suffixes: B batch, F features, M patches, K tokens (2: a pair, 1), T = M + K, D width, H heads.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from clipmused_bids.decoder.blocks import Block
from clipmused_bids.decoder.network import DecoderOutput, Network, Patches, classifier
from clipmused_bids.decoder.readout import FixedReadout, LearnedReadout
from clipmused_bids.decoder.tokens import TokenScheme, make_tokens


class TokenTransformer(Network):
    """Vision transformer over patches; tokens say whose trial it is, and gather what the classifier reads.

    ::

        z_0    = [tokens; p_1; ...; p_M] + E_pos                         (B, M + K, D)
        z'_l   = MHSA(LN(z_{l-1})) + z_{l-1}                             l = 1..L
        z_l    = MLP(LN(z'_l)) + z'_l
        logits = head(concat of LN(z_L[:, k]), k < K)                    (B, C)

    Parameters
    ----------
    patches : Patches
        Module that makes patches of voxels.
    n_participants, n_labels : int
        N and C.
    width, depth, heads : int
        D, L and H.
    mlp_ratio, dropout, input_dropout : float
        Hidden width of the blocks' MLP over D; dropout of block branches; dropout of voxels.
    head : {"mlp", "linear"}
        Classifier on the tokens: one hidden layer of width D, or none (not in the paper).
    readout : LearnedReadout, FixedReadout or None
        Linear readout that is added to the logits (not in the paper).
    tokens : {"pair", "one", "shared"}
        A pair for each participant (CLIP-MUSED), one for each (its ablation; MS-EMB), or one for all (a plain
        vision transformer, without subject information).

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994; Chehab et al. 2022, arXiv 2103.02339; Dosovitskiy et al. 2021,
    arXiv 2010.11929.
    """

    patches: Patches

    def __init__(
        self,
        patches: Patches,
        *,
        n_participants: int,
        n_labels: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        head: Literal["mlp", "linear"],
        dropout: float,
        input_dropout: float,
        readout: LearnedReadout | FixedReadout | None,
        tokens: TokenScheme = "pair",
    ) -> None:
        super().__init__(patches, n_participants=n_participants, input_dropout=input_dropout, readout=readout)
        self.tokens = make_tokens(
            tokens, n_participants=n_participants, n_patches=patches.n_patches, width=width
        )
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout) for _ in range(depth)
        )
        self.has_pair = tokens == "pair"
        if self.has_pair:
            self.low_norm = nn.LayerNorm(width)
            self.high_norm = nn.LayerNorm(width)
        else:
            self.norm = nn.LayerNorm(width)
        self.head = classifier(
            self.tokens.n_tokens * width, n_labels, hidden=[width] if head == "mlp" else []
        )

    def decode(self, f_BF: Tensor, participant_B: Tensor, *, with_attention: bool) -> DecoderOutput:
        """Decode features (B, F) by the tokens' last states, without the readout."""
        z_BTD, attention = self._encode(
            self.tokens(self.patches.embed(f_BF), participant_B), with_attention=with_attention
        )
        if not self.has_pair:
            token_BD = self.norm(z_BTD[:, 0])
            return DecoderOutput(self.head(token_BD), attention=attention, token=token_BD)
        low_BD, high_BD = self.low_norm(z_BTD[:, 0]), self.high_norm(z_BTD[:, 1])
        return DecoderOutput(self.head(torch.cat([low_BD, high_BD], dim=1)), low_BD, high_BD, attention)

    def _encode(self, z_BTD: Tensor, *, with_attention: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        attention: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            if with_attention:
                z_BTD, map_BHTT = block.with_maps(z_BTD)
                attention.append(map_BHTT)
            else:
                z_BTD = block(z_BTD)
        return z_BTD, tuple(attention)


class ClipMused(TokenTransformer):
    """CLIP-guided multi-subject decoder: the transformer whose tokens are a pair for each participant.

    ::

        z_0   = [x_llv^(n); x_hlv^(n); p_1; ...; p_M] + E_pos          (B, M + 2, D)
        z'_l  = MHSA(LN(z_{l-1})) + z_{l-1}                             l = 1..L
        z_l   = MLP(LN(z'_l)) + z'_l
        z_llv = LN(z_L[:, 0]),  z_hlv = LN(z_L[:, 1])                   (B, D) each
        logits = MLP(concat(z_llv, z_hlv))                              (B, C)

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994.
    """
