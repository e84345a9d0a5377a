"""The shared response model of several participants: maps into shared features, and how many features there are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.alignment import shared_response_model
from clipmused_bids.methods.logistic_solver import Fold, choose_c, held_out_losses
from clipmused_bids.methods.matching import Matching, match_trials
from clipmused_bids.methods.ridge_solver import folds_of, trial_rows
from clipmused_bids.methods.row_space import RowSpace
from clipmused_bids.records import FloatArray, IntArray, TrialData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedMap:
    """One participant's way into the shared features: ``(x - mean) @ weights``.

    Parameters
    ----------
    mean : ndarray of shape (n_voxels,)
        Mean response over the participant's training trials.
    weights : ndarray of shape (n_voxels, K)
        Orthonormal columns.
    """

    mean: FloatArray
    weights: FloatArray

    def features(self, data: TrialData) -> FloatArray:
        """Shared features of all trials of data of one participant, (n, K) float64; responses are read in blocks."""
        rows = trial_rows(data)
        out = np.empty((data.n_trials, self.weights.shape[1]))
        offset = self.mean @ self.weights
        for place, block in rows.blocks(np.arange(data.n_trials)):
            out[place] = block @ self.weights - offset
        return out


def require_shared(data: TrialData, *, minimum: int) -> Matching:
    """Match what all participants saw.

    Raises
    ------
    DataError
        With fewer than two participants, or where they share nothing; names them.
    """
    names = [f"sub-{name}" for name in data.participants]
    if len(names) < 2:
        raise DataError(
            f"srm: shared responses need at least 2 participants; {names[0]} is the only one.",
            hint="train at group level on several participants, or use --method logistic",
        )
    matching = match_trials(data, minimum=minimum)
    if matching is None:
        raise DataError(
            f"srm: {', '.join(names)} share no training stimuli, so there is nothing to fit a shared response to.",
            hint="a test set of the stimuli that all have seen (NSD's shared images) leaves nothing shared to train "
            "on; make another --split, or use --method ridge-pooled or logistic",
        )
    return matching


def most_features(data: TrialData, matching: Matching) -> int:
    """Most features that a matching determines: one less than its rows, and no more than voxels."""
    return min(matching.n_rows - 1, *(table.n_voxels for table in data.responses))


def fit_maps(
    data: TrialData, matching: Matching, *, n_features: Sequence[int], seed: int
) -> dict[int, tuple[SharedMap, ...]]:
    """Maps of all participants at each number of features, from the matched trials of ``data``.

    The model is fitted in the row space of each participant's matched responses, where it has the same solution
    (``W_n = U V'`` of ``X_n' S`` lies in it), so that the voxels are read only in blocks.
    """
    spaces = [RowSpace(matching.rows(data, p)) for p in range(len(data.participants))]
    means = [_mean_response(data.of_participant(name)) for name in data.participants]
    found = {}
    for k in n_features:
        fitting = min(k, *(space.features.shape[1] for space in spaces))
        inner = shared_response_model([space.features for space in spaces], n_shared=fitting, seed=seed)
        weights = [space.of_columns(one) for space, one in zip(spaces, inner, strict=True)]
        found[k] = tuple(SharedMap(mean, one) for mean, one in zip(means, weights, strict=True))
    return found


def shared_features(data: TrialData, maps: Sequence[SharedMap]) -> FloatArray:
    """Shared features of all trials, (n, K), in the order of ``data``."""
    out = np.empty((data.n_trials, maps[0].weights.shape[1]))
    for p, (name, one) in enumerate(zip(data.participants, maps, strict=True)):
        out[data.participant == p] = one.features(data.of_participant(name))
    return out


@dataclass(frozen=True)
class Choice:
    """Number of features and penalty of the classifier.

    Parameters
    ----------
    n_features : int
    c : float
    losses : mapping of (int, float) to float
        Mean held-out log loss of each pair; empty where nothing could be held out.
    """

    n_features: int
    c: float
    losses: Mapping[tuple[int, float], float]


def choose(
    train: TrialData,
    matching: Matching,
    *,
    n_features: Sequence[int],
    cs: tuple[float, ...],
    frequency: FloatArray,
    seed: int,
) -> Choice:
    """Choose the number of features and the penalty by leaving training groups out.

    For each fold the maps, the means and the classifier are fitted without it, and its trials are scored by the log
    loss. Candidates that a fold's shared trials cannot determine are left out.
    """
    folds = _matched_folds(train, minimum=min(n_features) + 1)
    limit = min(
        most_features(rest, found) for rest, _, found in [(train, np.empty(0, dtype=int), matching), *folds]
    )
    candidates = sorted({k for k in n_features if k <= limit} or {limit})
    if len(candidates) < len(set(n_features)):
        logger.info("srm: the shared trials determine at most %d features.", limit)
    if len(candidates) * len(cs) == 1:
        return Choice(candidates[0], cs[0], {})
    with each_of(
        folds, "Shared response model without each fold of the training trials", "fold"
    ) as parts_of_data:
        maps = [fit_maps(rest, found, n_features=candidates, seed=seed) for rest, _, found in parts_of_data]
    losses: dict[tuple[int, float], float] = {}
    for k in candidates:
        parts = [_fold(train, rest, out, own[k]) for (rest, out, _), own in zip(folds, maps, strict=True)]
        of_k = held_out_losses(
            partial(iter, parts), cs=cs, single_label=train.single_label, fallback=frequency
        )
        losses |= {(k, c): loss for c, loss in of_k.items()}
        if not of_k or min(of_k.values()) > min(losses.values()):
            break
    if not losses:
        return Choice(candidates[0], choose_c({}, cs=cs), {})
    best, c = min(losses, key=lambda pair: losses[pair])
    return Choice(best, c, losses)


def _matched_folds(train: TrialData, *, minimum: int) -> list[tuple[TrialData, IntArray, Matching]]:
    """For each fold the trials without it, its own, and what everybody shares of the former."""
    fold = folds_of(train.group)
    found: list[tuple[TrialData, IntArray, Matching]] = []
    for number in np.unique(fold):
        rest = train.subset(np.flatnonzero(fold != number))
        matching = match_trials(rest, minimum=minimum)
        if matching is not None:
            found.append((rest, np.flatnonzero(fold == number), matching))
    return found


def _fold(train: TrialData, rest: TrialData, out: IntArray, maps: Sequence[SharedMap]) -> Fold:
    held_out = train.subset(out)
    return Fold(
        shared_features(rest, maps),
        np.asarray(rest.labels, dtype=np.float64),
        shared_features(held_out, maps),
        np.asarray(held_out.labels, dtype=np.float64),
    )


def _mean_response(data: TrialData) -> FloatArray:
    rows = trial_rows(data)
    total = np.zeros(rows.n_columns)
    for _, block in rows.blocks(np.arange(rows.n_rows)):
        total += block.sum(axis=0)
    return total / max(rows.n_rows, 1)
