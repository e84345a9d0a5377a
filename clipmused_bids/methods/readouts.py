"""Where the classifier's bias and the fixed readout start: fitted to the training trials, before the training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from clipmused_bids.config import LabelLoss, ModelOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.methods.linear_fit import fit_each, fit_pooled
from clipmused_bids.methods.stacking import (
    Member,
    bounded_frequency,
    closed_form,
    fit_members,
    prior_logits,
    scores_of,
    stack,
)
from clipmused_bids.records import FloatArray, TrialData

logger = logging.getLogger(__name__)

# Of the classifier's first weights; not 0, so that everything before it learns from the first step on.
SMALL = 0.01


def start_bias(model: Network, train: TrialData, *, loss: LabelLoss = "binary") -> None:
    """Start the classifier's bias at the labels' log-odds; for ``softmax``, at their log-probabilities."""
    model.start_at(torch.as_tensor(prior_logits(train, loss=loss), dtype=torch.float32))


def start_readout(
    model: Network,
    train: TrialData,
    *,
    options: ModelOptions,
    alphas: tuple[float, ...],
    loss: LabelLoss = "binary",
) -> FloatArray | None:
    """Fit the fixed readout of a model that has one.

    ``ridge``: in a common space one ridge for all; in native space each participant's own or the pooled one over
    aligned participants, whichever predicts held-out training trials better. ``stack``: the sum of ``fit_members``
    by ``stack``. The classifier on the tokens starts small, so that the decoder starts as its readout.

    Returns
    -------
    ndarray of shape (n_trials, C) or None
        Scores of the training trials by fits without their fold: what the readout says of unseen trials.
    """
    if not isinstance(model.readout, FixedReadout):
        return None
    members = _members(train, options=options, alphas=alphas, loss=loss)
    scores = [scores_of(one.held_out, train) for one in members.values()]
    weights = stack(scores, train, loss=loss).weights
    logger.info(
        "readout: ridge regressions with weights %s.",
        ", ".join(f"{weight:.2f} ({name})" for name, weight in zip(members, weights, strict=True)),
    )
    frequency = bounded_frequency(train)
    total = max(float(weights.sum()), 1e-6)
    share = weights / total
    model.readout.start_from(*_summed(list(members.values()), share, frequency=frequency), weight=total)
    model.shrink_head(SMALL)
    return np.asarray(np.tensordot(share, np.stack(scores), axes=1))


def _members(
    train: TrialData, *, options: ModelOptions, alphas: tuple[float, ...], loss: LabelLoss
) -> dict[str, Member]:
    if options.readout == "stack":
        return fit_members(train, alphas=alphas, voxel_weights=options.voxel_weights, loss=loss)
    pooled = closed_form(train, fit_pooled(train, alphas=alphas))
    if train.common_space:
        return {"pooled": pooled}
    each = closed_form(train, fit_each(train, alphas=alphas))
    own_is_better = _error(each, train) < _error(pooled, train)
    return {"each": each} if own_is_better else {"pooled": pooled}


def _error(member: Member, train: TrialData) -> float:
    return float(np.nanmean(np.square(member.held_out - train.labels)))


def _summed(
    members: Sequence[Member], weights: FloatArray, *, frequency: FloatArray
) -> tuple[list[FloatArray], list[FloatArray]]:
    """One map (V_n, C) and one offset (C,) for each participant: the weighted sum of the members' scores."""
    spread = frequency * (1 - frequency)
    maps, offsets = [], []
    for own in zip(*(member.maps for member in members), strict=True):
        maps.append(sum(w * one.coef for w, one in zip(weights, own, strict=True)) / spread)
        offsets.append(
            sum(w * (one.intercept - frequency) for w, one in zip(weights, own, strict=True)) / spread
        )
    return maps, offsets
