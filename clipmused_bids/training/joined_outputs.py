"""Outputs of the parts of a batch, joined to those of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipmused_bids.decoder.network import DecoderOutput
from clipmused_bids.training.processes import Processes

FIELDS = ("logits", "low", "high", "token")


def joined_fields(
    outputs: Sequence[DecoderOutput], *, processes: Processes, n_rows: int
) -> dict[str, Tensor]:
    """Outputs of all rows of a batch by name, in the order of its rows; without a gradient.

    Parameters
    ----------
    outputs : sequence of DecoderOutput
        Of the parts that this process has computed, which lie one after the other.
    processes : Processes
        That have the other parts.
    n_rows : int
        Rows of the whole batch.
    """
    names = [name for name in FIELDS if getattr(outputs[0], name) is not None]
    own = [torch.cat([getattr(output, name).detach() for output in outputs]) for name in names]
    # One message for all.
    whole = processes.gathered(torch.cat(own, dim=1), n_rows=n_rows)
    pieces = torch.split(whole, [value.shape[1] for value in own], dim=1)
    return dict(zip(names, pieces, strict=True))


def output_of(fields: dict[str, Tensor]) -> DecoderOutput:
    """Return named outputs as what a network gives."""
    return DecoderOutput(fields["logits"], fields.get("low"), fields.get("high"), (), fields.get("token"))
