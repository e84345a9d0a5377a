"""The four losses.

Shape suffixes: B batch, C labels, D width. All formulas: Zhou, Du, Wang, He 2024, arXiv 2402.08994.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, normalize

from clipmused_bids.config import LabelLoss
from clipmused_bids.decoder.network import DecoderOutput

Term = Literal["labels", "perp", "low", "high"]
TERMS: tuple[Term, ...] = ("labels", "perp", "low", "high")


@dataclass(frozen=True)
class Guidance:
    """Targets of one level for a batch.

    Parameters
    ----------
    similarity : Tensor of shape (B, B)
        M^I, cosines between the stimuli's CLIP features.
    known : Tensor of bool, shape (B,)
        Trials whose stimulus has features.
    """

    similarity: Tensor
    known: Tensor


def label_loss(logits_BC: Tensor, labels_BC: Tensor, *, kind: LabelLoss = "binary") -> Tensor:
    """Cross-entropy of the labels, ``L_c = mean over B and C of -[y log s + (1 - y) log(1 - s)]``, s the sigmoid.

    Unknown labels (NaN) are left out of the mean; without any known label the loss is 0. For trials that have exactly
    one label ``softmax`` is the cross-entropy of all labels together (not in the paper), ``mean over B of
    -sum over C of y log p`` with ``p = softmax(logits)``; a trial with an unknown label is left out.

    Parameters
    ----------
    logits_BC, labels_BC : Tensor of shape (B, C)
        Log-odds; 1, 0, a share in between (mixed trials) or NaN.
    kind : {"binary", "softmax"}
    """
    known = ~labels_BC.isnan()
    if kind == "softmax":
        whole_B = known.all(dim=1)
        each_B = -(torch.where(known, labels_BC, 0.0) * log_softmax(logits_BC.float(), dim=1)).sum(dim=1)
        return (each_B * whole_B).sum() / whole_B.sum().clamp(min=1)
    each = binary_cross_entropy_with_logits(
        logits_BC.float(), torch.where(known, labels_BC, 0.0), reduction="none"
    )
    return (each * known).sum() / known.sum().clamp(min=1)


def similarity_loss(token_BD: Tensor, guidance: Guidance) -> Tensor:
    """Guidance of a token by CLIP, ``|| M^I - M^X ||_F^2 / B^2`` with ``M^X[i, j] = cos(z_i, z_j)``.

    Trials without features are left out, and B counts the others; without any the loss is 0.

    Parameters
    ----------
    token_BD : Tensor of shape (B, D)
        z_llv or z_hlv.
    guidance : Guidance
        M^I and the trials it knows.
    """
    known = guidance.known.to(torch.float32)
    unit_BD = normalize(token_BD.float(), dim=1)
    error_BB = (guidance.similarity - unit_BD @ unit_BD.T) * known[:, None] * known
    return error_BB.square().sum() / known.sum().clamp(min=1).square()


def perpendicular_loss(
    low_BD: Tensor, high_BD: Tensor, *, scale: Literal["batch", "batch+width"] = "batch"
) -> Tensor:
    """Keep the two tokens apart, ``L_perp = || Z_llv Z_hlv^T ||_F^2 / B^2``, tokens not normalised.

    Parameters
    ----------
    low_BD, high_BD : Tensor of shape (B, D)
        z_llv and z_hlv.
    scale : {"batch", "batch+width"}
        ``batch`` as printed; ``batch+width`` divides by D^2 too. After LayerNorm a token has norm sqrt(D), so only
        the second is of the size of the other terms.
    """
    n_batch, width = low_BD.shape
    loss = (low_BD.float() @ high_BD.float().T).square().sum() / n_batch**2
    return loss / width**2 if scale == "batch+width" else loss


def loss_terms(
    output: DecoderOutput,
    labels_BC: Tensor,
    *,
    low: Guidance | None,
    high: Guidance | None,
    perp_scale: Literal["batch", "batch+width"],
    label_kind: LabelLoss = "binary",
) -> dict[Term, Tensor]:
    """All terms of a batch, unweighted; a term whose target is missing is not among them.

    A single token is guided by both levels, and nothing can be perpendicular to it: L_perp is not among the terms.
    """
    terms: dict[Term, Tensor] = {"labels": label_loss(output.logits, labels_BC, kind=label_kind)}
    if output.low is not None and output.high is not None:
        terms["perp"] = perpendicular_loss(output.low, output.high, scale=perp_scale)
    levels: tuple[tuple[Literal["low", "high"], Guidance | None], ...] = (("low", low), ("high", high))
    for name, guidance in levels:
        token_BD = output.guided(name)
        if guidance is not None and token_BD is not None:
            terms[name] = similarity_loss(token_BD, guidance)
    return terms


def total_loss(terms: Mapping[Term, Tensor], weights: Mapping[Term, float]) -> Tensor:
    """``L = L_c + lambda_perp L_perp + lambda_llv L_llv + lambda_hlv L_hlv`` over the terms that are on."""
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()
