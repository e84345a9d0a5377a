"""Agreement of what a decoder makes of responses with CLIP: over pairs of stimuli, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from clipmused_bids.evaluation.agreement import agreement_of, draw_permutations, rank_correlations
from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.targets.similarity import upper_triangle_correlation

N_PERMUTATIONS = 1000

BrainSide = Literal["low", "high", "voxels", "untrained low", "untrained high"]


def agreements_with_clip(
    brain: Mapping[int, Mapping[BrainSide, FloatArray]],
    clip: Mapping[str, FloatArray],
    fold: IntArray,
    *,
    seed: int,
    n_permutations: int = N_PERMUTATIONS,
) -> list[dict[str, Any]]:
    """Correlate similarities of tokens, of an untrained network's tokens and of voxels with those of CLIP.

    Decoders of two folds have different tokens, so that similarities are compared within a fold; what is found is the
    mean over folds, and so is each value of permuted stimuli.

    Parameters
    ----------
    brain : mapping of int to mapping of str to ndarray of shape (n_fold, n_fold)
        Similarities of each fold's stimuli.
    clip : mapping of str to ndarray of shape (n, n)
        Cosines by level, of the stimuli of all folds; NaN where unknown.
    fold : ndarray of int, shape (n,)
        Of each stimulus; ascending.
    seed : int
    n_permutations : int

    Returns
    -------
    list of dict
        ``Brain``, ``Clip``, ``Spearman``, ``Pearson``, ``PValue`` (one-sided), ``ChanceLow``, ``ChanceHigh`` (95 % of
        permuted stimuli), ``NumberOfStimuli``, ``NumberOfPermutations``; values are None where they cannot be told.
    """
    found = []
    for level, cosines in clip.items():
        ranks: dict[BrainSide, list[FloatArray]] = {}
        plain: dict[BrainSide, list[float]] = {}
        n_stimuli = 0
        for number, sides in brain.items():
            target = cosines[np.ix_(fold == number, fold == number)]
            known = np.isfinite(np.diagonal(target))
            target = target[np.ix_(known, known)]
            n_stimuli += len(target)
            matrices = {name: values[np.ix_(known, known)] for name, values in sides.items()}
            permutations = draw_permutations(len(target), n_permutations=n_permutations, seed=seed + number)
            correlated = rank_correlations(np.stack(list(matrices.values())), target, permutations)
            for k, (name, matrix) in enumerate(matrices.items()):
                ranks.setdefault(name, []).append(correlated[k])
                pearson = upper_triangle_correlation(matrix, target, stimulus=np.arange(len(target)))
                plain.setdefault(name, []).append(pearson)
        found += [
            {
                "Brain": name,
                "Clip": level,
                **_summary(ranks[name], plain[name]),
                "NumberOfStimuli": n_stimuli,
                "NumberOfPermutations": n_permutations,
            }
            for name in ranks
        ]
    return found


def _summary(ranks: list[FloatArray], plain: list[float]) -> dict[str, float]:
    """Mean over folds in which there is something to compare."""
    told = [k for k, one in enumerate(ranks) if np.isfinite(one).all()]
    if not told:
        return dict.fromkeys(("Spearman", "Pearson", "PValue", "ChanceLow", "ChanceHigh"), float("nan"))
    one = agreement_of(np.mean([ranks[k] for k in told], axis=0))
    return {
        "Spearman": one.value,
        "Pearson": float(np.mean([plain[k] for k in told])),
        "PValue": one.p_value,
        "ChanceLow": one.chance_low,
        "ChanceHigh": one.chance_high,
    }
