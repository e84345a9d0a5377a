"""The decoder: patches, subject tokens, transformer, classifier.

Shape suffixes: B batch, V voxels, F features, M patches, T = M + 2 tokens, D width, C labels, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from clipmused_bids.decoder.blocks import Block
from clipmused_bids.decoder.readout import FixedReadout, LearnedReadout
from clipmused_bids.decoder.tokens import INITIAL_SPREAD, SubjectTokens


class Patches(Protocol):
    """What the decoder asks of a patch module (an ``nn.Module``)."""

    n_patches: int
    n_features: int

    def features(self, x_BV: Tensor, participant: int) -> Tensor:
        """Bring one participant's voxels (B, V) into features (B, F) that all participants share."""
        ...

    def embed(self, f_BF: Tensor) -> Tensor:
        """Read features (B, F) as patches (B, M, D)."""
        ...


class DecoderOutput(NamedTuple):
    """What one pass gives.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Log-odds of the labels.
    low, high : Tensor of shape (B, D)
        z_llv and z_hlv, after their LayerNorm.
    attention : tuple of Tensor, each of shape (B, H, T, T)
        Maps of each block; empty unless asked for.
    """

    logits: Tensor
    low: Tensor
    high: Tensor
    attention: tuple[Tensor, ...] = ()


class ClipMused(nn.Module):
    """CLIP-guided multi-subject decoder.

    ::

        z_0   = [x_llv^(n); x_hlv^(n); p_1; ...; p_M] + E_pos          (B, M + 2, D)
        z'_l  = MHSA(LN(z_{l-1})) + z_{l-1}                             l = 1..L
        z_l   = MLP(LN(z'_l)) + z'_l
        z_llv = LN(z_L[:, 0]),  z_hlv = LN(z_L[:, 1])                   (B, D) each
        logits = MLP(concat(z_llv, z_hlv))                              (B, C)

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
        Classifier on the two tokens: one hidden layer of width D, or none (not in the paper).
    readout : LearnedReadout, FixedReadout or None
        Linear readout that is added to the logits (not in the paper).

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994.
    """

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
    ) -> None:
        super().__init__()
        self.patches = patches
        self.input_dropout = nn.Dropout(input_dropout)
        self.tokens = SubjectTokens(n_participants=n_participants, n_patches=patches.n_patches, width=width)
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout) for _ in range(depth)
        )
        self.low_norm = nn.LayerNorm(width)
        self.high_norm = nn.LayerNorm(width)
        self.head = _head(width, n_labels, kind=head)
        self.readout = readout

    @torch.no_grad()
    def start_at(self, log_odds_C: Tensor) -> None:
        """Set the bias of the classifier to the labels' log-odds in the training data, shape (C,)."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(log_odds_C)

    def forward(
        self,
        responses: Sequence[Tensor],
        participants: Sequence[int],
        *,
        scores_BC: Tensor | None = None,
        with_attention: bool = False,
    ) -> DecoderOutput:
        """Decode trials that are grouped by participant.

        Parameters
        ----------
        responses : sequence of Tensor, each of shape (B_g, V_g)
            Responses of one participant each; the batch is their concatenation.
        participants : sequence of int
            Index of each group's participant.
        scores_BC : Tensor of shape (B, C), optional
            Stand in for the scores of a ``FixedReadout`` (held-out scores, while training).
        with_attention : bool
            Also return the attention maps of every block; the result is the same, the fused kernel is not used.

        Returns
        -------
        DecoderOutput
        """
        groups = list(zip(responses, participants, strict=True))
        f_BF = torch.cat([self.patches.features(self.input_dropout(x_BV), n) for x_BV, n in groups])
        participant_B = torch.cat([torch.full((len(x_BV),), n, device=f_BF.device) for x_BV, n in groups])
        z_BTD, attention = self._encode(self.tokens(self.patches.embed(f_BF), participant_B), with_attention)
        low_BD, high_BD = self.low_norm(z_BTD[:, 0]), self.high_norm(z_BTD[:, 1])
        logits_BC = self.head(torch.cat([low_BD, high_BD], dim=1))
        if isinstance(self.readout, LearnedReadout):
            logits_BC = logits_BC + self.readout(f_BF)
        elif self.readout is not None:
            if scores_BC is None:
                scores_BC = torch.cat([self.readout.scores(x_BV, n) for x_BV, n in groups])
            logits_BC = logits_BC + self.readout(scores_BC)
        return DecoderOutput(logits_BC, low_BD, high_BD, attention)

    def _encode(self, z_BTD: Tensor, with_attention: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        attention: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            if with_attention:
                z_BTD, map_BHTT = block.with_maps(z_BTD)
                attention.append(map_BHTT)
            else:
                z_BTD = block(z_BTD)
        return z_BTD, tuple(attention)


def _head(width: int, n_labels: int, *, kind: Literal["mlp", "linear"]) -> nn.Sequential:
    layers: list[nn.Module] = []
    if kind == "mlp":
        layers = [nn.Linear(2 * width, width), nn.GELU()]
    last = nn.Linear(width if kind == "mlp" else 2 * width, n_labels)
    # Small weights: the first predictions are the labels' frequencies.
    nn.init.normal_(last.weight, std=INITIAL_SPREAD)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
