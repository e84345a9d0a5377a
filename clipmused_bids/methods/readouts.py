"""Where the classifier's bias and the fixed readout start: fitted to the training trials, before the training."""

from __future__ import annotations

import numpy as np
import torch

from clipmused_bids.config import LabelLoss, ModelOptions
from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.methods.linear_fit import fit_each, fit_pooled
from clipmused_bids.methods.stacked_scores import stacked_scores
from clipmused_bids.methods.stacking import Member, closed_form, fit_members, prior_logits
from clipmused_bids.records import FloatArray, TrialData

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
    found = stacked_scores(members, train, loss=loss)
    model.readout.start_from(found.maps, found.offsets, weight=found.weight)
    model.shrink_head(SMALL)
    return found.held_out


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
