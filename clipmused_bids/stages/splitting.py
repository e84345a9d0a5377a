"""The split of a dataset: read where it is stored or named, else made once from everyone's events."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.files.atomic import remove
from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.files.tsv import is_missing
from clipmused_bids.dataset.outputs.split_file import read_split, write_split
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import CannotCreateError, DatasetError, MissingInputError, UsageError
from clipmused_bids.evaluation.cross_validation import fold_numbers, make_folds, most_modest, parts_of
from clipmused_bids.evaluation.split_design import SplitDesign
from clipmused_bids.evaluation.splits import Assignment, assign, make_split, regime_of
from clipmused_bids.records import BoolArray, FloatArray, Run, SetName, Split, Trials
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan

logger = logging.getLogger(__name__)

SET_COLUMNS = ("split", "set")
CLIP_COLUMNS = ("clip_id", "clip")
# Share of trials with the condition of the trial before; shuffled conditions repeat far less often.
SAME_AS_BEFORE = 0.75


def stored_split(tree: OutputTree, *, model_label: str) -> Split | None:
    """The split of a model: its own if it has one, else the dataset's; None before any training."""
    own = own_split_file(tree, model_label=model_label)
    path = own if own.exists() else tree.split
    return read_split(path) if path.exists() else None


def split_of_decoder(plan: Plan, tree: OutputTree) -> Split | None:
    """Split to decode and score by: the file that ``--split`` names, else what is stored with the decoder."""
    asked = plan.config.split
    if not _is_rule(asked):
        return _with_regime(_split_from_file(Path(asked)), plan)
    if plan.config.cv is not None:
        logger.info("--cv %s is for training; the split of the decoder is used.", plan.config.cv)
    if asked != "auto":
        logger.info("--split %s is for training; the split of the decoder is used.", asked)
    return stored_split(tree, model_label=plan.config.model_label)


def own_split_file(tree: OutputTree, *, model_label: str) -> Path:
    """Where a model keeps its split if that is not the dataset's."""
    return tree.model_folder(model_label) / "split.tsv"


def choose_split(plan: Plan, catalogue: Catalogue, tree: OutputTree) -> Split:
    """Read or make the split that was asked for; ``auto`` takes what the output folder holds already.

    Raises
    ------
    UsageError
        If ``--split`` names no rule and no file.
    DatasetError
        If a split must be made and the dataset holds only some of the participants it lists.
    """
    asked, cv = plan.config.split, plan.config.cv
    stored = read_split(tree.split) if asked == "auto" and tree.split.exists() else None
    if stored is not None and _rule_of_folds(stored) == cv:
        unknown = sorted({run.key for run in plan.event_runs} - set(stored.run_key))
        if not unknown:
            logger.info("Split: %s, as stored.", tree.split)
            return stored
        if not plan.config.overwrite:
            raise CannotCreateError(
                f"{tree.split}: made before {len(unknown)} run(s) of this dataset were there "
                f"({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}); they would never be trained on.",
                hint="--overwrite divides all trials anew and trains again; --split FILE names another split",
            )
    if not _is_rule(asked):
        return _with_regime(_split_from_file(Path(asked)), plan)
    _require_everyone(plan)
    if cv is not None:
        return make_folds(design_of(plan, catalogue, asked), rule=cv, seed=plan.config.random_seed)
    return make_split(design_of(plan, catalogue, asked), rule=asked, seed=plan.config.random_seed)


def keep_split(split: Split, tree: OutputTree, *, model_label: str, overwrite: bool) -> None:
    """Store the split as the dataset's, or beside the model if the dataset has another already.

    With ``overwrite``, a dataset's split that lacks runs of the new one gives way to it.
    """
    own = own_split_file(tree, model_label=model_label)
    if not tree.split.exists():
        # Of two trainings that begin at once, the other one's split stands; then ours goes beside our model.
        write_split(tree.split, split, present="keep")
    elif overwrite and not set(split.run_key) <= set(read_split(tree.split).run_key):
        write_split(tree.split, split)
    if split_hash(read_split(tree.split)) != split_hash(split):
        write_split(own, split)
    else:
        # Of an earlier decoder under this label.
        remove(own)
        remove(own.with_suffix(".json"))


def split_hash(split: Split) -> str:
    """SHA-256 of which trial is in which set, or fold; reasons do not count."""
    of_rows = [str(fold) for fold in split.fold] or split.set_name
    rows = sorted(zip(split.run_key, split.stimulus_id, of_rows, strict=True))
    return digest(canonical_json({"rows": rows}))


