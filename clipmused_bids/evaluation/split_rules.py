"""The rules that propose a test set, in the order in which they are tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from clipmused_bids.errors import DataError, SelectionError, UsageError
from clipmused_bids.evaluation.hold_out import (
    Proposal,
    each_group,
    end_of_each_run,
    whole_groups,
    whole_stimuli,
)
from clipmused_bids.evaluation.split_design import Groups, SplitDesign, movie_groups, run_groups
from clipmused_bids.evaluation.stratify import stratify
from clipmused_bids.records import BoolArray

FEW_STIMULI = 100

_SETS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("none", "n/a", "nan", ""), "none"),
}

Outcome = Proposal | str  # a string says why the rule does not apply
Rule = Callable[[SplitDesign, np.random.Generator], Iterator[Outcome]]


def by_column(design: SplitDesign, _rng: np.random.Generator) -> Iterator[Outcome]:
    """Rule 1: a column of the dataset names the sets."""
    if design.column is None:
        yield "no column names the sets"
        return
    texts = [text.strip().lower() for text in design.column]
    unknown = sorted(set(texts) - set(_SETS))
    if unknown:
        yield f"the column holds {', '.join(unknown[:5])}; expected train, val and test"
        return
    sets = np.array([_SETS[text] for text in texts])
    train, test, validation = sets == "train", sets == "test", sets == "val"
    if not train.any() or not test.any():
        yield "the column names no training or no test trials"
        return
    groups = run_groups(design)
    unseen = not np.isin(design.stimulus[test], design.stimulus[train]).any()
    yield Proposal(
        rule="column",
        reason="rule 1: named by a column of the dataset",
        test=test,
        left_out=sets == "none",
        unit="stimulus" if unseen and not design.continuous else "group",
        groups=groups,
        next_groups=tuple(reversed(groups.eligible)),
        validation=validation if validation.any() else None,
    )


def by_movie(design: SplitDesign, _rng: np.random.Generator) -> Iterator[Outcome]:
    """Rule 2: whole movies, else whole runs, else the end of each run."""
    if not design.continuous:
        yield "the trials are no samples of movies"
        return
    if design.movie is not None:
        movies = movie_groups(design)
        if len(movies.eligible) > 2:
            yield from each_group(design, movies, rule="movies", words="rule 2: whole movies")
    runs = run_groups(design)
    if len(runs.eligible) > 1:
        yield from each_group(design, runs, rule="movies", words="rule 2: whole runs of movies")
    else:
        yield end_of_each_run(design, rule="tail", reason="rule 2: movies, one run only: its last 20 %")


def by_run(design: SplitDesign, _rng: np.random.Generator) -> Iterator[Outcome]:
    """Rule 3: the same run of all participants, for blocks, conditions and few stimuli."""
    if design.continuous:
        yield "the trials are samples of movies"
        return
    if not design.blocked and design.n_stimuli > FEW_STIMULI:
        yield f"{design.n_stimuli} stimuli are more than {FEW_STIMULI} and no condition defines the trials"
        return
    why = "trials defined by condition" if design.blocked else f"{design.n_stimuli} stimuli"
    runs = run_groups(design)
    if len(runs.eligible) > 1:
        yield from each_group(design, runs, rule="runs", words=f"rule 3: by run ({why})")
    else:
        yield end_of_each_run(design, rule="tail", reason=f"rule 3: {why}, one run only: its last 20 %")


def by_repeats(design: SplitDesign, _rng: np.random.Generator) -> Iterator[Outcome]:
    """Rule 4: stimuli shown more than twice as often as usual, over all participants."""
    if design.continuous:
        yield "the trials are samples of movies"
        return
    counts = np.bincount(design.stimulus, minlength=design.n_stimuli)
    usual = int(np.bincount(counts).argmax())
    words = f"shown more than {2 * usual} times over all participants (usual: {usual})"
    yield whole_stimuli(design, counts > 2 * usual, rule="repeats", number=4, words=words)


def by_sharing(design: SplitDesign, _rng: np.random.Generator) -> Iterator[Outcome]:
    """Rule 5: stimuli seen by more than one participant."""
    if design.continuous:
        yield "the trials are samples of movies"
        return
    seen = np.unique(np.column_stack([design.stimulus, design.person]), axis=0)
    shared = np.bincount(seen[:, 0], minlength=design.n_stimuli) > 1
    yield whole_stimuli(design, shared, rule="shared", number=5, words="seen by more than one participant")


def by_stimulus(design: SplitDesign, rng: np.random.Generator) -> Iterator[Outcome]:
    """Rule 6: 80/10/10 by stimulus, stratified by label, and by participant where each sees other stimuli."""
    if design.continuous:
        yield "neighbouring samples of a movie are not independent"
        return
    part = stratify(stimulus_labels(design), shares=(0.8, 0.1, 0.1), rng=rng)[design.stimulus]
    yield Proposal(
        rule="stimuli",
        reason="rule 6: 80/10/10 by stimulus, stratified by label",
        test=part == 2,
        left_out=np.zeros(design.n_trials, dtype=bool),
        unit="stimulus",
        validation=part == 1,
    )


RULES: tuple[Rule, ...] = (by_column, by_movie, by_run, by_repeats, by_sharing, by_stimulus)


def by_named_runs(design: SplitDesign, text: str) -> Proposal:
    """Propose the runs a user names: ``8`` or ``8,9``.

    Raises
    ------
    UsageError
        If the text holds anything but numbers.
    SelectionError
        If no participant has one of the runs.
    """
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise UsageError(
            f"--split runs:{text}: expected run numbers.", hint="--split runs:8 or --split runs:8,9"
        )
    wanted = [int(number) for number in text.split(",")]
    existing = sorted({run for run in design.run if run is not None})
    missing = [str(run) for run in wanted if run not in existing]
    if missing:
        raise SelectionError(
            f"--split runs:{text}: no participant has run {', '.join(missing)}; "
            f"runs are {', '.join(map(str, existing)) or 'not numbered'}.",
            hint=f"--split runs:{existing[-1]}" if existing else "--split auto",
        )
    code = np.array([-1 if run is None else run for run in design.run], dtype=np.int64)
    groups = Groups(code, tuple(existing), {run: f"run {run}" for run in existing})
    with_run = {person for person, run in zip(design.participant, design.run, strict=True) if run in wanted}
    without = sorted(set(design.participant) - with_run)
    reason = f"--split runs:{text}" + (f" (not in {', '.join(without)})" if without else "")
    return whole_groups(design, groups, test=wanted, rule="runs", reason=reason)


def by_participants(design: SplitDesign, text: str) -> Proposal:
    """Propose the participants a user names: ``05``, ``05,06``; ``05+stimuli`` with stimuli nobody else is trained on.

    Raises
    ------
    SelectionError
        If there is no such participant, or nobody else.
    DataError
        If others are trained on nothing but the stimuli of these.
    """
    names, plus, guard = text.partition("+")
    wanted = {name.removeprefix("sub-") for name in names.split(",")}
    people = sorted(set(design.participant))
    missing = sorted(wanted - set(people))
    if missing or wanted == set(people) or (plus and guard != "stimuli"):
        what = f"no participant {', '.join(missing)}" if missing else "nobody else is left to train on"
        raise SelectionError(
            f"--split participants:{text}: {'unknown guard' if plus and guard != 'stimuli' else what}; "
            f"participants are {', '.join(people)}.",
            hint=f"--split participants:{people[-1]} or --split participants:{people[-1]}+stimuli",
        )
    test = np.isin(np.array(design.participant), sorted(wanted))
    seen = np.isin(design.stimulus, design.stimulus[test]) & ~test
    if guard and seen[~test].all():
        raise DataError(
            f"--split participants:{text}: the others saw no other stimuli, so none is unseen.",
            hint=f"--split participants:{names} tests an unseen participant on seen stimuli",
        )
    groups = run_groups(design)
    by_stimulus = not (design.continuous or design.blocked) and (guard != "" or not seen.any())
    return Proposal(
        rule="participants",
        reason=f"--split participants:{text}",
        test=test,
        left_out=seen if guard else np.zeros(design.n_trials, dtype=bool),
        unit="stimulus" if by_stimulus else "group",
        groups=groups,
        next_groups=tuple(reversed(groups.eligible)),
    )


def stimulus_labels(design: SplitDesign) -> BoolArray:
    """Labels of each stimulus, and who sees it where that differs, shape (n_stimuli, C [+ n_people])."""
    labels = np.zeros((design.n_stimuli, design.positive.shape[1]), dtype=bool)
    trial, label = np.nonzero(design.positive)
    labels[design.stimulus[trial], label] = True
    seen = np.zeros((design.n_stimuli, int(design.person.max()) + 1), dtype=bool)
    seen[design.stimulus, design.person] = True
    return labels if seen.all() else np.column_stack([labels, seen])
