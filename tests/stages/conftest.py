"""A small world of stored responses whose every number is known, without any image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.config import Config, as_tables, build_hyperparameters, merge
from clipmused_bids.dataset.outputs.response_files import write_responses
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import Grid, Picture, Run, RunResponses, Split, Stimuli, Trials
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan

GRID = Grid((3, 4, 5), np.diag([2.0, 2.0, 2.5, 1.0]))


def make_run(participant: str = "01", number: int = 1, *, session: str | None = None, **changes: Any) -> Run:
    entities = {"sub": participant, "ses": session, "task": "x", "run": str(number)}
    run = Run(
        participant=participant,
        session=session,
        task="x",
        run=number,
        entities={name: value for name, value in entities.items() if value is not None},
        events=None,
        image=None,
        image_kind="bold",
    )
    return replace(run, **changes)


def make_trials(stimuli: Sequence[str], *, columns: Mapping[str, Sequence[str]] | None = None) -> Trials:
    n = len(stimuli)
    return Trials(
        onset=np.arange(n) * 4.0,
        duration=np.full(n, 2.0),
        stimulus_id=tuple(stimuli),
        condition=("",) * n,
        columns={name: tuple(values) for name, values in (columns or {}).items()},
        nuisance_onset=np.array([]),
        nuisance_duration=np.array([]),
        nuisance_kind=(),
        n_rows=n,
        n_rows_in_trials=n,
        excluded={},
        stimulus_column="stim_file",
    )


class World:
    """Runs with stored responses, and the plan over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = OutputTree(folder / "out")
        self.runs: list[Run] = []
        self.trials: dict[str, Trials] = {}
        self.values: dict[str, np.ndarray] = {}

    def add(
        self,
        run: Run,
        stimuli: Sequence[str],
        values: np.ndarray,
        *,
        voxels: Sequence[int] | None = None,
        valid: Sequence[bool] | None = None,
        grid: Grid = GRID,
        kept: Sequence[int] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        precision: Any = "float32",
    ) -> None:
        """Store responses of a run; ``values`` has one row for each kept trial."""
        (self.folder / "bids" / f"sub-{run.participant}").mkdir(parents=True, exist_ok=True)
        trials = make_trials(stimuli, columns=columns)
        places = np.arange(values.shape[1]) if voxels is None else np.array(voxels)
        usable = np.ones(values.shape[1], bool) if valid is None else np.array(valid)
        rows = np.arange(len(stimuli)) if kept is None else np.array(kept)
        responses = RunResponses(
            np.where(usable, values, 0).astype(np.float32), usable, rows, "lss", "percent signal change", {}
        )
        write_responses(
            self.tree, run, responses, trials, grid=grid, voxels=places, config={}, precision=precision
        )
        self.runs.append(run)
        self.trials[run.key] = trials
        self.values[run.key] = responses.values

    def plan(
        self,
        *,
        participants: Sequence[str] | None = None,
        common_space: bool = True,
        hyperparameters: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> Plan:
        """Plan over everything that was added, for all or some participants."""
        chosen = tuple(dict.fromkeys(run.participant for run in self.runs))
        chosen = chosen if participants is None else tuple(participants)
        options = Config(
            bids_dir=self.folder / "bids",
            output_dir=self.tree.root,
            level="group",
            actions=("train",),
            **config,
        )
        # A plan has the lag settled.
        settled = merge(as_tables(options.hyperparameters()), {"responses": {"lag": 5.0}})
        tables = merge(settled, hyperparameters or {})
        return Plan(
            config=options,
            participants=chosen,
            derivatives=(),
            runs=tuple(run for run in self.runs if run.participant in chosen),
            trials=self.trials,
            event_runs=tuple(self.runs),
            kind="lss",
            common_space=common_space,
            hyperparameters=build_hyperparameters(tables),
            preset="small",
        )

    def split(self, sets: Mapping[str, str] | Sequence[str], *, regime: str = "unseen stimuli") -> Split:
        """Split by stimulus (mapping), or trial by trial over all runs in order (sequence)."""
        rows = [(run.key, name) for run in self.runs for name in self.trials[run.key].stimulus_id]
        names = [sets[name] for _, name in rows] if isinstance(sets, Mapping) else list(sets)
        return Split(
            run_key=tuple(key for key, _ in rows),
            stimulus_id=tuple(name for _, name in rows),
            set_name=tuple(names),  # type: ignore[arg-type]
            reason=("by hand",) * len(rows),
            rule="file",
            regime=regime,
        )


def make_catalogue(
    labels: Mapping[str, Sequence[float]],
    *,
    names: Sequence[str] = ("cat", "dog"),
    paths: Mapping[str, Path] | None = None,
    table: Mapping[str, Sequence[str]] | None = None,
    captions: Mapping[str, Sequence[str]] | None = None,
    single_label: bool = False,
) -> Catalogue:
    ids = tuple(sorted(labels))
    files = tuple((paths or {}).get(name) for name in ids)
    pictures = tuple(None if path is None else Picture(path) for path in files)
    return Catalogue(
        stimuli=Stimuli(
            ids,
            pictures,
            tuple(tuple((captions or {}).get(name, ())) for name in ids),
            tuple(names),
            np.array([labels[name] for name in ids], dtype=float).reshape(len(ids), len(names)),
            single_label,
        ),
        content=tuple("" if path is None else f"{k:064x}" for k, path in enumerate(files)),
        table={name: tuple(values) for name, values in (table or {}).items()},
        simulated=True,
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
