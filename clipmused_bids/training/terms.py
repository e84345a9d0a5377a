"""Terms of the loss of a batch, and the similarities that guide it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.losses import TERMS, Guidance, Term, loss_terms
from clipmused_bids.decoder.network import DecoderOutput
from clipmused_bids.records import TrialData
from clipmused_bids.training.batches import Batch, guidance_similarity
from clipmused_bids.training.guidance import TargetSimilarity
from clipmused_bids.training.monitor import similarity_fit, token_norms

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Levels:
    """Similarities of the stimuli at both levels; None where the level's guidance is off."""

    low: TargetSimilarity | None
    high: TargetSimilarity | None


def guidance_levels(data: TrialData, *, options: TrainingOptions, device: torch.device) -> Levels:
    """Similarities that guide the tokens, and a log line for each level that is off.

    A level is off where its weight is 0, where the dataset has no such features, or where no trial has any.
    """
    levels: dict[str, TargetSimilarity | None] = {}
    for name, weight in (("low", options.lambda_low), ("high", options.lambda_high)):
        features = None if data.targets is None else getattr(data.targets, name)
        levels[name] = None
        if weight == 0:
            logger.info("guidance: the %s level is off (lambda_%s = 0).", name, name)
        elif features is None or not (data.stimulus >= 0).any():
            logger.info("guidance: the %s level is off (no CLIP features of the stimuli).", name)
        else:
            levels[name] = TargetSimilarity(features, device=device)
    return Levels(low=levels["low"], high=levels["high"])


def term_weights(options: TrainingOptions) -> dict[Term, float]:
    """Weight of each term of the loss."""
    return {
        "labels": 1.0,
        "perp": options.lambda_perp,
        "low": options.lambda_low,
        "high": options.lambda_high,
    }


def batch_terms(
    output: DecoderOutput, batch: Batch, *, levels: Levels, options: TrainingOptions
) -> dict[Term, Tensor]:
    """All terms of the loss of one batch, unweighted; a term that is off is not among them."""
    guidance = {
        name: Guidance(*guidance_similarity(level, batch))
        for name, level in (("low", levels.low), ("high", levels.high))
        if level is not None
    }
    terms = loss_terms(
        output,
        batch.labels,
        low=guidance.get("low"),
        high=guidance.get("high"),
        perp_scale=options.perp_scale,
        label_kind="softmax" if options.label_loss == "softmax" else "binary",
    )
    return {name: value for name, value in terms.items() if term_weights(options)[name] > 0}


def watched_in(
    output: DecoderOutput, batch: Batch, *, norms: Mapping[Term, float], levels: Levels
) -> dict[str, float]:
    """What is written down of one batch: norms of each term's gradient and of the tokens, fits of similarities."""
    row = {f"gradient_{name}": norms.get(name, float("nan")) for name in TERMS}
    row |= token_norms(output)
    for name, level, token in (
        ("low", levels.low, output.guided("low")),
        ("high", levels.high, output.guided("high")),
    ):
        fit = {"constant": float("nan"), "correlation": float("nan")}
        if level is not None and token is not None:
            similarity_BB, _ = guidance_similarity(level, batch)
            fit = similarity_fit(token, similarity_BB, stimulus_B=batch.stimulus)
        row |= {f"{key}_{name}": value for key, value in fit.items()}
    return row
