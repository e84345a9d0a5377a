"""How reliable a voxel's responses are, from repeated presentations of the same stimuli."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, ResponseTable

FEWEST_REPEATED = 3  # stimuli: a correlation over two is 1 or -1 whatever they are
VALUES_AT_ONCE = 2**24  # 64 MiB as float32: a whole participant may not fit into memory


def split_half_reliability(
    values: FloatArray, stimulus: Sequence[str], *, n_splits: int = 20, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Correlation of two halves of the repeats over stimuli, stepped up to all repeats (Spearman-Brown).

    Each split halves the repeats of every repeated stimulus at random (one is left aside where the number is
    odd); r is averaged over splits, then 2 r / (1 + r).

    Parameters
    ----------
    values : ndarray of shape (n_trials, n_voxels)
        Responses, standardised so that runs can be compared.
    stimulus : sequence of str
        Stimulus of each trial.
    n_splits : int
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_voxels,)
        Reliability of the mean over a stimulus's repeats, in [-1, 1]; 0 where a voxel is constant.

    Raises
    ------
    DataError
        If fewer than three stimuli were shown at least twice.

    References
    ----------
    Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x
    """
    groups = repeats(stimulus)
    if len(groups) < FEWEST_REPEATED:
        raise DataError(
            f"{len(groups)} stimuli were shown more than once; split halves need at least {FEWEST_REPEATED}."
        )
    total = np.zeros(values.shape[1])
    for _ in range(n_splits):
        first, second = (_means(values, half) for half in _halves(groups, generator))
        total += _column_correlation(first, second)
    mean = total / n_splits
    return np.asarray(np.clip(2 * mean / np.maximum(1 + mean, 1e-12), -1.0, 1.0))


def noise_ceiling_snr(values: FloatArray, stimulus: Sequence[str]) -> NDArray[np.float64]:
    """Noise-ceiling signal-to-noise ratio (ncsnr): sd of the signal over sd of the noise, for a single trial.

    The noise variance is the mean square within stimuli; the signal variance is what the mean square between
    stimuli has beyond it, (MSB - MSW) / n0 (one-way random effects, unequal repeats allowed).

    Parameters
    ----------
    values : ndarray of shape (n_trials, n_voxels)
        Responses, standardised so that runs can be compared.
    stimulus : sequence of str
        Stimulus of each trial; those shown once do not enter.

    Returns
    -------
    ndarray of shape (n_voxels,)
        At least 0; 0 for a constant voxel, infinite for one that repeats itself exactly.

    Raises
    ------
    DataError
        If fewer than two stimuli were shown at least twice.

    References
    ----------
    Allen et al. 2022, doi:10.1038/s41593-021-00962-x
    """
    groups = repeats(stimulus)
    if len(groups) < 2:
        raise DataError(f"{len(groups)} stimuli were shown more than once; ncsnr needs at least 2.")
    sizes = np.array([len(rows) for rows in groups], dtype=np.float64)
    means = _means(values, groups)
    repeated, group = np.concatenate(groups), np.repeat(np.arange(len(groups)), sizes.astype(int))
    within = ((np.asarray(values, dtype=np.float64)[repeated] - means[group]) ** 2).sum(axis=0)
    noise = within / (sizes.sum() - len(groups))
    grand = sizes @ means / sizes.sum()
    between = (sizes @ (means - grand) ** 2) / (len(groups) - 1)
    n0 = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(groups) - 1)
    signal = np.maximum(between - noise, 0.0) / n0
    ratio = np.divide(signal, noise, out=np.where(signal > 0, np.inf, 0.0), where=noise > 0)
    return np.asarray(np.sqrt(ratio))


def noise_ceiling(ncsnr: FloatArray, *, n_repeats: float = 1) -> NDArray[np.float64]:
    """Share of variance that the signal explains in a mean over repeats: ncsnr^2 / (ncsnr^2 + 1 / n).

    Its square root is the highest correlation a perfect model of the signal can reach.

    Parameters
    ----------
    ncsnr : ndarray of shape (n_voxels,)
    n_repeats : float
        Presentations averaged; for unequal numbers, their harmonic mean.

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [0, 1].

    References
    ----------
    Allen et al. 2022, doi:10.1038/s41593-021-00962-x
    """
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / (1.0 + 1.0 / (n_repeats * np.asarray(ncsnr, dtype=np.float64) ** 2)))


def over_voxels(
    measure: Callable[[FloatArray], FloatArray],
    table: ResponseTable,
    rows: IntArray,
    *,
    n_values: int = VALUES_AT_ONCE,
) -> NDArray[np.float64]:
    """Apply a measure to all voxels, with a group of them in memory at a time.

    Parameters
    ----------
    measure : callable
        From responses (n_rows, n_group) to numbers (..., n_group); each voxel's depend on that voxel alone.
    table : ResponseTable
        Of n_voxels; its blocks may be memory maps.
    rows : ndarray of int, shape (n_rows,)
    n_values : int
        Responses in memory at a time.

    Returns
    -------
    ndarray of shape (..., n_voxels)
    """
    width = max(1, n_values // max(1, len(rows)))
    groups = (
        np.arange(start, min(start + width, table.n_voxels)) for start in range(0, table.n_voxels, width)
    )
    found = [measure(table.of_voxels(group).read(rows)) for group in groups]
    return np.asarray(np.concatenate(found, axis=-1), dtype=np.float64)


def repeats(stimulus: Sequence[str]) -> list[IntArray]:
    """Trials of each stimulus that was shown at least twice, in order of the first showing."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(stimulus):
        rows.setdefault(name, []).append(row)
    return [np.array(members) for members in rows.values() if len(members) >= 2]


def _means(values: FloatArray, groups: Sequence[IntArray]) -> NDArray[np.float64]:
    """Mean over the rows of each group, (n_groups, n_voxels)."""
    sizes = np.array([len(rows) for rows in groups])
    total = np.zeros((len(groups), values.shape[1]))
    # One presentation of every group at a time: few steps for many groups.
    for k in range(int(sizes.max())):
        has = np.flatnonzero(sizes > k)
        total[has] += values[np.array([rows[k] for rows in groups if len(rows) > k])]
    return np.asarray(total / sizes[:, None])


def _halves(
    groups: Sequence[IntArray], generator: np.random.Generator
) -> tuple[list[IntArray], list[IntArray]]:
    shuffled = [generator.permutation(rows) for rows in groups]
    return [rows[: len(rows) // 2] for rows in shuffled], [
        rows[len(rows) // 2 : 2 * (len(rows) // 2)] for rows in shuffled
    ]


def _column_correlation(first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.asarray(
        np.divide((first * second).sum(axis=0), scale, out=np.zeros(len(scale)), where=scale > 0)
    )
