"""A multilayer perceptron on the voxel vector, or on aligned features.

Shape suffixes: B batch, V voxels, F features, W hidden width, C labels.
"""

from __future__ import annotations

from torch import Tensor, nn

from clipmused_bids.decoder.network import DecoderOutput, Features, Network, classifier
from clipmused_bids.decoder.parts import RowDropout
from clipmused_bids.decoder.readout import FixedReadout, LearnedReadout


class VoxelVector(nn.Module):
    """The voxel vector as it is: one patch, without parameters.

    Parameters
    ----------
    n_voxels : int
        V.
    """

    n_patches = 1

    def __init__(self, n_voxels: int) -> None:
        super().__init__()
        self.n_features = n_voxels

    def features(self, x_BV: Tensor, participant: int) -> Tensor:  # noqa: ARG002 - nothing is a participant's own
        """Return the voxels (B, V) as they are."""
        return x_BV


class Mlp(Network):
    """Multilayer perceptron: ``h_k = dropout(GELU(LN(W_k h_{k-1} + b_k)))``, ``logits = W h + b``.

    It has no tokens: what it knows of participants is what its features know.

    Parameters
    ----------
    patches : Features
        ``VoxelVector`` or ``AlignedFeatures``.
    n_participants, n_labels : int
        N and C.
    hidden_width, hidden_layers : int
        W, and how many hidden layers there are.
    dropout, input_dropout : float
        Of hidden units; of voxels.
    readout : LearnedReadout, FixedReadout or None
        Linear readout that is added to the logits.
    """

    def __init__(
        self,
        patches: Features,
        *,
        n_participants: int,
        n_labels: int,
        hidden_width: int,
        hidden_layers: int,
        dropout: float,
        input_dropout: float,
        readout: LearnedReadout | FixedReadout | None = None,
    ) -> None:
        super().__init__(patches, n_participants=n_participants, input_dropout=input_dropout, readout=readout)
        sizes = [patches.n_features, *[hidden_width] * hidden_layers]
        self.hidden = nn.Sequential(
            *(_hidden_layer(n, hidden_width, dropout=dropout) for n in sizes[:-1]),
        )
        self.head = classifier(sizes[-1], n_labels)

    def decode(self, f_BF: Tensor, participant_B: Tensor, *, with_attention: bool) -> DecoderOutput:  # noqa: ARG002 - it has neither tokens nor attention
        """Decode features (B, F), without the readout."""
        return DecoderOutput(self.head(self.hidden(f_BF)))


def _hidden_layer(n_inputs: int, width: int, *, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_inputs, width), nn.LayerNorm(width), nn.GELU(), RowDropout(dropout))
