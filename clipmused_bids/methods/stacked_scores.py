"""The weighted sum of a stack of linear decoders, as one linear map of scores for each participant."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipmused_bids.config import LabelLoss
from clipmused_bids.methods.stacking import Member, bounded_frequency, scores_of, stack
from clipmused_bids.records import FloatArray, TrialData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StackedScores:
    """Scores ``x @ map + offset`` that log-odds are the prior plus ``weight`` times of.

    Parameters
    ----------
    maps : tuple of ndarray, each of shape (V_n, C)
        One for each participant.
    offsets : tuple of ndarray, each of shape (C,)
    weight : float
        Sum of the members' weights.
    shares : mapping of str to float
        What each member counts, by name; they sum to 1 (0 where no member counts at all).
    held_out : ndarray of shape (n, C)
        Scores of the training trials by fits without their fold.
    """

    maps: tuple[FloatArray, ...]
    offsets: tuple[FloatArray, ...]
    weight: float
    shares: Mapping[str, float]
    held_out: FloatArray


def stacked_scores(members: Mapping[str, Member], train: TrialData, *, loss: LabelLoss) -> StackedScores:
    """Weigh decoders by ``stack`` and sum their maps.

    Parameters
    ----------
    members : mapping of str to Member
        Fitted to ``train``.
    train : TrialData
    loss : {"binary", "softmax"}
    """
    scores = [scores_of(one.held_out, train) for one in members.values()]
    weights = stack(scores, train, loss=loss).weights
    logger.info(
        "readout: ridge regressions with weights %s.",
        ", ".join(f"{weight:.2f} ({name})" for name, weight in zip(members, weights, strict=True)),
    )
    total = max(float(weights.sum()), 1e-6)
    shares = weights / total
    frequency = bounded_frequency(train)
    spread = frequency * (1 - frequency)
    maps, offsets = [], []
    for own in zip(*(member.maps for member in members.values()), strict=True):
        maps.append(sum(w * one.coef for w, one in zip(shares, own, strict=True)) / spread)
        offsets.append(
            sum(w * (one.intercept - frequency) for w, one in zip(shares, own, strict=True)) / spread
        )
    return StackedScores(
        maps=tuple(maps),
        offsets=tuple(offsets),
        weight=total,
        shares={name: float(share) for name, share in zip(members, shares, strict=True)},
        held_out=np.asarray(np.tensordot(shares, np.stack(scores), axes=1)),
    )
