"""Which voxels a decoder reads: those that answer repeated training stimuli most reliably, or all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, ResponseTable, SetName, Split
from clipmused_bids.responses.reliability import (
    FEWEST_REPEATED,
    over_voxels,
    repeats,
    split_half_reliability,
)
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import sets_of_runs

logger = logging.getLogger(__name__)

# What is stored and what is read are one thing.
FITTED_ON: tuple[SetName, ...] = ("train",)


@dataclass(frozen=True)
class VoxelChoice:
    """Voxels that are kept of each participant.

    Parameters
    ----------
    kept : tuple of ndarray of int
        Positions among the participant's voxels, ascending; the same for all in a common space.
    config : mapping
        How they were chosen, as stored with the decoder.
    """

    kept: tuple[IntArray, ...]
    config: Mapping[str, Any]


def require_repeats(plan: Plan, split: Split) -> None:
    """Refuse a choice by reliability that cannot be made, before any response is estimated.

    Raises
    ------
    DataError
        If voxels are to be chosen and a participant saw too few training stimuli more than once; names them.
    """
    if plan.hyperparameters.responses.reliable_voxels == 0:
        return
    sets = sets_of_runs(split, plan.runs, plan.trials)
    for participant in plan.participants:
        runs = plan.runs_of(participant)
        names = [name for run in runs for name in plan.trials[run.key].stimulus_id]
        rows = fitted_rows(names, [name for run in runs for name in sets[run.key]])
        _require_repeated([names[k] for k in rows], participant=participant)


def fitted_rows(stimulus_id: Sequence[str], set_name: Sequence[SetName]) -> IntArray:
    """Trials that say how reliable a voxel is: those of the training set whose stimulus is known."""
    known = np.array([name != "" for name in stimulus_id], dtype=bool)
    return np.flatnonzero(known & np.isin(np.asarray(set_name, dtype=str), FITTED_ON))


def choose_voxels(
    tables: Sequence[ResponseTable],
    stimulus_id: Sequence[Sequence[str]],
    set_name: Sequence[Sequence[SetName]],
    *,
    participants: Sequence[str],
    n_voxels: int,
    common_space: bool,
    seed: int,
) -> VoxelChoice:
    """Choose the voxels with the highest split-half reliability.

    Parameters
    ----------
    tables : sequence of ResponseTable
        Standardised responses of each participant.
    stimulus_id, set_name : sequence of sequences of str
        Of each row of each table.
    participants : sequence of str
    n_voxels : int
        Voxels to keep; where there are no more, all are kept.
    common_space : bool
        One choice for all, by the mean reliability over participants; else each participant has his own.
    seed : int
        Of the halves.

    Raises
    ------
    DataError
        If a participant saw fewer than three training stimuli more than once.
    """
    found = [
        _reliability(table, names, sets, participant=participant, seed=seed)
        for table, names, sets, participant in zip(tables, stimulus_id, set_name, participants, strict=True)
    ]
    if common_space:
        found = [np.mean(found, axis=0)] * len(found)
    # In order of the voxels; of equally reliable ones the first.
    kept = tuple(np.sort(np.argsort(-one, kind="stable")[:n_voxels]) for one in found)
    thresholds = {
        participant: float(one[chosen].min())
        for participant, one, chosen in zip(participants, found, kept, strict=True)
    }
    for participant, one, chosen in zip(participants, found, kept, strict=True):
        logger.info(
            "sub-%s: %d of %d voxels kept, with a split-half reliability of at least %.3f.",
            participant, len(chosen), len(one), thresholds[participant],
        )  # fmt: skip
    return VoxelChoice(
        kept,
        {
            "criterion": "split-half reliability" + (", mean over participants" if common_space else ""),
            "fitted_on": list(FITTED_ON),
            "n_voxels": {p: len(chosen) for p, chosen in zip(participants, kept, strict=True)},
            "n_before": {p: len(one) for p, one in zip(participants, found, strict=True)},
            "threshold": thresholds,
        },
    )


def _reliability(
    table: ResponseTable,
    stimulus_id: Sequence[str],
    set_name: Sequence[SetName],
    *,
    participant: str,
    seed: int,
) -> FloatArray:
    rows = fitted_rows(stimulus_id, set_name)
    names = [stimulus_id[k] for k in rows]
    _require_repeated(names, participant=participant)
    return over_voxels(
        # The same halves for every group of voxels.
        lambda values: split_half_reliability(values, names, generator=np.random.default_rng(seed)),
        table,
        rows,
    )


def _require_repeated(names: Sequence[str], *, participant: str) -> None:
    n_repeated = len(repeats(names))
    if n_repeated < FEWEST_REPEATED:
        raise DataError(
            f"sub-{participant}: {n_repeated} training stimuli were shown more than once; choosing voxels by their "
            f"reliability needs at least {FEWEST_REPEATED}.",
            hint="responses.reliable_voxels = 0 keeps all voxels",
        )
