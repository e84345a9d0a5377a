"""What was read of a dataset: from the responses in the output folder, or from the plan where there are none yet."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.images.confounds import read_confounds
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.runs.names import parse_name
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Run
from clipmused_bids.report.methods.facts import RunFacts
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import mask_setting

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadRuns:
    """Runs and what their responses have in common.

    Parameters
    ----------
    runs : sequence of RunFacts
    stored : bool
        Whether they come from stored responses.
    voxel_size : tuple of float or None
        In mm, where all have the same.
    mask, confounds : str
    resample : str or None
    """

    runs: Sequence[RunFacts]
    stored: bool
    voxel_size: tuple[float, float, float] | None
    mask: str
    confounds: str
    resample: str | None


def read_runs(
    plan: Plan,
    tree: OutputTree,
    *,
    kind: str,
    tasks: Collection[str],
    space: str | None,
    people: Collection[str],
    without: Collection[str],
) -> ReadRuns:
    """Gather the runs of some participants.

    Stored responses are asked first: they are the same for every job that writes into the folder, whichever
    participants it was about.

    Parameters
    ----------
    kind : str
        Of the responses.
    tasks, space
        Of the images.
    people : collection of str
        Empty: everyone.
    without : collection of str
        Participants that failed: what there is of theirs is no part of the data.
    """
    found = [
        (run, sidecar)
        for run, sidecar in _stored(tree, kind)
        if run["task"] in tasks
        and run.get("space") == space
        and (run["sub"] in people if people else run["sub"] not in without)
    ]
    if not found:
        return _planned(plan)
    estimation = found[0][1]["Estimation"]
    sizes = {_edges(sidecar["Grid"]["affine"]) for _, sidecar in found}
    return ReadRuns(
        runs=[_run(entities, sidecar) for entities, sidecar in found],
        stored=True,
        voxel_size=sizes.pop() if len(sizes) == 1 else None,
        mask=estimation["mask"],
        confounds=estimation.get("confounds", "none"),
        resample=estimation["resample"],
    )


def example_confounds(runs: Sequence[Run], strategy: str) -> tuple[tuple[str, ...], str]:
    """Columns that a strategy takes of the first run with confounds, and that run; nothing where it cannot be read."""
    run = next((one for one in runs if one.confounds is not None), None)
    if run is None or run.confounds is None or strategy == "none":
        return (), ""
    try:
        n_scans = read_table(run.confounds).n_rows
        return read_confounds(run, strategy=strategy, n_scans=n_scans).names, run.label  # type: ignore[arg-type]
    except ClipMusedError as error:
        logger.debug("Methods text: %s", error)
        return (), ""


def _stored(tree: OutputTree, kind: str) -> list[tuple[Mapping[str, str], Mapping[str, Any]]]:
    """Entities and sidecars of all stored responses of a kind."""
    paths = [
        path
        for folder in ("sub-*/func", "sub-*/ses-*/func")
        for path in tree.root.glob(f"{folder}/*_desc-{kind}_responses.json")
    ]
    return [(parse_name(path.name).entities, read_json(path)) for path in sorted(paths)]


def _run(entities: Mapping[str, str], sidecar: Mapping[str, Any]) -> RunFacts:
    times = sidecar["Estimation"].get("times") or {}
    return RunFacts(
        participant=entities["sub"],
        session=entities.get("ses"),
        n_trials=int(sidecar["NumberOfTrials"]),
        repetition_time=times.get("RepetitionTime"),
        confounds=any("confounds" in source.rpartition("/")[2] for source in sidecar["Sources"]),
    )


def _edges(affine: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Edges of a voxel in mm, rounded to micrometres."""
    lengths = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    x, y, z = (round(float(edge), 3) for edge in lengths)
    return x, y, z


def _planned(plan: Plan) -> ReadRuns:
    bold = plan.kind != "betas"
    runs = [
        RunFacts(
            run.participant,
            run.session,
            plan.trials[run.key].n_trials,
            run.metadata.get("RepetitionTime") if bold else None,
            run.confounds is not None,
        )
        for run in plan.runs
    ]
    return ReadRuns(
        runs=runs,
        stored=False,
        voxel_size=None,
        mask=mask_setting(plan, plan.runs[0].participant),
        confounds=plan.config.inputs.confounds,
        resample=plan.config.inputs.resample,
    )
