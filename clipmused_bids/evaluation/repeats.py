"""Score against the number of averaged repeats: how much of what is missed is noise of single responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.records import FloatArray, IntArray, Score

Predict = Callable[[Sequence[IntArray]], FloatArray]


@dataclass(frozen=True)
class AveragedScores:
    """Scores of responses averaged over some of the repeats of each stimulus.

    Parameters
    ----------
    n_averaged : int
        Repeats that enter each response.
    n_stimuli : int
        The same at all numbers of repeats.
    n_draws : int
        Choices of repeats over which the scores are averaged.
    scores : tuple of Score
    """

    n_averaged: int
    n_stimuli: int
    n_draws: int
    scores: tuple[Score, ...]


def score_against_repeats(
    labels: FloatArray,
    stimulus_id: Sequence[str],
    predict: Predict,
    *,
    single_label: bool,
    rng: np.random.Generator,
    most: int | None = None,
    n_draws: int = 5,
) -> tuple[AveragedScores, ...]:
    """Score averages of 1, 2, ... repeats of one participant's test stimuli.

    The stimuli are the same at all numbers, and each gives one sample, so that the scores, and their floors, differ by
    noise alone. Stimuli with fewer repeats than the largest number are left out.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
        Of single trials.
    stimulus_id : sequence of str, length n
    predict : callable
        From groups of trials (rows of ``labels``), whose responses it averages, to probabilities (n_groups, C).
    single_label : bool
    rng : numpy.random.Generator
        Chooses the repeats.
    most : int, optional
        Largest number of repeats. The median over stimuli by default, rounded down: few stimuli are left out.
    n_draws : int
        Choices of repeats whose scores are averaged; one where all repeats enter.

    Returns
    -------
    tuple of AveragedScores
        From 1 to ``most`` repeats; empty where the median stimulus is not repeated.

    Raises
    ------
    DataError
        If lengths differ, ``most`` is below 1, or no stimulus has that many repeats.
    """
    if len(stimulus_id) != len(labels):
        raise DataError(f"repeats: {len(stimulus_id)} stimuli for {len(labels)} trials.")
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(stimulus_id):
        groups.setdefault(name, []).append(row)
    if most is None:
        most = int(np.median([len(rows) for rows in groups.values()])) if groups else 1
        if most < 2:
            return ()
    chosen = [np.array(rows) for rows in groups.values() if len(rows) >= most]
    if most < 1 or not chosen:
        raise DataError(f"repeats: no stimulus has {most} repeats; the most are {_most(groups)}.")
    return tuple(
        _averaged(labels, chosen, predict, k=k, n_draws=n_draws, single_label=single_label, rng=rng)
        for k in range(1, most + 1)
    )


def _averaged(
    labels: FloatArray,
    groups: Sequence[IntArray],
    predict: Predict,
    *,
    k: int,
    n_draws: int,
    single_label: bool,
    rng: np.random.Generator,
) -> AveragedScores:
    if all(len(rows) == k for rows in groups):
        n_draws = 1
    truth = labels[[rows[0] for rows in groups]]
    draws = []
    for _ in range(n_draws):
        some = [np.sort(rng.permutation(rows)[:k]) for rows in groups]
        draws.append(score(truth, predict(some), single_label=single_label))
    scores = tuple(
        Score(
            metric=same[0].metric,
            value=float(np.mean([each.value for each in same])),
            floor=same[0].floor,
            n_labels=same[0].n_labels,
            n_trials=same[0].n_trials,
        )
        for same in zip(*draws, strict=True)
    )
    return AveragedScores(n_averaged=k, n_stimuli=len(groups), n_draws=n_draws, scores=scores)


def _most(groups: dict[str, list[int]]) -> int:
    return max((len(rows) for rows in groups.values()), default=0)