def sets_of_runs(
    split: Split | None, runs: Sequence[Run], trials: Mapping[str, Trials]
) -> dict[str, tuple[SetName, ...]]:
    """Set of each trial of each run; ``new`` where there is no split, or the split does not know the run.

    Raises
    ------
    DataError
        If the split knows a run but not all of its trials.
    """
    new: SetName = "new"
    sets: dict[str, tuple[SetName, ...]] = {run.key: (new,) * trials[run.key].n_trials for run in runs}
    for key, found in _assigned(split, runs, trials, say=True).items():
        sets[key] = found.set_name
    return sets


def holds_out_people(split: Split) -> bool:
    """Whether whole participants are held out."""
    return split.regime.startswith("unseen participant")


def tested_people(plan: Plan, split: Split) -> tuple[str, ...]:
    """Participants that a score is about: where whole people are held out these, else everyone in the plan."""
    if not holds_out_people(split):
        return plan.participants
    sets = sets_of_runs(split, plan.runs, plan.trials)
    return tuple(p for p in plan.participants if any("test" in sets[run.key] for run in plan.runs_of(p)))


def folds_of_runs(
    split: Split | None, runs: Sequence[Run], trials: Mapping[str, Trials]
) -> dict[str, tuple[int | None, ...]]:
    """Fold of a cross-validation that holds each trial of each run out; None where there is none."""
    folds: dict[str, tuple[int | None, ...]] = {run.key: (None,) * trials[run.key].n_trials for run in runs}
    for key, found in _assigned(split, runs, trials, say=False).items():
        folds[key] = found.fold
    return folds


def _assigned(
    split: Split | None, runs: Sequence[Run], trials: Mapping[str, Trials], *, say: bool
) -> dict[str, Assignment]:
    """What the split says of the trials of each run that it knows."""
    known = set(split.run_key) if split is not None else set()
    named = [run for run in runs if run.key in known]
    if split is None or not named:
        return {}
    keys = [run.key for run in named for _ in range(trials[run.key].n_trials)]
    found = assign(split, keys, [name for run in named for name in trials[run.key].stimulus_id])
    for note in found.notes if say else ():
        logger.info("Split: %s.", note)
    parts, start = {}, 0
    for run in named:
        end = start + trials[run.key].n_trials
        parts[run.key] = Assignment(found.set_name[start:end], (), found.fold[start:end])
        start = end
    return parts


def design_of(plan: Plan, catalogue: Catalogue, asked: str) -> SplitDesign:
    """All trials of all participants, as the split rules look at them."""
    runs = [run for run in plan.event_runs for _ in range(plan.trials[run.key].n_trials)]
    trials = [plan.trials[run.key] for run in plan.event_runs]
    stimuli = tuple(name for run in trials for name in run.stimulus_id)
    content = catalogue.contents_of(stimuli)
    movie = movies_of(trials)
    repeated = None if movie is None else repeated_clips(trials, movie, content)
    labels, label_names = _guarded_labels(plan, catalogue, stimuli)
    column = _set_column(plan, catalogue, stimuli, asked)
    return SplitDesign(
        run_key=tuple(run.key for run in runs),
        participant=tuple(run.participant for run in runs),
        session=tuple(run.session for run in runs),
        run=tuple(run.run for run in runs),
        stimulus_id=stimuli,
        labels=labels,
        onset=np.concatenate([run.onset for run in trials]) if trials else np.empty(0),
        label_names=label_names,
        blocked=is_blocked(trials),
        continuous=movie is not None,
        movie=movie,
        repeated_clip=repeated,
        column=column,
        content=content,
    )


def movies_of(runs: Sequence[Trials]) -> tuple[str, ...] | None:
    """Movie of each trial; None where the trials are no samples of movies."""
    if not any(run.continuous for run in runs):
        return None
    return tuple(name for run in runs for name in run.movie or ())


