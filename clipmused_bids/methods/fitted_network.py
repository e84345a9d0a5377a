"""What a fitted network consists of, for those who make another of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipmused_bids.config import LabelLoss
from clipmused_bids.decoder.network import Network
from clipmused_bids.methods.architecture import Architecture
from clipmused_bids.methods.base import Signature
from clipmused_bids.methods.template import Template


@dataclass(frozen=True)
class FittedNetwork:
    """Parts of a fitted deep decoder.

    Parameters
    ----------
    members : tuple of Network
        Networks whose predictions are averaged.
    signature : Signature
        What data they are for.
    architecture : Architecture
    alignment : str
        Where the participants' linear maps started, in words.
    templates : tuple of Template
        What links a new participant to each member; empty where maps are shared, or nothing was stored.
    label_loss : {"binary", "softmax"}
        L_c that it was trained by: what its logits mean.
    adaptation : mapping or None
        How the decoder was fitted to a new participant of another one; None where it was trained.
    """

    members: tuple[Network, ...]
    signature: Signature
    architecture: Architecture
    alignment: str
    templates: tuple[Template, ...] = ()
    label_loss: LabelLoss = "binary"
    adaptation: Mapping[str, Any] | None = None
