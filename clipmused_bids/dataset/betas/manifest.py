"""The manifest of existing responses (``--betas``): which row of which file is the response to which trial."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clipmused_bids.dataset.betas.manifest_rows import ADDRESS, ManifestRow, read_rows
from clipmused_bids.dataset.events.rows import condition_of
from clipmused_bids.dataset.files.tsv import Table, read_table
from clipmused_bids.dataset.runs.names import natural_key, run_index
from clipmused_bids.errors import DataError
from clipmused_bids.records import BetaRows, FloatArray, IntArray, Run, Trials

DEFAULT_TASK = "betas"
STIMULUS = "stimulus_id"
_NO_ONSET = "no onset for {} of {} trials: they are numbered in the manifest's order, and no distance in time is known"


@dataclass(frozen=True)
class Manifest:
    """What a manifest names; none of the files has been read.

    Parameters
    ----------
    path : Path
    root : Path
        Folder that holds all the files.
    runs : tuple of Run
        One for each participant, session, task and run, in natural order; each has ``betas`` in place of an image.
    trials : mapping of str to Trials
        By ``Run.key``.
    n_rows : int
        Rows of the table; each is a trial or left out for a reason that ``Trials.excluded`` counts.
    """

    path: Path
    root: Path
    runs: tuple[Run, ...]
    trials: Mapping[str, Trials]
    n_rows: int


def read_manifest(path: Path, *, task: str | None = None, decode: bool = False) -> Manifest:
    """Read a manifest.

    Columns are ``participant_id``, ``file`` and ``index``; ``stimulus_id`` or ``trial_type``; and optionally
    ``session``, ``task``, ``run``, ``space``, ``onset``, ``duration``, ``scale``, ``axes``. Every other column goes
    into ``Trials.columns``.

    Parameters
    ----------
    path : Path
        Files in it are told from its folder.
    task : str, optional
        Task of all rows where the table has no column ``task``; default: ``betas``.
    decode : bool
        Whether trials of runs that name neither stimuli nor conditions are trials to decode.

    Returns
    -------
    Manifest

    Raises
    ------
    MissingInputError
        If the manifest is not there or was not fetched.
    DataError
        If a column is lacking, a cell cannot be read, two rows name one volume, or rows of one run lie in different
        spaces; names the row.
    """
    table = read_table(path)
    rows = read_rows(table)
    _refuse_duplicates(path, rows)
    root = Path(os.path.commonpath([row.path.parent.absolute() for row in rows]))
    groups: dict[tuple[str | int | None, ...], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        number = run_index(row.run)
        groups[row.participant, row.session, row.task, row.run if number is None else number].append(row)
    found = [
        _run(table, group, root=root, task=task or DEFAULT_TASK, decode=decode) for group in groups.values()
    ]
    found.sort(key=lambda pair: natural_key(pair[0].key))
    return Manifest(
        path, root, tuple(run for run, _ in found), {run.key: trials for run, trials in found}, len(rows)
    )


def _refuse_duplicates(path: Path, rows: Sequence[ManifestRow]) -> None:
    first: dict[tuple[str, str | None, int], int] = {}
    for row in rows:
        # Only the text of the path: links are never followed.
        key = (os.path.normpath(row.path), row.dataset, row.index)
        if key in first:
            raise DataError(
                f"{path}: rows {first[key]} and {row.line} name the same response: {row.file}, index {row.index}.",
                hint="each volume belongs to one trial; index counts from 0 in each file",
            )
        first[key] = row.line


def _run(
    table: Table, rows: Sequence[ManifestRow], *, root: Path, task: str, decode: bool
) -> tuple[Run, Trials]:
    first = rows[0]
    for row in rows:
        if row.space != first.space:
            raise DataError(
                f"{table.path}: rows {first.line} and {row.line} are of one run, but in different spaces "
                f"({_shown(first.space)} and {_shown(row.space)}).",
                hint="one manifest for each space; or name the space in a column space",
            )
    entities = {
        "sub": first.participant,
        **({} if first.session is None else {"ses": first.session}),
        "task": first.task or task,
        **({} if first.run is None else {"run": first.run}),
        **first.space,
    }
    run = Run(
        participant=first.participant,
        session=first.session,
        task=entities["task"],
        run=run_index(first.run),
        entities=entities,
        events=table.path,
        image=None,
        image_kind="betas",
        space=first.space.get("space"),
    )
    used, trials = _trials(table, rows, decode=decode)
    betas = _grouped(used)
    return replace(run, betas=betas, sources=_sources(table.path, betas, root)), trials


def _trials(table: Table, rows: Sequence[ManifestRow], *, decode: bool) -> tuple[list[ManifestRow], Trials]:
    """Rows that are trials, in the order of the trials, and the trials."""
    conditions = {
        row.line: condition_of(table.columns, row.line - 1, stimulus_column=STIMULUS) for row in rows
    }
    named = any(row.stimulus for row in rows)
    what = {row.line: row.stimulus if named else conditions[row.line] for row in rows}
    # A run that names nothing is one to decode; in others, rows without a name were not meant.
    unnamed = decode and not any(what.values())
    used = [row for row in rows if what[row.line] or unnamed]
    excluded = Counter({"no stimulus": len(rows) - len(used)})
    used, onset, notes = _in_time(table, used)
    return used, Trials(
        onset=onset,
        duration=np.array([row.duration for row in used]),
        stimulus_id=tuple(what[row.line] for row in used),
        condition=tuple(conditions[row.line] for row in used),
        columns={
            name: tuple(cells[row.line - 1] for row in used)
            for name, cells in table.columns.items()
            if name not in ADDRESS
        },
        nuisance_onset=np.empty(0),
        nuisance_duration=np.empty(0),
        nuisance_kind=(),
        n_rows=len(rows),
        n_rows_in_trials=len(used),
        excluded=dict(+excluded),
        stimulus_column=STIMULUS if named else None,
        notes=notes,
    )


def _in_time(table: Table, rows: list[ManifestRow]) -> tuple[list[ManifestRow], FloatArray, tuple[str, ...]]:
    """Rows sorted by onset, their onsets, and a note where these are only numbers."""
    onset = np.array([row.onset for row in rows], dtype=float)
    unknown = int(np.isnan(onset).sum())
    if unknown:
        return rows, np.arange(len(rows), dtype=float), (_NO_ONSET.format(unknown, len(rows)),)
    back = np.flatnonzero(np.diff(onset) < 0)
    if len(back) and rows[0].run is None:
        before, after = rows[int(back[0])], rows[int(back[0]) + 1]
        raise DataError(
            f"{table.path}: onsets of one run go back from {before.onset:g} s (row {before.line}) to "
            f"{after.onset:g} s (row {after.line}).",
            hint="a column run tells the runs of a session apart; without it leave onset out",
        )
    order: IntArray = np.argsort(onset, kind="stable")
    return [rows[int(k)] for k in order], onset[order], ()


def _grouped(rows: Sequence[ManifestRow]) -> tuple[BetaRows, ...]:
    groups: dict[tuple[Path, str | None, str | None], list[tuple[int, ManifestRow]]] = defaultdict(list)
    for trial, row in enumerate(rows):
        groups[row.path, row.dataset, row.axes].append((trial, row))
    return tuple(
        BetaRows(
            path=path,
            dataset=dataset,
            axes=axes,
            index=tuple(row.index for _, row in members),
            trial=tuple(trial for trial, _ in members),
            scale=tuple(row.scale for _, row in members),
            line=tuple(row.line for _, row in members),
        )
        for (path, dataset, axes), members in groups.items()
    )


def _sources(manifest: Path, betas: Sequence[BetaRows], root: Path) -> dict[str, str]:
    files = dict.fromkeys(rows.path for rows in betas)
    places = [path.absolute().relative_to(root).as_posix() for path in files]
    names = ["betas"] if len(places) == 1 else [f"betas {k}" for k in range(1, len(places) + 1)]
    uris = {name: f"bids:betas:{place}" for name, place in zip(names, places, strict=True)}
    return {**uris, "events": f"bids:manifest:{manifest.name}"}


def _shown(space: Mapping[str, str]) -> str:
    return ":".join(space.values()) or "native"
