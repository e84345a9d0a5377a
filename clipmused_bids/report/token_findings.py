"""What an evaluation found about one participant's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.records import FloatArray, IntArray

LEVELS = ("low", "high")
# Features of CLIP whose cosine is larger are the same but for rounding.
ALIKE = 0.9999


@dataclass(frozen=True)
class ClipAgreement:
    """How far something made of responses agrees with one level of CLIP.

    Parameters
    ----------
    brain : {"low", "high", "voxels", "untrained low", "untrained high"}
    clip : {"low", "high"}
    value, p_value, chance_low, chance_high : float
        NaN where it cannot be told.
    """

    brain: str
    clip: str
    value: float
    p_value: float
    chance_low: float
    chance_high: float


@dataclass(frozen=True)
class TokenFindings:
    """What an evaluation found about one participant's tokens.

    Parameters
    ----------
    participant : str
    brain, clip : mapping of str to ndarray of shape (n, n)
        Similarities by level; levels of CLIP that are not known are missing. Of one fold, where there are several.
    group : ndarray of int, shape (n,)
        What stimuli are ordered by; ascending.
    group_names : sequence of str
    ordered_by : str
        ``label`` or ``rarest label``.
    agreements : sequence of ClipAgreement
    n_stimuli, n_tested : int
        Stimuli that entered, and that were tested.
    n_folds : int
        0 without a cross-validation.
    guided : mapping of str to bool
        Whether a level of CLIP was in the loss.
    seen : bool
        Whether the stimuli of the test trials were in the training data too.
    no_clip : str
        Why there are no features of CLIP; empty where there are.
    untrained : bool
        Whether the weights that were kept are those before training.
    """

    participant: str
    brain: Mapping[str, FloatArray]
    clip: Mapping[str, FloatArray]
    group: IntArray
    group_names: Sequence[str]
    ordered_by: str
    agreements: Sequence[ClipAgreement]
    n_stimuli: int
    n_tested: int
    n_folds: int
    guided: Mapping[str, bool]
    seen: bool
    no_clip: str
    untrained: bool


def known_pairs(matrix: FloatArray) -> FloatArray:
    """Known values of the pairs of different stimuli of a similarity matrix (n, n)."""
    values = matrix[np.triu_indices(len(matrix), k=1)]
    return np.asarray(values[np.isfinite(values)])


def is_constant(cosines: FloatArray) -> bool:
    """Whether all pairs of a similarity matrix (n, n) are alike, or there is none."""
    pairs = known_pairs(cosines)
    return len(pairs) == 0 or float(np.ptp(pairs)) < 1 - ALIKE
