"""Rows of one condition that follow each other closely are one block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.records import FloatArray, IntArray

DEFAULT_GAP = 4.0
_ROWS_PER_BLOCK = 3


def block_of_row(
    onset: FloatArray, duration: FloatArray, condition: Sequence[str], *, gap: float
) -> IntArray:
    """Index of the block each row belongs to.

    Parameters
    ----------
    onset, duration : ndarray of shape (n_rows,)
        Seconds; sorted by onset.
    condition : sequence of str
    gap : float
        A row joins the one before it if they have the same condition and less than this lies between them, in s.

    Returns
    -------
    ndarray of int, shape (n_rows,)
        0, 0, 1, 1, 1, 2, ...
    """
    if len(onset) == 0:
        return np.zeros(0, dtype=int)
    names = np.asarray(condition, dtype=object)
    end = np.maximum.accumulate(onset + duration)
    begins = (names[1:] != names[:-1]) | (onset[1:] - end[:-1] >= gap)
    return np.concatenate([[0], np.cumsum(begins)]).astype(int)


def merge_rows(
    onset: FloatArray, duration: FloatArray, condition: Sequence[str], *, how: str, names_stimuli: bool
) -> IntArray:
    """Index of the trial each row becomes part of, by ``--merge-blocks``.

    Parameters
    ----------
    onset, duration, condition
        As in ``block_of_row``.
    how : str
        ``off``; a number of seconds; or ``auto``: gaps under 4 s, only where no stimuli are named and the blocks hold
        three rows or more on average. (In a random order of two conditions runs of equal ones average two.)
    names_stimuli : bool
        Whether rows name their stimuli.
    """
    apart = np.arange(len(onset))
    if how == "off" or (how == "auto" and names_stimuli):
        return apart
    blocks = block_of_row(onset, duration, condition, gap=DEFAULT_GAP if how == "auto" else float(how))
    n_blocks = len(np.unique(blocks))
    if how == "auto" and n_blocks * _ROWS_PER_BLOCK > len(onset):
        return apart
    return blocks
