"""What all deep decoders share: features of each participant's voxels, a classifier, a readout.

Shape suffixes: B batch, V voxels, F features, M patches, T tokens and patches, D width, E input of the classifier,
C labels, H heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from clipmused_bids.decoder.parts import Part, RowDropout, rows_of
from clipmused_bids.decoder.readout import FixedReadout, LearnedReadout
from clipmused_bids.decoder.tokens import INITIAL_SPREAD


class Features(Protocol):
    """What every decoder asks of the module that reads voxels (an ``nn.Module``)."""

    n_patches: int
    n_features: int

    def features(self, x_BV: Tensor, participant: int) -> Tensor:
        """Bring one participant's voxels (B, V) into features (B, F) that all participants share."""
        ...


class Patches(Features, Protocol):
    """What a transformer asks of it besides."""

    def embed(self, f_BF: Tensor) -> Tensor:
        """Read features (B, F) as patches (B, M, D)."""
        ...


class DecoderOutput(NamedTuple):
    """What one pass gives.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Log-odds of the labels.
    low, high : Tensor of shape (B, D), optional
        z_llv and z_hlv, after their LayerNorm; of networks with a pair of tokens.
    attention : tuple of Tensor, each of shape (B, H, T, T)
        Maps of each block; empty unless asked for.
    token : Tensor of shape (B, D), optional
        z after its LayerNorm, of networks with a single token.
    """

    logits: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    attention: tuple[Tensor, ...] = ()
    token: Tensor | None = None

    def guided(self, level: Literal["low", "high"]) -> Tensor | None:
        """Return the token (B, D) that features of this level can guide: its own, else the single one."""
        own = self.low if level == "low" else self.high
        return self.token if own is None else own


class Network(nn.Module, ABC):
    """A decoder of trials that are grouped by participant.

    ``logits = head(code(features)) + readout``; what lies between features and classifier is the network's own.

    Parameters
    ----------
    patches : Features
        Module that reads voxels; ``features`` is the one place, besides tokens, where people may differ.
    n_participants : int
        N.
    input_dropout : float
        Dropout of voxels.
    readout : LearnedReadout, FixedReadout or None
        Linear readout that is added to the logits (not in the paper).
    """

    head: nn.Sequential
    patches: Features

    def __init__(
        self,
        patches: Features,
        *,
        n_participants: int,
        input_dropout: float,
        readout: LearnedReadout | FixedReadout | None,
    ) -> None:
        super().__init__()
        self.patches = patches
        self.n_participants = n_participants
        self.input_dropout = RowDropout(input_dropout)
        self.readout = readout

    @abstractmethod
    def decode(self, f_BF: Tensor, participant_B: Tensor, *, with_attention: bool) -> DecoderOutput:
        """Decode features (B, F) of trials whose participants are ``participant_B`` (B,), without the readout."""

    @torch.no_grad()
    def start_at(self, log_odds_C: Tensor) -> None:
        """Set the bias of the classifier to the labels' log-odds in the training data, shape (C,)."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(log_odds_C)

    @torch.no_grad()
    def shrink_head(self, factor: float) -> None:
        """Multiply the weights of the last layer of the classifier; its bias stays."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(factor)

    def forward(
        self,
        responses: Sequence[Tensor],
        participants: Sequence[int],
        *,
        scores_BC: Tensor | None = None,
        part: Part | None = None,
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
        part : Part, optional
            Which rows of a larger batch these are; without, they are the whole batch.
        with_attention : bool
            Also return the attention maps of every block; the result is the same, the fused kernel is not used.

        Returns
        -------
        DecoderOutput
        """
        with rows_of(self, part):
            groups = list(zip(responses, participants, strict=True))
            f_BF = torch.cat(
                [
                    self.patches.features(x_BV, n)
                    for x_BV, n in zip(self._dropped(responses, part), participants, strict=True)
                ]
            )
            participant_B = torch.cat([torch.full((len(x_BV),), n, device=f_BF.device) for x_BV, n in groups])
            output = self.decode(f_BF, participant_B, with_attention=with_attention)
            logits_BC = output.logits
            if isinstance(self.readout, LearnedReadout):
                logits_BC = logits_BC + self.readout(f_BF)
            elif self.readout is not None:
                if scores_BC is None:
                    scores_BC = torch.cat([self.readout.scores(x_BV, n) for x_BV, n in groups])
                logits_BC = logits_BC + self.readout(scores_BC)
            return output._replace(logits=logits_BC)

    def _dropped(self, responses: Sequence[Tensor], part: Part | None) -> list[Tensor]:
        """Drop voxels of each group; of groups that are not in this part the random numbers are drawn all the same."""
        drop = self.input_dropout
        if not drop.drops:
            return list(responses)
        if part is None or part.is_whole:
            return [drop(x_BV) for x_BV in responses]
        left = iter(responses)
        dropped = []
        for group, rows in part.overlaps():
            factors = drop.factors(responses[0], n_rows=part.sizes[group], n_values=(part.n_voxels[group],))[
                rows
            ]
            if len(factors):
                dropped.append(next(left) * factors)
        return dropped


def classifier(n_inputs: int, n_labels: int, *, hidden: Sequence[int] = ()) -> nn.Sequential:
    """Classifier of E inputs with GELU after each hidden layer; (B, E) to (B, C)."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_inputs, width), nn.GELU()]
        n_inputs = width
    last = nn.Linear(n_inputs, n_labels)
    # Small weights: the first predictions are the labels' frequencies.
    nn.init.normal_(last.weight, std=INITIAL_SPREAD)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
