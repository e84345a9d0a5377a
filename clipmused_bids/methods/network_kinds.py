"""Which network each deep method trains, and what of it may tell participants apart; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from clipmused_bids.config import ModelOptions

Tokens = Literal["pair", "one", "shared", "none"]


# What only some of the networks have.
_OF_GUIDANCE = (
    "model.readout",
    "training.lambda_perp",
    "training.lambda_low",
    "training.lambda_high",
    "training.perp_scale",
)
_OF_TRANSFORMERS = (
    "model.patches",
    "model.width",
    "model.depth",
    "model.heads",
    "model.mlp_ratio",
    "model.head",
    "model.n_regions",
    "model.n_patches",
)
_OF_PERCEPTRONS = ("model.hidden_width", "model.hidden_layers")


@dataclass(frozen=True)
class NetworkKind:
    """One configuration of the network that all deep methods share.

    Parameters
    ----------
    name : str
        Name of the method.
    reads : {"patches", "vector"}
        A transformer over patches, or a multilayer perceptron on the voxel vector.
    tokens : {"options", "one", "shared", "none"}
        ``options``: what ``model.tokens`` says. One token for each participant, one for all, or none.
    guided : bool
        Whether CLIP targets are read.
    alone : str or None
        Method of a single participant that this one becomes where there is one participant only.
    """

    name: str
    reads: Literal["patches", "vector"]
    tokens: Literal["options", "one", "shared", "none"]
    guided: bool
    alone: str | None = None

    def token_scheme(self, options: ModelOptions) -> Tokens:
        """Tokens of the network that these options make."""
        return options.tokens if self.tokens == "options" else self.tokens

    def model_options(self, options: ModelOptions) -> ModelOptions:
        """Options as this method reads them: a readout is an addition to ``clip-mused``, its rivals have none."""
        return options if self.guided else replace(options, readout="none")

    @property
    def unread(self) -> tuple[str, ...]:
        """Options of the tables ``model`` and ``training`` that change nothing of this method."""
        names: tuple[str, ...] = () if self.guided else _OF_GUIDANCE
        names += () if self.tokens == "options" else ("model.tokens",)
        return names + (_OF_TRANSFORMERS if self.reads == "vector" else _OF_PERCEPTRONS)

    def subject_information(self, options: ModelOptions, *, own_maps: bool) -> str:
        """Say what a network of several participants knows of whose trial it reads.

        Parameters
        ----------
        options : ModelOptions
        own_maps : bool
            Whether each participant has linear maps of his own (native space).
        """
        tokens = {
            "pair": "two tokens of each participant",
            "one": "one token of each participant",
            "shared": "",
            "none": "",
        }[self.token_scheme(options)]
        maps = "each participant's own linear map, since voxels do not correspond" if own_maps else ""
        return " and ".join(part for part in (tokens, maps) if part) or "none"


CLIP_MUSED = NetworkKind("clip-mused", reads="patches", tokens="options", guided=True)
MS_EMB = NetworkKind("ms-emb", reads="patches", tokens="one", guided=False, alone="ss-vit")
MS_SMODEL_VIT = NetworkKind("ms-smodel-vit", reads="patches", tokens="shared", guided=False, alone="ss-vit")
MS_SMODEL_MLP = NetworkKind("ms-smodel-mlp", reads="vector", tokens="none", guided=False, alone="ss-mlp")
SS_VIT = NetworkKind("ss-vit", reads="patches", tokens="shared", guided=False)
SS_MLP = NetworkKind("ss-mlp", reads="vector", tokens="none", guided=False)
