"""Cross-validation: every trial is held out once, and at last a decoder is fitted to all of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.evaluation.assignment import split_rows
from clipmused_bids.evaluation.hold_out import repeated_clips
from clipmused_bids.evaluation.split_design import SplitDesign, run_groups
from clipmused_bids.evaluation.split_rules import stimulus_labels
from clipmused_bids.evaluation.splits import regime_of
from clipmused_bids.evaluation.stratify import stratify
from clipmused_bids.records import FEWEST_FOLDS, BoolArray, IntArray, SetName, Split

logger = logging.getLogger(__name__)

_RULE = re.compile(r"runs|(runs|stimuli):(\d+)")


@dataclass(frozen=True)
class Part:
    """What one decoder is fitted to: a split, a fold of a cross-validation, or all of its folds.

    Parameters
    ----------
    name : str
        For messages; "" for a split.
    fold : int or None
        The fold that is held out; None where the decoder decodes new runs.
    split : Split
        Training, validation and test trials.
    described : Split
        Trials in its training set describe voxels and choose labels: as ``split``, but for the decoder of all folds
        the validation trials too, since it is fitted to them at last.
    """

    name: str
    fold: int | None
    split: Split
    described: Split

    @property
    def of_all_folds(self) -> bool:
        """Whether this is the decoder that is fitted to everything after a cross-validation."""
        return self.split is not self.described


def parts_of(split: Split) -> tuple[Part, ...]:
    """List the decoders that a split asks for: one, or one for each fold and at last one for all folds."""
    folds = fold_numbers(split)
    if not folds:
        return (Part("", None, split, split),)
    each = [split_of_fold(split, fold) for fold in folds]
    parts = [Part(f"fold {k} of {len(folds)}", k, own, own) for k, own in zip(folds, each, strict=True)]
    everything = _with_sets(split, dict.fromkeys(folds, "train"))
    last = _with_sets(split, {k: "val" if k == folds[-1] else "train" for k in folds})
    return (*parts, Part("all folds", None, last, everything))


def trials_of_decoder(split: Split | None) -> Split | None:
    """Return the split whose training trials describe the data: that of all folds after a cross-validation."""
    return None if split is None else parts_of(split)[-1].described


def fold_numbers(split: Split | None) -> tuple[int, ...]:
    """Folds of a cross-validation, from 1; none without one."""
    return () if split is None else tuple(sorted({fold for fold in split.fold if fold is not None}))


def split_of_fold(split: Split, fold: int) -> Split:
    """Split in which one fold is the test set, the next one validates and the others train."""
    folds = fold_numbers(split)
    following = folds[(folds.index(fold) + 1) % len(folds)]
    names: dict[int, SetName] = dict.fromkeys(folds, "train")
    return _with_sets(split, {**names, following: "val", fold: "test"})


def make_folds(design: SplitDesign, *, rule: str, seed: int) -> Split:
    """Divide the trials of all participants into folds.

    Parameters
    ----------
    design : SplitDesign
        All participants. Trials without stimulus get no row; clips that several movies hold are in no fold.
    rule : str
        ``runs``: each run that corresponds between participants is a fold. ``runs:K``: K folds of runs in order of
        acquisition. ``stimuli:K``: K folds of stimuli, stratified by label, and by participant where each sees
        other stimuli.
    seed : int
        Decides ties of the stratification.

    Returns
    -------
    Split
        ``fold`` is the fold that holds a row out, ``set_name`` is ``test``. The regime is the most modest one among
        the folds.

    Raises
    ------
    UsageError
        If the rule is none of these, or asks for other folds than the data give.
    DataError
        If a fold leaves nothing to train with, or has nothing that can be scored.
    """
    found = _RULE.fullmatch(rule)
    if found is None:
        raise UsageError(f"--cv {rule}: unknown.", hint="one of runs, runs:5, stimuli:5")
    known = design.take(np.asarray(design.stimulus_id, dtype=str) != "")
    if known.n_trials == 0:
        raise DataError("--cv: no trial has a known stimulus or condition.")
    rng = np.random.default_rng(seed)
    by_stimulus = found[1] == "stimuli"
    fold = _by_stimulus(known, int(found[2]), rng) if by_stimulus else _by_run(known, found[2])
    fold = np.where(repeated_clips(known), 0, fold)
    _require_scorable(known, fold, rule=rule)
    _say_missing(known, fold)
    return _as_split(known, fold, rule=rule)


def _by_run(design: SplitDesign, asked: str | None) -> IntArray:
    """Fold of each trial, from 1: groups of corresponding runs, in order."""
    groups = run_groups(design)
    runs = np.unique(groups.code)
    n_folds = len(runs) if asked is None else int(asked)
    rule = "runs" if asked is None else f"runs:{asked}"
    _require_enough(n_folds, len(runs), rule=rule, what="run(s) that correspond between participants")
    fold_of_run = np.concatenate(
        [[k + 1] * len(part) for k, part in enumerate(np.array_split(runs, n_folds))]
    )
    return np.asarray(fold_of_run[np.searchsorted(runs, groups.code)], dtype=np.int64)


def _by_stimulus(design: SplitDesign, n_folds: int, rng: np.random.Generator) -> IntArray:
    if design.continuous:
        raise UsageError(
            f"--cv stimuli:{n_folds}: neighbouring samples of a movie are not independent.", hint="--cv runs"
        )
    _require_enough(n_folds, design.n_stimuli, rule=f"stimuli:{n_folds}", what="different stimuli")
    part = stratify(stimulus_labels(design), shares=(1 / n_folds,) * n_folds, rng=rng)
    return np.asarray(part[design.stimulus] + 1, dtype=np.int64)


def _require_enough(n_folds: int, n_units: int, *, rule: str, what: str) -> None:
    if n_folds < FEWEST_FOLDS:
        raise UsageError(
            f"--cv {rule}: {n_folds} fold(s); at least {FEWEST_FOLDS} are needed, one to test, one to validate and "
            "the rest to train.",
            hint="--split runs:N holds out one run" if rule.startswith("runs") else "--cv stimuli:5",
        )
    if n_units < n_folds:
        raise UsageError(
            f"--cv {rule}: there are {n_units} {what}, fewer than folds.",
            hint=f"--cv {rule.partition(':')[0]}:{n_units}" if n_units >= FEWEST_FOLDS else "--split runs:N",
        )


def _require_scorable(design: SplitDesign, fold: IntArray, *, rule: str) -> None:
    """Refuse folds that cannot be trained without or scored; name labels that some folds cannot learn."""
    lost: dict[str, list[int]] = {}
    for k in range(1, int(fold.max(initial=0)) + 1):
        test, rest = fold == k, (fold != k) & (fold != 0)
        if not test.any():
            raise DataError(f"--cv {rule}: fold {k} has no trials.", hint=_fewer(rule, fold))
        if not _varied(design, test).any():
            raise DataError(
                f"--cv {rule}: no label has both a positive and a negative trial in fold {k}.",
                hint=_fewer(rule, fold),
            )
        if not _varied(design, rest).any():
            raise DataError(
                f"--cv {rule}: without fold {k} every label is constant; nothing is left to learn.",
                hint=_fewer(rule, fold),
            )
        train = rest & (fold != k % int(fold.max()) + 1)
        gone = design.positive.any(axis=0) & ~design.positive[train].any(axis=0)
        for label in np.flatnonzero(gone):
            lost.setdefault(design.label_name(int(label)), []).append(k)
    for name, without in lost.items():
        where = ", ".join(map(str, without))
        logger.warning(
            "--cv %s: %s has no training trial where fold %s is held out; it is not decoded there.",
            rule, name, where,
        )  # fmt: skip


def _fewer(rule: str, fold: IntArray) -> str:
    kind, n_folds = rule.partition(":")[0], int(fold.max())
    return (
        f"--cv {kind}:{n_folds - 1} makes larger folds"
        if n_folds > FEWEST_FOLDS
        else "--split names a test set"
    )


def _varied(design: SplitDesign, rows: BoolArray) -> BoolArray:
    """Labels with a positive and a negative trial among these, shape (C,)."""
    return np.asarray(design.positive[rows].any(axis=0) & design.negative[rows].any(axis=0))


def _say_missing(design: SplitDesign, fold: IntArray) -> None:
    """Name who has no test trials in which fold."""
    people, folds = np.unique(design.participant), np.unique(fold[fold > 0])
    present = set(zip(design.participant, fold.tolist(), strict=True))
    missing: dict[str, list[str]] = {}
    for person, k in product(people.tolist(), folds.tolist()):
        if (person, k) not in present:
            missing.setdefault(person, []).append(str(k))
    for person, absent in missing.items():
        logger.warning(
            "sub-%s has no test trials in fold %s: scored in the other %d.",
            person, ", ".join(absent), len(folds) - len(absent),
        )  # fmt: skip


def _as_split(design: SplitDesign, fold: IntArray, *, rule: str) -> Split:
    rows, names = split_rows(design, fold)
    held: SetName = "test"
    left: SetName = "none"
    split = Split(
        run_key=tuple(design.run_key[i] for i in rows.tolist()),
        stimulus_id=names,
        set_name=tuple(held if fold[i] else left for i in rows.tolist()),
        reason=tuple(
            f"--cv {rule}, fold {fold[i]}" if fold[i] else "left out: a clip that several movies hold"
            for i in rows.tolist()
        ),
        rule=f"cv {rule}",
        regime=_regime(design, fold),
        fold=tuple(int(fold[i]) or None for i in rows.tolist()),
    )
    sizes = np.bincount(fold, minlength=1)
    counts = str(sizes[1]) if np.ptp(sizes[1:]) == 0 else f"{sizes[1:].min()} to {sizes[1:].max()}"
    logger.info(
        "cross-validation: --cv %s, %d folds of %s trials; regime: %s%s.",
        rule, len(sizes) - 1, counts, split.regime,
        f"; {sizes[0]} samples of clips that several movies hold are left out" if sizes[0] else "",
    )  # fmt: skip
    return split


def most_modest(regimes: Sequence[str]) -> str:
    """Of several regimes the one that claims least; "" of none."""
    order = ("unseen trials of seen stimuli", "unseen stimuli", "unseen participant")
    return next((regime for regime in order if regime in regimes), next(iter(regimes), ""))


def _regime(design: SplitDesign, fold: IntArray) -> str:
    regimes = []
    for k in np.unique(fold[fold > 0]):
        rest = (fold != k) & (fold != 0)
        regimes.append(regime_of(design.stimulus, design.person, train=rest, test=fold == k))
    return most_modest(regimes)


def _with_sets(split: Split, sets: Mapping[int, SetName]) -> Split:
    """The split without folds, each row in the set of its fold."""
    left: SetName = "none"
    names = tuple(left if fold is None else sets[fold] for fold in split.fold)
    return replace(split, set_name=names, fold=())
