"""Whether two similarity matrices of the same stimuli agree, and how much two that have nothing in common would.

Shape suffixes: n stimuli, K matrices, P permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from clipmused_bids.records import FloatArray, IntArray

FEWEST_STIMULI = 4  # three have three pairs and six orders: no p-value below 1/6
_SAME = 1e-10
_DECIMALS = 6


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two similarity matrices, beside those of permuted stimuli.

    Parameters
    ----------
    value : float
        Spearman's correlation over pairs of stimuli; NaN where it cannot be told.
    p_value : float
        Share of orders of the stimuli, the true one included, whose correlation is at least as large (one-sided).
    chance_low, chance_high : float
        2.5th and 97.5th percentile of the correlation of permuted stimuli.
    """

    value: float
    p_value: float
    chance_low: float
    chance_high: float


def draw_permutations(n: int, *, n_permutations: int, seed: int) -> IntArray:
    """Draw orders of n stimuli, (P, n)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(n) for _ in range(n_permutations)]).astype(np.int64)


def rank_correlations(matrices: FloatArray, target: FloatArray, permutations: IntArray) -> FloatArray:
    """Spearman's correlation of the upper triangles of similarity matrices with a target's, for orders of its stimuli.

    Rows and columns of the target are permuted together: pairs of stimuli are not independent of each other, stimuli
    are what can be exchanged.

    Parameters
    ----------
    matrices : ndarray of shape (K, n, n)
    target : ndarray of shape (n, n)
        All symmetric; diagonals are not looked at.
    permutations : ndarray of int, shape (P, n)

    Returns
    -------
    ndarray of shape (K, 1 + P)
        First the correlation in the true order. NaN where a matrix does not vary, or there are fewer than four stimuli.

    References
    ----------
    Mantel 1967, Cancer Research 27:209; Kriegeskorte, Mur, Bandettini 2008, doi:10.3389/neuro.06.004.2008.
    """
    n = len(target)
    found = np.full((len(matrices), 1 + len(permutations)), np.nan)
    if n < FEWEST_STIMULI:
        return found
    ranks = np.stack([_unit_ranks(one).ravel() for one in matrices])
    wanted = _unit_ranks(target)
    for k, order in enumerate(np.vstack([np.arange(n), permutations])):
        # Both triangles are in the sum, and in the length of each side.
        found[:, k] = ranks @ wanted[order][:, order].ravel()
    return found


def agreement_of(correlations: FloatArray) -> Agreement:
    """Summarise correlations of the true order, first, and of permuted stimuli, shape (1 + P,)."""
    if np.isnan(correlations).any():
        return Agreement(np.nan, np.nan, np.nan, np.nan)
    value, chance = float(correlations[0]), correlations[1:]
    low, high = np.quantile(chance, [0.025, 0.975])
    p_value = (1 + int((chance >= value - _SAME).sum())) / (1 + len(chance))
    return Agreement(value, p_value, float(low), float(high))


def spread_over(group: Sequence[int] | IntArray, *, most: int, seed: int) -> IntArray:
    """Choose at most so many stimuli, as many of each group as there are, drawn with a seed.

    Parameters
    ----------
    group : sequence of int, length n
    most : int
    seed : int

    Returns
    -------
    ndarray of int
        Positions, ascending; all of them where there are no more than ``most``.
    """
    of = np.asarray(group, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(of))
    turn = np.empty(len(of), dtype=np.int64)
    for one in np.unique(of):
        members = order[of[order] == one]
        turn[members] = np.arange(len(members))
    # Everybody's first, then everybody's second, until there are enough.
    return np.sort(np.lexsort((of, turn))[:most])


def rank_matrix(similarity: FloatArray) -> FloatArray:
    """Rank of each pair of different stimuli among all pairs, from 0 (least alike) to 1; NaN on the diagonal.

    Parameters
    ----------
    similarity : ndarray of shape (n, n)
        Symmetric; pairs that are NaN stay NaN.
    """
    n = len(similarity)
    ranks = np.full((n, n), np.nan)
    rows, columns = np.triu_indices(n, k=1)
    # Cosines of single precision: pairs that are alike but for rounding are ties.
    values = np.round(np.asarray(similarity, dtype=np.float64)[rows, columns], _DECIMALS)
    known = np.isfinite(values)
    if known.sum() > 1:
        of_pair = (rankdata(values[known]) - 1) / (known.sum() - 1)
        ranks[rows[known], columns[known]] = ranks[columns[known], rows[known]] = of_pair
    return ranks


def _unit_ranks(similarity: FloatArray) -> FloatArray:
    """Ranks of the pairs, centred, of unit length over the whole matrix; 0 on the diagonal, NaN if none vary."""
    ranks = rank_matrix(similarity)
    off = ~np.eye(len(ranks), dtype=bool)
    centred = np.where(off, ranks - ranks[off].mean(), 0.0)
    length = float(np.linalg.norm(centred))
    return np.full(centred.shape, np.nan) if length < _SAME else centred / length
