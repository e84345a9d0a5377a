"""Stimuli of different sets that are nearly one picture, by their CLIP embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import FloatArray, IntArray

COSINE = 0.98
BLOCK_ROWS = 4096
MOST_LISTED = 100


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of nearly equal pictures.

    Parameters
    ----------
    n_pairs : int
        All of them.
    pairs : tuple of (int, int, float)
        Row among the first embeddings, row among the second, cosine; the nearest, at most `MOST_LISTED`.
    """

    n_pairs: int
    pairs: tuple[tuple[int, int, float], ...]


def near_duplicates(
    first: FloatArray, second: FloatArray, *, cosine: float = COSINE, block_rows: int = BLOCK_ROWS
) -> NearDuplicates:
    """Find pairs of rows whose cosine is above a threshold.

    Cosines are computed for a block of rows of ``first`` at a time, so that 73,000 x 1,000 stimuli need as much
    memory as one block.

    Parameters
    ----------
    first : ndarray of shape (n, D)
    second : ndarray of shape (m, D)
        Any length; rows of zeros (no embedding) are near nothing.
    cosine : float
    block_rows : int

    Returns
    -------
    NearDuplicates
    """
    right = _unit(second)
    n_pairs = 0
    kept: tuple[IntArray, IntArray, FloatArray] = (
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.float32),
    )
    for start in range(0, len(first), block_rows):
        found = _unit(first[start : start + block_rows]) @ right.T
        i, j = np.nonzero(found > cosine)
        n_pairs += len(i)
        joined = [np.concatenate(pair) for pair in zip(kept, (i + start, j, found[i, j]), strict=True)]
        best = np.argsort(-joined[2], kind="stable")[:MOST_LISTED]
        kept = (joined[0][best], joined[1][best], joined[2][best])
    pairs = zip(*(values.tolist() for values in kept), strict=True)
    return NearDuplicates(n_pairs, tuple((int(i), int(j), float(c)) for i, j, c in pairs))


def _unit(values: FloatArray) -> NDArray[np.float32]:
    rows = np.asarray(values, dtype=np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(length > 0, rows / np.maximum(length, 1e-12), 0), dtype=np.float32)
