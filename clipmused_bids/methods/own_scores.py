"""Linear decoders of a new participant's own, and their sum with a classifier that others share.

Shapes: n trials, V voxels, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipmused_bids.config import LabelLoss, ModelOptions
from clipmused_bids.methods.linear_fit import fit_each
from clipmused_bids.methods.stacking import Member, closed_form, fit_members, scores_of, stack
from clipmused_bids.records import FloatArray, TrialData


@dataclass(frozen=True)
class LinearScores:
    """Scores of labels as a fixed readout has them: linear in one participant's voxels.

    Parameters
    ----------
    coef, offset : ndarray of shape (V, C) and (C,)
    held_out : ndarray of shape (n, C)
        Scores of each training trial by a fit without its fold; 0 where there is none.
    """

    coef: FloatArray
    offset: FloatArray
    held_out: FloatArray


def own_scores(
    data: TrialData,
    *,
    frequency: FloatArray,
    options: ModelOptions,
    alphas: tuple[float, ...],
    loss: LabelLoss,
) -> dict[str, LinearScores]:
    """Fit the linear decoders that the base's readout is made of, to one participant alone.

    ``readout = "stack"``: what ``fit_members`` fits (a ridge, and one of weighted voxels, refitted for each fold).
    Otherwise, and with a single group, in which nothing can be held out fairly, one plain ridge.

    Parameters
    ----------
    data : TrialData
        Training trials of one participant.
    frequency : ndarray of shape (C,)
        Label frequencies that the decoder's scores are taken around: the base's.
    options : ModelOptions
        ``readout`` and ``voxel_weights`` are read.
    alphas : tuple of float
        Penalties of the ridges.
    loss : {"binary", "softmax"}
        The labels' loss, which penalties of a stack are chosen by.

    Returns
    -------
    dict of str to LinearScores
        ``own`` and, where voxels are weighted, ``own, weighted``.
    """
    if options.readout == "stack" and _several_groups(data):
        members = fit_members(data, alphas=alphas, voxel_weights=options.voxel_weights, loss=loss)
    else:
        members = {"each": closed_form(data, fit_each(data, alphas=alphas))}
    return {
        name.replace("each", "own"): _scores(member, data, frequency=frequency)
        for name, member in members.items()
    }


def weighted_sum(
    every: Mapping[str, LinearScores],
    data: TrialData,
    *,
    start: FloatArray,
    readout_weight: float,
    loss: LabelLoss,
) -> tuple[LinearScores, dict[str, float], float]:
    """Sum scores by the weights that predict held-out labels best (``stack``); with a single group, by even ones.

    Parameters
    ----------
    every : mapping of str to LinearScores
    data : TrialData
        Training trials of one participant.
    start : ndarray of shape (n, C)
        Held-out logits of the decoder without its readout.
    readout_weight : float
        What the decoder multiplies the sum by.
    loss : {"binary", "softmax"}

    Returns
    -------
    LinearScores
        The sum.
    dict of str to float
        Weights.
    float
        The labels' loss of held-out trials.
    """
    held_out = [readout_weight * one.held_out for one in every.values()]
    found = stack(held_out, data, loss=loss, start=start)
    weights = found.weights if _several_groups(data) else np.full(len(every), 1 / len(every))
    pairs = list(zip(weights, every.values(), strict=True))
    total = LinearScores(
        coef=np.asarray(sum(w * one.coef for w, one in pairs)),
        offset=np.asarray(sum(w * one.offset for w, one in pairs)),
        held_out=np.asarray(sum(w * one.held_out for w, one in pairs)),
    )
    return total, dict(zip(every, weights.tolist(), strict=True)), found.loss


def _several_groups(data: TrialData) -> bool:
    return len(np.unique(data.group)) > 1


def _scores(member: Member, data: TrialData, *, frequency: FloatArray) -> LinearScores:
    known = (~np.isnan(data.labels)).any(axis=0)
    # A label that no trial of his tells scores nothing: the base's frequency stands.
    intercept = np.where(known, member.maps[0].intercept, frequency)
    held_out = np.where(known, member.held_out, np.nan)
    return LinearScores(
        coef=member.maps[0].coef / (frequency * (1 - frequency)),
        offset=scores_of(intercept, data, frequency=frequency),
        held_out=scores_of(held_out, data, frequency=frequency),
    )
