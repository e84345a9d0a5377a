"""Representational similarity: cosines of features, and what to compare a fitted similarity with."""

from __future__ import annotations

import numpy as np

from clipmused_bids.records import FloatArray, IntArray


def similarity_matrix(features: FloatArray) -> FloatArray:
    """Cosine of every pair of rows, M[i, j] = cos(f_i, f_j).

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Any length of rows.

    Returns
    -------
    ndarray of shape (n, n)
        Rows of zero length (unknown) have cosine 0 with everything, themselves included.

    References
    ----------
    M^I of Zhou, Du, Wang, He 2024, arXiv 2402.08994, section 3.3.
    """
    values = np.asarray(features, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    similarity: FloatArray = np.clip(unit @ unit.T, -1.0, 1.0)
    return similarity


def best_constant_loss(similarity: FloatArray) -> float:
    """Loss of the best similarity matrix that is the same number everywhere, min_c ||M - c||_F^2 / n^2.

    CLIP cosines share a large common part; a similarity loss means something only beside this one.
    """
    return float(np.var(np.asarray(similarity, dtype=np.float64)))


def upper_triangle_correlation(first: FloatArray, second: FloatArray, *, stimulus: IntArray) -> float:
    """Pearson correlation of two similarity matrices over pairs i < j of different stimuli.

    Parameters
    ----------
    first, second : ndarray of shape (n, n)
    stimulus : ndarray of int, shape (n,)
        Pairs of one stimulus are left out: their target is 1 whatever the features.

    Returns
    -------
    float
        NaN where fewer than two pairs remain or one side is constant.
    """
    i, j = np.triu_indices(len(stimulus), k=1)
    other = np.asarray(stimulus)[i] != np.asarray(stimulus)[j]
    a = np.asarray(first, dtype=np.float64)[i[other], j[other]]
    b = np.asarray(second, dtype=np.float64)[i[other], j[other]]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
