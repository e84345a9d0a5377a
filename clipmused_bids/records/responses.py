"""Responses, where their voxels lie, and all of it as what a method sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records.arrays import BoolArray, FloatArray, IntArray, announce_rows
from clipmused_bids.records.runs import Grid
from clipmused_bids.records.stimuli import Targets

T = TypeVar("T")

VALUES_IN_CACHE = 2**16  # read and standardised at a time: 256 kB


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
    tsnr : ndarray of shape (n_voxels,), float32, or None
        Temporal signal-to-noise ratio of the series; 0 where not valid. None where there was no series.
    """

    values: FloatArray
    valid: BoolArray
    kept: IntArray
    kind: Literal["lss", "lsa", "window", "betas"]
    unit: str
    dropped: Mapping[str, int]
    tsnr: NDArray[np.float32] | None = None


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
    weight : ndarray of shape (n_voxels,), optional
        What each standardised voxel is multiplied by; 1 for all where there is none.
    seen : ndarray of bool, shape (n_rows,), optional
        Changed in place: rows are marked when they are read, so that what a fit looked at is known and not declared.
    """

    blocks: tuple[FloatArray, ...]
    columns: tuple[IntArray, ...]
    mean: tuple[FloatArray, ...]
    sd: tuple[FloatArray, ...]
    weight: NDArray[np.float32] | None = None
    seen: BoolArray | None = None

    @property
    def n_rows(self) -> int:
        """Trials over all blocks."""
        return sum(len(block) for block in self.blocks)

    @property
    def n_voxels(self) -> int:
        """Voxels of the participant."""
        return len(self.columns[0]) if self.columns else 0

    def read(self, rows: IntArray, *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Read rows (counted over the blocks in order) as float32 of shape (n_rows, n_voxels).

        Parameters
        ----------
        rows : ndarray of int, shape (n_rows,)
        out : ndarray of that shape, float32, optional
            Where they are read to; a new array otherwise.
        """
        rows = np.asarray(rows)
        if self.seen is not None:
            self.seen[rows] = True
        if out is None:
            out = np.empty((len(rows), self.n_voxels), dtype=np.float32)
        most = max(1, VALUES_IN_CACHE // max(1, self.n_voxels))
        stretches = list(self._stretches(rows))
        for b, start, place in stretches:
            announce_rows(
                self.blocks[b], start, start + place.stop - place.start, columns=self._columns_of[b][0]
            )
        for b, start, place in stretches:
            for first in range(place.start, place.stop, most):
                last = min(first + most, place.stop)
                self._read_stretch(b, start + first - place.start, out[first:last])
        return out

    def _stretches(self, rows: IntArray) -> Iterator[tuple[int, int, slice]]:
        """Cut rows where they do not follow each other in one block: block, first row there, place among the rows."""
        if len(rows) == 0:
            return
        block = np.searchsorted(self._ends, rows, side="right")
        cuts = np.flatnonzero((np.diff(rows) != 1) | (np.diff(block) != 0)) + 1
        starts = np.concatenate([[0], cuts])
        stops = np.append(cuts, len(rows))
        of_start = block[starts]
        own_rows = rows[starts] - np.concatenate([[0], self._ends])[of_start]
        for b, row, start, stop in zip(
            of_start.tolist(), own_rows.tolist(), starts.tolist(), stops.tolist(), strict=True
        ):
            yield b, row, slice(start, stop)

    def _read_stretch(self, b: int, start: int, out: NDArray[np.float32]) -> None:
        """Read rows of one block that follow each other, from ``start`` on, while they are in the cache."""
        span, columns = self._columns_of[b]
        values = self._plain[b][start : start + len(out), span]
        # From the map to the result in one pass; half precision becomes single on the way.
        np.subtract(values if columns is None else values.take(columns, axis=1), self.mean[b], out=out)
        np.divide(out, self.sd[b], out=out)
        if self.weight is not None:
            np.multiply(out, self.weight, out=out)

    @cached_property
    def _ends(self) -> IntArray:
        return np.cumsum([len(block) for block in self.blocks])

    @cached_property
    def _plain(self) -> tuple[FloatArray, ...]:
        """Blocks without what the class of memory maps costs at each look."""
        return tuple(np.asarray(block).view(np.ndarray) for block in self.blocks)

    @cached_property
    def _columns_of(self) -> list[tuple[slice, IntArray | None]]:
        """Of each block the span of columns that is read, and which of the span are kept, None for all in order."""
        return _each_once(_span, self.columns)

    def of_voxels(self, chosen: IntArray) -> ResponseTable:
        """Return the same rows with the voxels at the positions ``chosen`` only."""

        def take(values: NDArray[Any]) -> NDArray[Any]:
            return values[chosen]

        return ResponseTable(
            blocks=self.blocks,
            columns=tuple(_each_once(take, self.columns)),
            mean=tuple(_each_once(take, self.mean)),
            sd=tuple(_each_once(take, self.sd)),
            weight=None if self.weight is None else self.weight[chosen],
            seen=self.seen,
        )

    def scaled(self, weight: FloatArray) -> ResponseTable:
        """Return the same rows, each voxel times its weight (n_voxels,); with weight 0 it reads as 0."""
        single = np.asarray(weight, dtype=np.float32)
        return replace(self, weight=single if self.weight is None else self.weight * single)


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


def _each_once(function: Callable[[NDArray[Any]], T], arrays: Sequence[NDArray[Any]]) -> list[T]:
    """Apply a function to arrays, once to each that is there several times: what it gives is shared as well."""
    distinct = {id(one): one for one in arrays}
    found = {key: function(one) for key, one in distinct.items()}
    return [found[id(one)] for one in arrays]


def _span(columns: IntArray) -> tuple[slice, IntArray | None]:
    if len(columns) == 0:
        return slice(0, 0), None
    first, last = int(columns.min()), int(columns.max()) + 1
    in_order = last - first == len(columns) and bool((np.diff(columns) == 1).all())
    return slice(first, last), None if in_order else columns - first
