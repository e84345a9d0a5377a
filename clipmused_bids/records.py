"""Frozen values that travel between rooms. They know no command line and write nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


class Series(Protocol):
    """Signal of one run, (n_scans, n_voxels): an array, or a file from which a few voxels are read at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of scans and of voxels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[Any]: ...


SetName = Literal["train", "val", "test", "new", "none"]

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


@dataclass(frozen=True)
class Picture:
    """Where the picture of one stimulus lies; nothing of it has been read.

    Parameters
    ----------
    path : Path
        Image file, bank of images (HDF5), or movie.
    dataset, row : str and int, or None
        Dataset of the bank and row in it, from 0; None for a file of its own.
    seconds : float or None
        Time of the frame in the movie, in s; None where the file is no movie.
    """

    path: Path
    dataset: str | None = None
    row: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Stimuli:
    """All stimuli of a dataset, one entry each, sorted by id.

    Parameters
    ----------
    stimulus_id : tuple of str
    picture : tuple of (Picture or None)
        None where none was found or the stimulus is a category name.
    captions : tuple of tuple of str
        Sentences of each stimulus; empty where there are none.
    label_names : tuple of str
        Names of the semantic labels, C of them.
    labels : ndarray of shape (n_stimuli, C)
        1, 0, or NaN where unknown.
    single_label : bool
        Whether every labelled stimulus has exactly one label by construction (``trial_type``).
    """

    stimulus_id: tuple[str, ...]
    picture: tuple[Picture | None, ...]
    captions: tuple[tuple[str, ...], ...]
    label_names: tuple[str, ...]
    labels: FloatArray
    single_label: bool = False


@dataclass(frozen=True)
class Targets:
    """CLIP features of stimuli, row k belongs to ``stimulus_id[k]``; unit length, or zero where unknown.

    Parameters
    ----------
    stimulus_id : tuple of str
    low : ndarray of shape (n_stimuli, n_low) or None
        First transformer block of the image tower; None where the dataset has no images.
    high : ndarray of shape (n_stimuli, n_high) or None
        Joint embedding of image and text at the last layer.
    high_source : {"image+text", "image", "text", "file", "none"}
        What the high level was made of; ``file``: elsewhere.
    clip_model, weights_hash : str
        open_clip name of the model and SHA-256 of its weights; or name and SHA-256 of the file the features are from.
    low_source : {"images", "file"}
        What the low level was made of.
    """

    stimulus_id: tuple[str, ...]
    low: FloatArray | None
    high: FloatArray | None
    high_source: Literal["image+text", "image", "text", "file", "none"]
    clip_model: str
    weights_hash: str
    low_source: Literal["images", "file"] = "images"


@dataclass(frozen=True)
class RunResponses:
    """One response per trial of one run, before standardisation.

    Parameters
    ----------
    values : ndarray of shape (n_trials, n_voxels), float32
        Unit named by ``unit``. Voxels of the participant's mask in C order of the grid.
    valid : ndarray of bool, shape (n_voxels,)
        False where a voxel has no usable signal in this run (constant, NaN); its values are 0.
    kept : ndarray of int, shape (n_trials,)
        Position of each response in the run's ``Trials``.
    kind : {"lss", "lsa", "window", "betas"}
    unit : str
        ``percent signal change`` or the unit of the betas.
    dropped : mapping of str to int
        Trials left out, by reason (beyond the run, censored).
    """

    values: FloatArray
    valid: BoolArray
    kept: IntArray
    kind: Literal["lss", "lsa", "window", "betas"]
    unit: str
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class VoxelSpace:
    """Where the columns of a participant's responses lie.

    Parameters
    ----------
    grid : Grid
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each voxel in the grid.
    region : ndarray of int, shape (n_voxels,)
        Index into ``region_names``; -1 for a voxel outside all regions.
    region_names : tuple of str
    """

    grid: Grid
    voxels: IntArray
    region: IntArray
    region_names: tuple[str, ...]


