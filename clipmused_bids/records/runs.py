"""What was found of a dataset: grids, runs and their trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clipmused_bids.records.arrays import FloatArray, IntArray

# Entities that tell runs apart, in BIDS order; the same in raw and derived data.
RUN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run")


@dataclass(frozen=True)
class Grid:
    """A voxel grid: ``shape`` of three axes and the 4 x 4 ``affine`` from voxel to mm (RAS+)."""

    shape: tuple[int, int, int]
    affine: FloatArray

    def agrees_with(self, other: Grid, *, tolerance: float = 1e-3) -> bool:
        """Whether no voxel centre of the two grids is farther apart than ``tolerance`` mm."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
        corners[:, :3] *= np.array(self.shape) - 1
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance)

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in cubic mm."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


@dataclass(frozen=True)
class BetaRows:
    """Existing responses to some trials of a run: rows of one file. Nothing of it has been read.

    Parameters
    ----------
    path : Path
        NIfTI, HDF5 or ``.npy`` file.
    dataset : str or None
        Dataset in an HDF5 file; None for other files.
    axes : str or None
        Order of the axes of an array (``nzyx``, ...); None where its shape must tell.
    index : tuple of int
        Row in the file (volume of a NIfTI image) of each trial, from 0.
    trial : tuple of int
        Position of each of these trials among the run's.
    scale : tuple of float
        What each row was multiplied with when it was stored.
    line : tuple of int
        Row of the manifest that names each of them, from 1; for messages.
    """

    path: Path
    dataset: str | None
    axes: str | None
    index: tuple[int, ...]
    trial: tuple[int, ...]
    scale: tuple[float, ...]
    line: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """One functional run as found on disk; nothing of its content has been read.

    Parameters
    ----------
    participant, session, task : str
        Labels without prefix; ``session`` is None in datasets without sessions.
    run : int or None
        Run index as an integer: raw ``run-01`` and derivative ``run-1`` are the same run.
    entities : mapping
        Entities of the image file as written there (``{"sub": "01", "task": "x"}``), in BIDS order
        and without ``desc``; output names are made of them.
    events, image, mask, confounds : Path or None
        Raw events; preprocessed BOLD or an existing series of responses (4-D); its brain mask; its confounds.
    image_kind : {"bold", "betas"}
        What ``image`` (or ``betas``) holds.
    space : str or None
        ``space-`` entity of the image; None where the file has none (native).
    metadata : mapping
        Sidecar fields after inheritance (``RepetitionTime`` and ``StartTime`` in s, ...), image over raw.
    sources : mapping
        BIDS URI of each file above, by the field's name (``bids:fmriprep:sub-01/...``, ``bids:raw:...``).
    trial_table : Path or None
        Table beside an image of responses that says which event each of its volumes belongs to.
    betas : tuple of BetaRows
        Existing responses that a manifest names; they stand in the place of ``image``.
    """

    participant: str
    session: str | None
    task: str
    run: int | None
    entities: Mapping[str, str]
    events: Path | None
    image: Path | None
    image_kind: Literal["bold", "betas"]
    mask: Path | None = None
    confounds: Path | None = None
    space: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    trial_table: Path | None = None
    betas: tuple[BetaRows, ...] = ()

    @property
    def key(self) -> str:
        """Name of the run that is the same in raw and derived data: ``sub-01_ses-02_task-x_run-3``.

        ``acq-``, ``ce-``, ``rec-`` and ``dir-`` of ``entities`` are part of it, since they tell runs apart as well.
        """
        labels: dict[str, str | int | None] = {
            **{name: self.entities.get(name) for name in RUN_ENTITIES},
            "sub": self.participant,
            "ses": self.session,
            "task": self.task,
            "run": self.run,
        }
        return "_".join(f"{name}-{labels[name]}" for name in RUN_ENTITIES if labels[name] is not None)

    @property
    def label(self) -> str:
        """Name of the run in messages: ``sub-01 ses-02 task-x run-3``."""
        return self.key.replace("_", " ")


@dataclass(frozen=True)
class Trials:
    """Events of one run, sorted by onset and classed.

    Parameters
    ----------
    onset, duration : ndarray of shape (n_trials,)
        Seconds from the start of the run.
    stimulus_id : tuple of str
        Stimulus of each trial; the condition's name where the dataset names no stimuli; "" where neither is
        known (rows to decode).
    condition : tuple of str
        ``trial_type`` (or what stood for it) of each trial; "" where there is none.
    columns : mapping of str to tuple of str
        Every other column of the events file, at the trials' rows, as text (``n/a`` kept).
    nuisance_onset, nuisance_duration : ndarray of shape (n_nuisance,)
        Modelled events that are not trials (catch, cue, response, ...), in s.
    nuisance_kind : tuple of str
        Name of each of them; events of one name share one regressor.
    n_rows : int
        Rows of the file. ``n_rows = rows joined into trials + nuisance + sum(excluded)``.
    n_rows_in_trials : int
        Rows that became trials (more than ``n_trials`` where blocks were merged).
    excluded : mapping of str to int
        Rows left out, by reason; baseline rows are one reason.
    stimulus_column : str or None
        Events column the stimuli were read from.
    notes : tuple of str
        What was unusual about the file and how it was read.
    movie : tuple of str or None
        Where trials are samples of movies: the movie of each; None otherwise.
    movie_seconds : ndarray of shape (n_trials,) or None
        Time of each sample in its movie, in s.
    """

    onset: FloatArray
    duration: FloatArray
    stimulus_id: tuple[str, ...]
    condition: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    nuisance_onset: FloatArray
    nuisance_duration: FloatArray
    nuisance_kind: tuple[str, ...]
    n_rows: int
    n_rows_in_trials: int
    excluded: Mapping[str, int]
    stimulus_column: str | None = None
    notes: tuple[str, ...] = ()
    movie: tuple[str, ...] | None = None
    movie_seconds: FloatArray | None = None

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.onset)

    @property
    def continuous(self) -> bool:
        """Whether the trials are samples of movies."""
        return self.movie is not None

    def take(self, index: IntArray) -> Trials:
        """Return the same run with the trials at ``index`` only; nothing else changes."""
        chosen = [int(i) for i in index]
        return replace(
            self,
            onset=self.onset[index],
            duration=self.duration[index],
            stimulus_id=tuple(self.stimulus_id[i] for i in chosen),
            condition=tuple(self.condition[i] for i in chosen),
            columns={name: tuple(values[i] for i in chosen) for name, values in self.columns.items()},
            movie=None if self.movie is None else tuple(self.movie[i] for i in chosen),
            movie_seconds=None if self.movie_seconds is None else self.movie_seconds[index],
        )