def repeated_clips(runs: Sequence[Trials], movie: Sequence[str], content: Sequence[str]) -> BoolArray:
    """Samples of clips that several movies hold: of one ``clip_id`` (or ``clip``) in the events, or of one content.

    A movie that is shown twice as a whole repeats nothing in this sense: it stays in one set, or the regime says that
    its stimuli were seen.

    Parameters
    ----------
    runs : sequence of Trials
    movie, content : sequence of str, length n
        Movie and content key ("" where unknown) of each sample over all runs.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    nothing = ("n/a",)
    clip = [
        cell
        for run in runs
        for cell in next(
            (run.columns[name] for name in CLIP_COLUMNS if name in run.columns), nothing * run.n_trials
        )
    ]
    repeated = np.zeros(len(movie), dtype=bool)
    for names in (clip, content):
        homes: dict[str, set[str]] = {}
        for name, home in zip(names, movie, strict=True):
            homes.setdefault(name, set()).add(home)
        repeated |= np.array([not is_missing(name) and len(homes[name]) > 1 for name in names], dtype=bool)
    return repeated


def _guarded_labels(
    plan: Plan, catalogue: Catalogue, stimuli: Sequence[str]
) -> tuple[FloatArray, tuple[str, ...]]:
    """Labels that a split must leave training trials of: those that are not rarer than what is decoded."""
    labels, names = catalogue.labels_of(stimuli), catalogue.stimuli.label_names
    least = plan.hyperparameters.min_label_frequency
    known = np.maximum((~np.isnan(labels)).sum(axis=0), 1)
    kept = np.nansum(labels, axis=0) / known >= least
    if not kept.any():
        return labels, names
    return labels[:, kept], tuple(name for name, keep in zip(names, kept, strict=True) if keep)


def is_blocked(runs: Sequence[Trials]) -> bool:
    """Whether trials are defined by their condition, or come in blocks of one."""
    return all(run.stimulus_column is None for run in runs) or in_blocks(runs)


def in_blocks(runs: Sequence[Trials]) -> bool:
    """Whether stimuli come in blocks of one condition.

    Responses of one block share their noise, so stimuli of a block that are divided between sets decode each other.
    """
    conditions = {name for run in runs for name in run.condition if name}
    pairs = [(one, other) for run in runs for one, other in pairwise(run.condition)]
    if len(conditions) < 2 or not pairs:
        return False
    return sum(one == other != "" for one, other in pairs) > SAME_AS_BEFORE * len(pairs)


def _set_column(
    plan: Plan, catalogue: Catalogue, stimuli: tuple[str, ...], asked: str
) -> tuple[str, ...] | None:
    names = (asked.removeprefix("column:"),) if asked.startswith("column:") else SET_COLUMNS
    trials = [plan.trials[run.key] for run in plan.event_runs]
    for name in names:
        if trials and all(name in run.columns for run in trials if run.n_trials):
            return tuple(value for run in trials if run.n_trials for value in run.columns[name])
        if name in catalogue.table:
            by_stimulus = dict(zip(catalogue.stimuli.stimulus_id, catalogue.table[name], strict=True))
            return tuple(by_stimulus.get(stimulus, "n/a") for stimulus in stimuli)
    if asked.startswith("column:"):
        known = sorted({column for run in trials for column in run.columns})
        raise UsageError(
            f"--split {asked}: neither the events nor stimuli.tsv have a column {names[0]}.",
            hint=f"columns of the events are {', '.join(known) or 'none'}",
        )
    return None


def _rule_of_folds(split: Split) -> str | None:
    """What ``--cv`` was when a split was made; None for a split without folds."""
    return split.rule.removeprefix("cv ") if fold_numbers(split) else None


def _is_rule(asked: str) -> bool:
    return asked == "auto" or asked.startswith(("runs:", "column:", "participants:"))


def _split_from_file(path: Path) -> Split:
    if not path.is_file():
        raise MissingInputError(
            f"--split {path}: no such file, and no rule of that name.",
            hint="auto, runs:N, column:NAME, participants:LABEL, or a file with the columns of split.tsv",
        )
    return read_split(path)


def _with_regime(split: Split, plan: Plan) -> Split:
    """Tell the regime from the trials where a table made by hand does not state it."""
    if split.regime:
        return split
    runs = [run for run in plan.event_runs for _ in range(plan.trials[run.key].n_trials)]
    names = [name for run in plan.event_runs for name in plan.trials[run.key].stimulus_id]
    _, stimulus = np.unique(np.array(names), return_inverse=True)
    _, person = np.unique(np.array([run.participant for run in runs]), return_inverse=True)
    regimes = []
    for part in parts_of(split):
        by_run = sets_of_runs(part.split, plan.event_runs, plan.trials)
        sets = np.array([name for run in plan.event_runs for name in by_run[run.key]])
        if (sets == "test").any():
            train = np.isin(sets, ["train", "val"])
            regimes.append(regime_of(stimulus, person, train=train, test=sets == "test"))
    return replace(split, regime=most_modest(regimes))


def _require_everyone(plan: Plan) -> None:
    """A split made from some of the participants would differ from one job to the next."""
    missing = plan.listed_but_absent()
    if missing:
        raise DatasetError(
            f"{len(missing)} participant(s) of participants.tsv are not in this dataset's tree "
            f"({', '.join(f'sub-{p}' for p in missing[:5])}): a split must see everyone's events.",
            hint="make the split once where all events are, and give it here with --split FILE",
        )
