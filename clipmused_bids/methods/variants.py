"""Rows of a comparison: methods, and the ablations of a method that are named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipmused_bids.errors import UsageError
from clipmused_bids.methods.registry import METHODS

_NO_TERM = {"lambda_perp": 0.0, "lambda_low": 0.0, "lambda_high": 0.0}


@dataclass(frozen=True)
class Variant:
    """A method with hyper-parameters of its own over those that were asked for.

    Parameters
    ----------
    name : str
        ``ridge``, or ``clip-mused:no-perp`` for an ablation.
    method : str
        Name in the registry.
    description : str
        One line for tables.
    overrides : mapping
        Tables of hyper-parameters, over the preset and what the user set.
    """

    name: str
    method: str
    description: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name as a BIDS label: letters and digits."""
        return self.name.replace("-", "").replace(":", "+")


def _of_clip_mused(name: str, description: str, **overrides: Any) -> Variant:
    return Variant(f"clip-mused:{name}", "clip-mused", description, overrides)


# Zhou et al. 2024 ablate the losses, the sources of the high level, and the number of tokens.
ABLATIONS: tuple[Variant, ...] = (
    _of_clip_mused("no-perp", "without L_perp", training={"lambda_perp": 0.0}),
    _of_clip_mused("no-low", "without L_llv", training={"lambda_low": 0.0}),
    _of_clip_mused("no-high", "without L_hlv", training={"lambda_high": 0.0}),
    _of_clip_mused("no-guidance", "without L_perp, L_llv and L_hlv", training=_NO_TERM),
    _of_clip_mused("image-only", "high level from images only", targets={"high": "image"}),
    _of_clip_mused("text-only", "high level from captions only", targets={"high": "text"}),
    _of_clip_mused("one-token", "one token, guided by both levels", model={"tokens": "one"}),
)

# Each takes one of our own additions away; only a preset that has it is changed.
ADDITIONS: tuple[Variant, ...] = (
    _of_clip_mused("no-readout", "without the linear readout", model={"readout": "none"}),
    _of_clip_mused("no-voxel-weights", "voxels weigh alike", model={"voxel_weights": "none"}),
    _of_clip_mused("binary-loss", "each label by itself", training={"label_loss": "binary"}),
    _of_clip_mused("by-map", "the epoch by validation mAP", training={"choose_by": "map"}),
    _of_clip_mused("random-start", "voxel maps start at random", model={"alignment": "random"}),
    _of_clip_mused("mlp-head", "classifier with a hidden layer", model={"head": "mlp"}),
    _of_clip_mused("no-input-dropout", "without dropout of voxels", model={"input_dropout": 0.0}),
    _of_clip_mused("no-mixup", "without mixup", training={"mixup": 0.0}),
    _of_clip_mused("no-weight-decay", "without weight decay", training={"weight_decay": 0.0}),
)

# The form as printed, at the preset's width and depth: every addition set back.
PAPER = _of_clip_mused(
    "paper",
    "the paper's form, without additions",
    model={
        "readout": "none",
        "voxel_weights": "none",
        "alignment": "random",
        "head": "mlp",
        "input_dropout": 0.0,
    },
    training={
        "label_loss": "binary",
        "choose_by": "map",
        "mixup": 0.0,
        "weight_decay": 0.0,
        "perp_scale": "batch",
        "n_seeds": 1,
    },
    fit_on="train",
)

VARIANTS: dict[str, Variant] = {
    **{name: Variant(name, name, info.description) for name, info in METHODS.items()},
    PAPER.name: PAPER,
    **{variant.name: variant for variant in (*ABLATIONS, *ADDITIONS)},
}


def find_variant(name: str) -> Variant:
    """Find a method or an ablation by name.

    Raises
    ------
    UsageError
        If there is none; names the nearest.
    """
    if name not in VARIANTS:
        near = difflib.get_close_matches(name, VARIANTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(VARIANTS)}"
        raise UsageError(f"--method {name}: unknown method.", hint=hint)
    return VARIANTS[name]
