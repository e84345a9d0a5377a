"""What becomes of the events of published datasets: one line for each dataset and task, as a Markdown table.

    python benchmarks/events_wild.py FOLDER

FOLDER holds one dataset in each of its folders. Nothing but events, sidecars and tables of stimuli is read.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipmused_bids.config import Config, Selection
from clipmused_bids.dataset.events.reading import read_events
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.names import entities_of
from clipmused_bids.dataset.runs.participants import list_participants
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Run, Trials
from clipmused_bids.stages.catalogue import make_catalogue
from clipmused_bids.stages.plan import Plan


@dataclass(frozen=True)
class Outcome:
    """One dataset and task.

    Parameters
    ----------
    found : str
        How the run was found: ``layout``, or the folder that the events file was read from by name.
    column : str or None
        Column of the stimuli.
    n_rows, n_trials, n_stimuli : int
    modelled, left_out : mapping of str to int
        Rows that are no trials, by kind and by reason.
    labels : str
        Number of labels, or why there are none.
    refusal : str
        First line of the error; "" where the events were read.
    """

    dataset: str
    task: str
    found: str
    column: str | None = None
    n_rows: int = 0
    n_trials: int = 0
    n_stimuli: int = 0
    modelled: Mapping[str, int] | None = None
    left_out: Mapping[str, int] | None = None
    labels: str = ""
    refusal: str = ""


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Read every dataset below a folder."""
    for bids in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in sorted(bids.rglob("*_events.tsv")) if not path.name.startswith("._")]
        for task in sorted({entities_of(path)["task"] for path in files}):
            yield _by_layout(bids, task)
        for path in files:
            if path.parent.name != "func":
                yield _by_name(bids, path)


def _by_layout(bids: Path, task: str) -> Outcome:
    try:
        runs = find_runs(
            bids, derivatives=(), selection=Selection(tasks=(task,)), participants=list_participants(bids),
            image_kind="bold", need_events=True, need_images=False,
        )  # fmt: skip
    except ClipMusedError as error:
        return Outcome(bids.name, task, "layout", refusal=error.args[0])
    return _read(bids, task, runs, found="layout")


def _by_name(bids: Path, path: Path) -> Outcome:
    labels = entities_of(path)
    run = Run(labels["sub"], labels.get("ses"), labels["task"], None, labels, path, None, "bold")
    return _read(bids, labels["task"], (run,), found=path.parent.name)


def _read(bids: Path, task: str, runs: tuple[Run, ...], *, found: str) -> Outcome:
    try:
        trials = {
            run.key: read_events(run, trial_types=(), stimulus_column=None, merge_blocks="auto")
            for run in runs
        }
    except ClipMusedError as error:
        return Outcome(bids.name, task, found, refusal=error.args[0].replace(f"{bids.parent}/", ""))
    read = list(trials.values())
    modelled = Counter(kind for one in read for kind in one.nuisance_kind)
    left_out: Counter[str] = Counter()
    for one in read:
        left_out.update(one.excluded)
    return Outcome(
        bids.name, task, found,
        column=read[0].stimulus_column,
        n_rows=sum(one.n_rows for one in read),
        n_trials=sum(one.n_trials for one in read),
        n_stimuli=len({name for one in read for name in one.stimulus_id}),
        modelled=modelled,
        left_out=left_out,
        labels=_labels(bids, runs, trials),
    )  # fmt: skip


def _labels(bids: Path, runs: tuple[Run, ...], trials: Mapping[str, Trials]) -> str:
    config = Config(bids_dir=bids, output_dir=bids, level="group", actions=("train",))
    plan = Plan(
        config=config,
        participants=tuple(sorted({run.participant for run in runs})),
        derivatives=(),
        runs=runs,
        trials=trials,
        event_runs=runs,
        kind="lss",
        common_space=True,
        hyperparameters=config.hyperparameters(),
        preset="small",
    )
    try:
        return f"{len(make_catalogue(plan, read_contents=False).stimuli.label_names)}"
    except ClipMusedError as error:
        return error.args[0]


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    header = [
        "dataset",
        "task",
        "found",
        "column",
        "rows",
        "trials",
        "stimuli",
        "modelled",
        "left-out",
        "labels",
    ]
    print("|", " | ".join(header), "|")
    print("|", " | ".join("---" for _ in header), "|")
    for one in outcomes(parser.parse_args().folder):
        cells = [one.dataset, one.task, one.found]
        if one.refusal:
            print("|", " | ".join([*cells, f"refused: {one.refusal}"]), "|" * (len(header) - len(cells)))
            continue
        counts = [
            ", ".join(f"{k} {n}" for k, n in (kinds or {}).items()) or "-"
            for kinds in (one.modelled, one.left_out)
        ]
        cells += [one.column or "(condition)", str(one.n_rows), str(one.n_trials), str(one.n_stimuli)]
        print("|", " | ".join([*cells, *counts, one.labels]), "|")


if __name__ == "__main__":
    main()
