"""Trials of one participant by set, and everything that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from clipmused_bids.dataset.runs.names import run_index
from clipmused_bids.dataset.runs.walk import BidsFile, Folders, functional_files
from clipmused_bids.records import RUN_ENTITIES, Split
from clipmused_bids.report.inputs.trials import Exclusion, SetFacts
from clipmused_bids.report.inputs.wording import counted
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.reporting.inputs.stored import StoredRun
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.splitting import folds_of_runs, sets_of_runs

_NOT_FITTED = "not fitted, not scored"
_SETS = ("train", "val", "test", "none", "new")


def set_of_trials(view: ReportView, runs: Sequence[StoredRun]) -> dict[str, tuple[str, ...]]:
    """Set of each trial of each run: ``train``, ``val``, ``test``, ``none``, ``new``; or the fold that holds it out.

    Raises
    ------
    DataError
        If the split knows a run but not its trials.
    """
    plain = [one.run for one in runs]
    sets: dict[str, tuple[str, ...]] = {**sets_of_runs(view.split, plain, view.plan.trials)}
    if not by_fold(view.split):
        return sets
    folds = folds_of_runs(view.split, plain, view.plan.trials)
    return {
        key: tuple(
            name if fold is None else str(fold) for name, fold in zip(sets[key], folds[key], strict=True)
        )
        for key in sets
    }


def by_fold(split: Split | None) -> bool:
    """Whether trials are held out fold by fold."""
    return split is not None and any(fold is not None for fold in split.fold)


def set_facts(
    view: ReportView, runs: Sequence[StoredRun], sets: Mapping[str, Sequence[str]]
) -> list[SetFacts]:
    """Trials with a response, stimuli and runs of each set."""
    rows = [
        (sets[one.run.key][k], view.plan.trials[one.run.key].stimulus_id[k], one.run.key)
        for one in runs
        for k in one.rows.tolist()
    ]
    names = sorted({name for name, _, _ in rows}, key=_set_order)
    return [
        SetFacts(
            name,
            n_trials=sum(row[0] == name for row in rows),
            n_stimuli=len({stimulus for own, stimulus, _ in rows if own == name and stimulus}),
            n_runs=len({key for own, _, key in rows if own == name}),
        )
        for name in names
    ]


def _set_order(name: str) -> tuple[int, int]:
    return (1, _SETS.index(name)) if name in _SETS else (0, int(name))


def exclusions(view: ReportView, participant: str, runs: Sequence[StoredRun]) -> list[Exclusion]:
    """Everything that was left out of this participant, from its runs down to its stimuli."""
    return [
        *_of_runs(view.plan, participant, runs),
        *_of_rows(view.plan, runs),
        *_of_trials(view, runs),
        *_of_stimuli(view, runs),
    ]


def _of_runs(plan: Plan, participant: str, runs: Sequence[StoredRun]) -> list[Exclusion]:
    found = [
        Exclusion(
            "runs",
            len(keys),
            f"{reason}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}",
            "not read",
        )
        for reason, keys in _runs_left_out(plan, participant).items()
    ]
    empty = sum(one.n_trials == 0 for one in runs)
    if empty:
        found.append(Exclusion("runs", empty, "their events hold no trial", _NOT_FITTED))
    lacking = [one for one in runs if one.n_trials and one.responses is None]
    if lacking:
        found.append(
            Exclusion(
                "runs",
                len(lacking),
                "no responses are stored",
                f"{sum(o.n_trials for o in lacking)} trials wait",
            )
        )
    return found


def _runs_left_out(plan: Plan, participant: str) -> dict[str, list[str]]:
    """Raw runs of the tasks that were read which are not in the plan, by what they lack.

    Where runs were chosen by the user, and where responses come by a manifest, nothing is missed.
    """
    chosen = plan.config.selection
    if plan.config.inputs.betas is not None or chosen.sessions or chosen.runs or chosen.filter_file:
        return {}
    endings = ("_events.tsv", "_bold.nii", "_bold.nii.gz")
    files = functional_files(
        plan.config.bids_dir, participant, accept=lambda name: name.endswith(endings), folders=Folders()
    )
    known, tasks = {run.key for run in plan.runs}, {run.task for run in plan.runs}
    raw: dict[str, set[str]] = {}
    for file in files:
        if file.entities.get("task") in tasks and _key(file) not in known:
            raw.setdefault(_key(file), set()).add(file.name.suffix)
    lacking: dict[str, list[str]] = {}
    for key, suffixes in raw.items():
        reason = "events, but no preprocessed image" if "events" in suffixes else "a raw image, but no events"
        lacking.setdefault(reason, []).append(key)
    return lacking


def _key(file: BidsFile) -> str:
    """Name of the run as ``Run.key`` has it."""
    labels = {name: file.entities[name] for name in RUN_ENTITIES if name in file.entities}
    index = run_index(labels.get("run"))
    if index is not None:
        labels["run"] = str(index)
    return "_".join(f"{name}-{label}" for name, label in labels.items())


def _of_rows(plan: Plan, runs: Sequence[StoredRun]) -> list[Exclusion]:
    modelled: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    for one in runs:
        trials = plan.trials[one.run.key]
        modelled.update(trials.nuisance_kind)
        excluded.update(trials.excluded)
    given = plan.kind in {"betas", "window"}
    consequence = "no trials" if given else "no trials; modelled beside them"
    return [
        *(Exclusion("rows of the events", n, f"“{name}”", consequence) for name, n in modelled.most_common()),
        *(
            Exclusion("rows of the events", n, name, "no trials, not modelled")
            for name, n in excluded.most_common()
        ),
    ]


def _of_trials(view: ReportView, runs: Sequence[StoredRun]) -> list[Exclusion]:
    dropped: Counter[str] = sum((one.dropped for one in runs), Counter())
    found = [
        Exclusion("trials", n, f"no response: {reason}", _NOT_FITTED) for reason, n in dropped.most_common()
    ]
    split = view.split
    if split is not None:
        keys = {one.run.key for one in runs}
        rows = zip(split.run_key, split.set_name, split.reason, strict=True)
        reasons = Counter(reason for key, name, reason in rows if key in keys and name == "none")
        found += [
            Exclusion("stimuli of a run", n, f"in no set: {reason}", _NOT_FITTED)
            for reason, n in reasons.most_common()
        ]
    return found


def _of_stimuli(view: ReportView, runs: Sequence[StoredRun]) -> list[Exclusion]:
    if view.catalogue is None:
        return []
    shown = shown_stimuli(view.plan, runs)
    names = list(shown)
    stimuli, left = view.catalogue.stimuli, set(view.catalogue.left_out)
    unknown = [name for name in names if name not in set(stimuli.stimulus_id)]
    rows = view.catalogue.rows_of([name for name in names if name not in set(unknown)])
    pictured = any(picture is not None for picture in stimuli.picture)
    known = [(stimuli.stimulus_id[k], stimuli.picture[k], stimuli.labels[k]) for k in rows]
    groups = (
        ("the picture cannot be read", _NOT_FITTED, [n for n, _, _ in known if n in left]),
        (
            "no picture was found",
            "labels and captions stand in for it",
            [n for n, picture, _ in known if pictured and picture is None and n not in left],
        ),
        (
            "no label is known",
            _NOT_FITTED,
            [n for n, _, labels in known if n not in left and bool(np.isnan(labels).all())],
        ),
    )
    return [
        Exclusion(
            "stimuli", len(group), f"{reason} ({counted(sum(shown[n] for n in group), 'trial')})", consequence
        )
        for reason, consequence, group in groups
        if group
    ]


def shown_stimuli(plan: Plan, runs: Sequence[StoredRun]) -> dict[str, int]:
    """How often each stimulus was shown, by the events; in the order of its name."""
    shown = Counter(name for one in runs for name in plan.trials[one.run.key].stimulus_id if name)
    return {name: shown[name] for name in sorted(shown)}
