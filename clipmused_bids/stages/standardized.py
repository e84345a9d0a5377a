"""Stored responses of one participant as rows that are standardised when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.scratch import rows_on_disk
from clipmused_bids.dataset.outputs.response_files import StoredResponses
from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, IntArray, ResponseTable, Run
from clipmused_bids.responses.standardize import Scaling, UnitStatistics, block_scaling, unit_statistics
from clipmused_bids.stages.assemble import ParticipantResponses

VALUES_AT_ONCE = 2**25  # 128 MiB: voxels of a unit are described in groups of so many values


@dataclass(frozen=True)
class Standardization:
    """Offsets and scales of one participant's responses, by unit.

    Parameters
    ----------
    unit : {"run", "session", "participant", "none"}
    scaling : {"zscore", "minmax"}
    statistics : mapping of str to UnitStatistics
        By the unit's name.
    """

    unit: str
    scaling: Scaling
    statistics: Mapping[str, UnitStatistics]

    def of_voxels(self, chosen: IntArray) -> Standardization:
        """Return the same units with the voxels at the positions ``chosen`` only."""
        kept = {
            name: replace(one, offset=one.offset[chosen], scale=one.scale[chosen])
            for name, one in self.statistics.items()
        }
        return replace(self, statistics=kept)


def fit_standardization(
    person: ParticipantResponses,
    voxels: IntArray,
    *,
    unit: str,
    scaling: Scaling,
    train: BoolArray,
    known: Standardization | None = None,
) -> Standardization:
    """Offsets and scales of each unit, from training trials where there are enough.

    Parameters
    ----------
    person : ParticipantResponses
    voxels : ndarray of int, shape (n_voxels,)
    unit : {"run", "session", "participant", "none"}
    scaling : {"zscore", "minmax"}
    train : ndarray of bool, shape (n_rows,)
        Training trials over all runs in order.
    known : Standardization, optional
        Units described there are taken from there; the others are described by themselves.
    """
    if unit == "none":
        return Standardization(unit, scaling, {})
    found: dict[str, UnitStatistics] = {}
    names = [unit_name(run, unit) for run in person.runs]
    ends = np.cumsum([len(file.values) for file in person.stored])
    for name in dict.fromkeys(names):
        if known is not None and name in known.statistics:
            found[name] = known.statistics[name]
            continue
        members = [b for b, other in enumerate(names) if other == name]
        found[name] = _describe_unit(
            [person.stored[b] for b in members],
            voxels,
            train=[train[ends[b] - len(person.stored[b].values) : ends[b]] for b in members],
            scaling=scaling,
        )
    return Standardization(unit, scaling, found)


def _describe_unit(
    files: Sequence[StoredResponses], voxels: IntArray, *, train: Sequence[BoolArray], scaling: Scaling
) -> UnitStatistics:
    """Describe a group of voxels at a time: a unit of a whole participant may not fit into memory."""
    places = [_columns(file, voxels) for file in files]
    width = max(1, VALUES_AT_ONCE // max(1, sum(len(file.values) for file in files)))
    parts = []
    for start in range(0, len(voxels), width):
        chosen = [place[start : start + width] for place in places]
        parts.append(
            unit_statistics(
                [file.decoded(place) for file, place in zip(files, chosen, strict=True)],
                ["unit"] * len(files),
                train=train,
                valid=[file.valid[place] for file, place in zip(files, chosen, strict=True)],
                scaling=scaling,
            )["unit"]
        )
    return replace(
        parts[0],
        offset=np.concatenate([part.offset for part in parts]),
        scale=np.concatenate([part.scale for part in parts]),
    )


def response_table(
    person: ParticipantResponses, voxels: IntArray, standardization: Standardization
) -> ResponseTable:
    """Rows of one participant, standardised when they are read."""
    columns, means, sds = [], [], []
    known = _Distinct()
    for run, file in zip(person.runs, person.stored, strict=True):
        place = known.of(_columns(file, voxels))
        mean = np.zeros(len(voxels), dtype=np.float32)
        sd = np.ones(len(voxels), dtype=np.float32)
        if standardization.unit != "none":
            statistics = standardization.statistics[unit_name(run, standardization.unit)]
            mean, sd = block_scaling(statistics, file.valid[place])
        if file.scale is not None:
            # (v * scale - mean) / sd, without another pass over the values.
            mean, sd = mean / file.scale[place], sd / file.scale[place]
        columns.append(place)
        means.append(known.of(mean))
        sds.append(known.of(sd))
    return ResponseTable(
        blocks=tuple(file.values for file in person.stored),
        columns=tuple(columns),
        mean=tuple(means),
        sd=tuple(sds),
    )


class _Distinct:
    """Arrays of one participant that are equal are held once: runs of a session share what standardises them."""

    def __init__(self) -> None:
        self._held: dict[bytes, NDArray[Any]] = {}

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        key = hashlib.sha256(str(values.dtype).encode() + np.ascontiguousarray(values).tobytes()).digest()
        return self._held.setdefault(key, values)


def staged(table: ResponseTable, path: Path) -> ResponseTable:
    """Gather a participant's rows, standardised, into one memory map on a fast disk.

    Parameters
    ----------
    table : ResponseTable
    path : Path
        File to be made; removing it is the caller's business.

    Raises
    ------
    OutputWriteError
        If its disk is full, or it cannot be written.
    """
    starts = range(0, table.n_rows, 512)
    blocks = (table.read(np.arange(start, min(start + 512, table.n_rows))) for start in starts)
    rows = rows_on_disk(blocks, shape=(table.n_rows, table.n_voxels), path=path)
    voxels = np.arange(table.n_voxels)
    zero, one = np.zeros(table.n_voxels, dtype=np.float32), np.ones(table.n_voxels, dtype=np.float32)
    return ResponseTable(blocks=(rows,), columns=(voxels,), mean=(zero,), sd=(one,))


def _columns(file: StoredResponses, voxels: IntArray) -> IntArray:
    """Where the voxels are among a file's columns, which are sorted."""
    place = np.searchsorted(file.voxels, voxels)
    found = place < len(file.voxels)
    found[found] = file.voxels[place[found]] == voxels[found]
    if not found.all():
        raise DataError(
            f"{file.path.name}: {int((~found).sum())} of the decoder's {len(voxels)} voxels are outside the mask of "
            "these responses; the mask differs.",
            hint="prepare with the mask the decoder was trained with (--mask)",
        )
    return place


def unit_name(run: Run, unit: str) -> str:
    """Unit of standardisation that a run belongs to."""
    if unit == "run":
        return run.key
    if unit == "session" and run.session is not None:
        return f"sub-{run.participant}_ses-{run.session}"
    return f"sub-{run.participant}"