@dataclass(frozen=True)
class ResponseTable:
    """Rows of one participant over all runs, standardised when read; the blocks may be memory maps.

    Parameters
    ----------
    blocks : tuple of ndarray, block b of shape (n_trials_b, n_file_voxels_b)
        Responses of one run each, as stored.
    columns : tuple of ndarray of int, each of shape (n_voxels,)
        Which columns of a block are the participant's voxels, in the order of ``VoxelSpace.voxels``.
    mean, sd : tuple of ndarray, each of shape (n_voxels,)
        Standardisation of each block, in the unit of the responses; (0, 1) where none is wanted. Minimum and range
        where responses are scaled from 0 to 1.
    """

    blocks: tuple[FloatArray, ...]
    columns: tuple[IntArray, ...]
    mean: tuple[FloatArray, ...]
    sd: tuple[FloatArray, ...]

    @property
    def n_rows(self) -> int:
        """Trials over all blocks."""
        return sum(len(block) for block in self.blocks)

    @property
    def n_voxels(self) -> int:
        """Voxels of the participant."""
        return len(self.columns[0]) if self.columns else 0

    def read(self, rows: IntArray) -> NDArray[np.float32]:
        """Read rows (counted over the blocks in order) as float32 of shape (n_rows, n_voxels)."""
        out = np.empty((len(rows), self.n_voxels), dtype=np.float32)
        ends = np.cumsum([len(block) for block in self.blocks])
        block_of_row = np.searchsorted(ends, rows, side="right")
        for b in np.unique(block_of_row):
            here = np.flatnonzero(block_of_row == b)
            start = ends[b] - len(self.blocks[b])
            # Of a memory map, only what lies between the first and the last of the columns is read.
            first, last = self.columns[b].min(), self.columns[b].max() + 1
            values = np.asarray(self.blocks[b][np.asarray(rows)[here] - start, first:last], dtype=np.float32)
            out[here] = (values[:, self.columns[b] - first] - self.mean[b]) / self.sd[b]
        return out

    def of_voxels(self, chosen: IntArray) -> ResponseTable:
        """Return the same rows with the voxels at the positions ``chosen`` only."""
        return ResponseTable(
            blocks=self.blocks,
            columns=tuple(columns[chosen] for columns in self.columns),
            mean=tuple(mean[chosen] for mean in self.mean),
            sd=tuple(sd[chosen] for sd in self.sd),
        )


@dataclass(frozen=True)
class TrialData:
    """What a method sees: trials of one or several participants. Subsets share the response tables.

    Parameters
    ----------
    participants : tuple of str
        Labels; ``participant`` indexes them.
    responses : tuple of ResponseTable
        One table for each participant.
    spaces : tuple of VoxelSpace
        One space for each participant.
    common_space : bool
        Whether voxel k is the same place in all participants; then all spaces are equal.
    participant, row : ndarray of int, shape (n,)
        Participant of each trial and its row in that participant's table.
    labels : ndarray of shape (n, C), float32
        1, 0, NaN where unknown. Methods must not read labels when predicting.
    label_names : tuple of str
    single_label : bool
    stimulus : ndarray of int, shape (n,)
        Row of ``targets`` of each trial; -1 where unknown.
    stimulus_id : tuple of str
        Stimulus of each trial ("" where unknown).
    targets : Targets or None
    group : ndarray of int, shape (n,)
        Trials of one group (run or stimulus) stay together when hyper-parameters are chosen.
    """

    participants: tuple[str, ...]
    responses: tuple[ResponseTable, ...]
    spaces: tuple[VoxelSpace, ...]
    common_space: bool
    participant: IntArray
    row: IntArray
    labels: NDArray[np.float32]
    label_names: tuple[str, ...]
    single_label: bool
    stimulus: IntArray
    stimulus_id: tuple[str, ...]
    targets: Targets | None
    group: IntArray

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.row)

    def subset(self, index: IntArray) -> TrialData:
        """Return the trials at ``index``, with the same participants and tables."""
        return replace(
            self,
            participant=self.participant[index],
            row=self.row[index],
            labels=self.labels[index],
            stimulus=self.stimulus[index],
            stimulus_id=tuple(self.stimulus_id[int(i)] for i in index),
            group=self.group[index],
        )

    def of_participant(self, participant: str) -> TrialData:
        """Return one participant's trials as data of a single participant."""
        p = self.participants.index(participant)
        chosen = self.subset(np.flatnonzero(self.participant == p))
        return replace(
            chosen,
            participants=(participant,),
            responses=(self.responses[p],),
            spaces=(self.spaces[p],),
            participant=np.zeros(chosen.n_trials, dtype=int),
        )

    def read(self) -> list[NDArray[np.float32]]:
        """Read all responses, one array of shape (n_p, n_voxels_p) for each participant, trials in order."""
        return [table.read(self.row[self.participant == p]) for p, table in enumerate(self.responses)]


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
    """

    run_key: tuple[str, ...]
    stimulus_id: tuple[str, ...]
    set_name: tuple[SetName, ...]
    reason: tuple[str, ...]
    rule: str
    regime: str


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
