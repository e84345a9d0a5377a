"""Sets, scores and training curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Of a cross-validation: one fold tests, one validates, one trains.
FEWEST_FOLDS = 3
SetName = Literal["train", "val", "test", "new", "none"]


@dataclass(frozen=True)
class Split:
    """Which trials train, validate and test, and why.

    Parameters
    ----------
    run_key : tuple of str
        ``Run.key`` of each row.
    stimulus_id : tuple of str
        Stimulus of each row; one row for each pair of run and stimulus. Where presentations of one stimulus in one
        run belong to different sets, one row for each of them: ``face#2`` is the second ``face`` of the run.
    set_name : tuple of str
        ``train``, ``val`` or ``test``; ``none`` where trials are left out (repeated clips, samples between two sets).
    reason : tuple of str
        The rule that decided, in words.
    rule : str
        Name of the rule (``column``, ``runs``, ``repeats``, ``shared``, ``stimuli``, ...).
    regime : str
        What a score of the test set speaks about: ``unseen trials of seen stimuli``, ``unseen stimuli``,
        ``unseen participant``, ``unseen participant and unseen stimuli``.
    fold : tuple of (int or None)
        Fold of a cross-validation that holds the row out, from 1; None for rows in no fold. Empty without one.
    """

    run_key: tuple[str, ...]
    stimulus_id: tuple[str, ...]
    set_name: tuple[SetName, ...]
    reason: tuple[str, ...]
    rule: str
    regime: str
    fold: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Score:
    """One metric with its floor.

    Parameters
    ----------
    metric : str
        ``mAP``, ``AUC``, ``Hamming``, ``top1``, ...
    value, floor : float
        NaN where nothing can be scored; the floor is what knowing nothing would give.
    n_labels, n_trials : int
        Scorable labels and trials that entered.
    """

    metric: str
    value: float
    floor: float
    n_labels: int
    n_trials: int


@dataclass(frozen=True)
class History:
    """Training curves.

    Parameters
    ----------
    columns : mapping of str to tuple of float
        One value for each row. ``epoch`` numbers the rows (0: before training); without it they are counted from 0.
    best_epoch : int
        Row whose weights were kept, counted from 0.
    stopped : str
        Why training ended.
    """

    columns: Mapping[str, tuple[float, ...]]
    best_epoch: int
    stopped: str
