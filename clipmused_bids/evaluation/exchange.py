"""What may change places under the null hypothesis of a permutation test, and the permutations drawn.

What is exchanged must be exchangeable, or the test finds effects where there are none:

- **stimuli**, not trials: repeats of one stimulus, and participants who saw it, share what a decoder responds to, and
  keep one label row together;
- **circular shifts** within runs or movies for samples of continuous stimuli, whose labels are autocorrelated;
- **trials within runs** where the stimulus is the condition (blocked designs): which condition is which has few
  arrangements, and a stimulus is all there is to know about a trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.split_design import codes
from clipmused_bids.records import BoolArray, FloatArray, IntArray

Scheme = Literal["stimuli", "trials within runs", "circular shifts"]


@dataclass(frozen=True)
class Exchange:
    """Whose labels each trial takes under each permutation; the same for all methods that are tested.

    Parameters
    ----------
    scheme : {"stimuli", "trials within runs", "circular shifts"}
    participant, fold : tuple of str, length n
        Of each trial.
    unit : ndarray of int, shape (n,)
        What is exchanged: the trial's stimulus, or the trial.
    source : ndarray of int, shape (n_permutations + 1, n_units)
        Unit whose labels each unit takes; the first row changes nothing.
    """

    scheme: Scheme
    participant: tuple[str, ...]
    fold: tuple[str, ...]
    unit: IntArray
    source: IntArray

    @property
    def n_permutations(self) -> int:
        """Number of permutations."""
        return len(self.source) - 1

    @cached_property
    def moves(self) -> BoolArray:
        """Whether some permutation moves a unit, of shape (n_units,); the others have no partner."""
        return np.asarray((self.source != self.source[0]).any(axis=0))


def fitting_scheme(
    labels: FloatArray, stimulus_id: Sequence[str], *, continuous: bool, blocked: bool
) -> Scheme:
    """Say what may be exchanged in a design.

    Samples of movies are shifted. Trials are exchanged within runs if they are blocks or conditions: each trial has
    one label, and no two stimuli have the same. Everything else exchanges stimuli.

    Parameters
    ----------
    labels : ndarray of shape (n, C)
    stimulus_id : sequence of str, length n
    continuous, blocked : bool
        As in `SplitDesign`.
    """
    if continuous:
        return "circular shifts"
    single = bool((np.nansum(labels, axis=1) == 1).all())
    n_rows = len(np.unique(np.nan_to_num(labels, nan=-1.0), axis=0))
    conditions = single and n_rows == len(set(stimulus_id))
    return "trials within runs" if blocked or conditions else "stimuli"


def exchange_stimuli(
    stimulus_id: Sequence[str],
    participant: Sequence[str],
    *,
    n_permutations: int,
    rng: np.random.Generator,
    fold: Sequence[str] | None = None,
) -> Exchange:
    """Draw permutations of stimuli, the same for all repeats and all participants.

    Stimuli change places if the same participants saw them, in the same folds, so that each participant, and each
    fold, keeps its own labels, and the labels that can be scored are the same under all permutations. A stimulus
    that nobody else's set of participants matches stays where it is.

    Parameters
    ----------
    stimulus_id, participant : sequence of str, length n
    n_permutations : int
    rng : numpy.random.Generator
    fold : sequence of str, length n, optional
        Fold of cross-validation in which the trial was predicted.
    """
    folds = _folds(participant, fold, stimulus_id)
    unit, piece = codes(stimulus_id), codes(_pieces(participant, folds))
    seen_in: list[list[int]] = [[] for _ in range(int(unit.max()) + 1)]
    for u, p in np.unique(np.column_stack([unit, piece]), axis=0):
        seen_in[u].append(int(p))
    alike = codes([str(pieces) for pieces in seen_in])
    source = _unmoved(len(seen_in), n_permutations)
    for k in np.unique(alike):
        members = np.flatnonzero(alike == k)
        source[1:, members] = members[_permutations(len(members), n_permutations, rng)]
    return Exchange("stimuli", tuple(participant), folds, unit, source)


def exchange_trials(
    run: Sequence[str],
    participant: Sequence[str],
    *,
    scheme: Literal["trials within runs", "circular shifts"],
    n_permutations: int,
    rng: np.random.Generator,
    fold: Sequence[str] | None = None,
) -> Exchange:
    """Draw permutations, or circular shifts, of the trials of each run (or movie) of each participant.

    Participants share a run's permutation if they have as many trials in it: what depends on the position in the
    run, or on the movie, is common to them. A shift is uniform over all positions, 0 included.

    Parameters
    ----------
    run : sequence of str, length n
        Run or movie of each trial, by a name that is the same for all participants.
    participant : sequence of str, length n
        Each participant's trials of a run are in the order of presentation.
    scheme : {"trials within runs", "circular shifts"}
    n_permutations : int
    rng : numpy.random.Generator
    fold : sequence of str, length n, optional
    """
    folds = _folds(participant, fold, run)
    sequence = codes(_pieces(_pieces(participant, folds), run))
    source = _unmoved(len(sequence), n_permutations)
    draw = _permutations if scheme == "trials within runs" else _shifts
    drawn: dict[tuple[str, str, int], IntArray] = {}
    for k in range(int(sequence.max()) + 1):
        rows = np.flatnonzero(sequence == k)
        key = (run[rows[0]], folds[rows[0]], len(rows))
        if key not in drawn:
            drawn[key] = draw(len(rows), n_permutations, rng)
        source[1:, rows] = rows[drawn[key]]
    return Exchange(scheme, tuple(participant), folds, np.arange(len(sequence)), source)


def _folds(participant: Sequence[str], fold: Sequence[str] | None, other: Sequence[str]) -> tuple[str, ...]:
    folds = ("",) * len(participant) if fold is None else tuple(fold)
    if not 0 < len(participant) == len(other) == len(folds):
        raise DataError(
            f"permutation test: {len(participant)} participants, {len(other)} stimuli or runs and {len(folds)} "
            "folds; expected one of each for every trial."
        )
    return folds


def _pieces(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [f"{a}\n{b}" for a, b in zip(first, second, strict=True)]


def _unmoved(n_units: int, n_permutations: int) -> NDArray[np.int32]:
    return np.tile(np.arange(n_units, dtype=np.int32), (n_permutations + 1, 1))


def _permutations(n: int, n_permutations: int, rng: np.random.Generator) -> IntArray:
    return rng.permuted(np.tile(np.arange(n), (n_permutations, 1)), axis=1)


def _shifts(n: int, n_permutations: int, rng: np.random.Generator) -> IntArray:
    return (np.arange(n) + rng.integers(n, size=(n_permutations, 1))) % n
