"""Whether a map says the same of other stimuli, and whether it says anything of what was learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.records import BoolArray, FloatArray, IntArray

FEWEST_STIMULI = 4  # two in each half
FEWEST_REGIONS = 3  # a correlation over two is 1 or -1 whatever they are
N_SPLITS = 10


def stimulus_halves(
    stimulus_id: Sequence[str], *, seed: int, n_splits: int = N_SPLITS
) -> list[tuple[BoolArray, BoolArray]]:
    """Halve the stimuli at random several times; all trials of a stimulus lie in one half.

    Parameters
    ----------
    stimulus_id : sequence of str
        Stimulus of each of n trials.
    seed : int
    n_splits : int

    Returns
    -------
    list of (ndarray of bool, ndarray of bool), each of shape (n,)
        Empty where there are fewer than four stimuli.
    """
    names, number = np.unique(np.array(stimulus_id, dtype=str), return_inverse=True)
    if len(names) < FEWEST_STIMULI:
        return []
    generator = np.random.default_rng(seed)
    halves = []
    for _ in range(n_splits):
        first = np.isin(number, generator.permutation(len(names))[: len(names) // 2])
        halves.append((first, ~first))
    return halves


def split_half(firsts: FloatArray, seconds: FloatArray) -> float:
    """Correlate the maps of two halves over regions, stepped up to all stimuli (Spearman-Brown).

    The correlation r is averaged over splits, then 2 r / (1 + r).

    Parameters
    ----------
    firsts, seconds : ndarray of shape (n_splits, n_regions)
        Maps of both halves of each split.

    Returns
    -------
    float
        In [-1, 1]; NaN where no pair of halves can be correlated.

    References
    ----------
    Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x
    """
    found = [map_correlation(one, other) for one, other in zip(firsts, seconds, strict=True)]
    known = [r for r in found if not np.isnan(r)]
    if not known:
        return float("nan")
    mean = float(np.mean(known))
    return float(np.clip(2 * mean / max(1 + mean, 1e-12), -1.0, 1.0))


def map_correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson correlation of two maps over the regions that both know.

    NaN with fewer than three regions, or where one of the maps is the same everywhere.
    """
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < FEWEST_REGIONS:
        return float("nan")
    first, second = one[known] - one[known].mean(), other[known] - other[known].mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    # A constant map leaves rounding errors, which correlate with anything.
    smallest = np.abs(one[known]).max() * np.abs(other[known]).max() * known.sum() * 1e-12
    return float((first * second).sum() / scale) if scale > smallest else float("nan")


def region_means(values: FloatArray, region: IntArray, *, n_regions: int) -> FloatArray:
    """Mean of a map of voxels within each region.

    Parameters
    ----------
    values : ndarray of shape (n_maps, n_voxels)
    region : ndarray of int, shape (n_voxels,)
        -1 for a voxel outside all of them.
    n_regions : int

    Returns
    -------
    ndarray of shape (n_maps, n_regions)
        NaN where a region has no voxel.
    """
    inside = region >= 0
    sizes = np.bincount(region[inside], minlength=n_regions)
    sums = np.stack([np.bincount(region[inside], weights=one[inside], minlength=n_regions) for one in values])
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)
