"""How much of a voxel's single response the stimulus can explain: from repeats of training stimuli, as maps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.dataset.files.documents import write_json, write_tsv
from clipmused_bids.dataset.images.maps import write_map
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.long_work import each_of
from clipmused_bids.records import FloatArray, IntArray, Run, Split
from clipmused_bids.responses.reliability import (
    FEWEST_REPEATED,
    noise_ceiling,
    noise_ceiling_snr,
    over_voxels,
    repeats,
    split_half_reliability,
)
from clipmused_bids.stages.assemble import (
    ParticipantResponses,
    open_responses,
    usable_voxels,
)
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import split_hash
from clipmused_bids.stages.standardized import (
    Standardization,
    response_table,
)
from clipmused_bids.stages.training_set import participant_standardization, row_sets
from clipmused_bids.stages.voxel_choice import FITTED_ON, fitted_rows

logger = logging.getLogger(__name__)

SUMMARY: dict[str, Any] = {
    "participant_id": {"Description": "Participant"},
    "n_voxels": {"Description": "Voxels with a signal in every run"},
    "n_stimuli": {"Description": "Training stimuli that were shown at least twice"},
    "n_trials": {"Description": "Their presentations"},
    "median_ceiling": {
        "Description": "Median over voxels of the noise ceiling",
        "Units": "percent of variance",
    },
    "top_ceiling": {
        "Description": "90th percentile over voxels of the ceiling",
        "Units": "percent of variance",
    },
    "share_above_10": {"Description": "Share of voxels with a ceiling above 10 percent of variance"},
    "share_above_30": {"Description": "Share of voxels with a ceiling above 30 percent of variance"},
    "median_reliability": {"Description": "Median over voxels of the split-half reliability"},
}


@dataclass(frozen=True)
class VoxelCeilings:
    """Ceilings of one participant's voxels.

    Parameters
    ----------
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each voxel.
    ceiling : ndarray of shape (n_voxels,)
        Share of the variance of a single response that the stimulus explains, 0 to 1.
    reliability : ndarray of shape (n_voxels,)
        Split-half reliability of the mean over all repeats.
    presentations : tuple of int
        Presentations of each stimulus that entered.
    """

    voxels: IntArray
    ceiling: FloatArray
    reliability: FloatArray
    presentations: tuple[int, ...]


def measure_ceilings(plan: Plan, tree: OutputTree, split: Split, *, failures: Failures) -> dict[str, float]:
    """Write ceiling and reliability maps of all participants who saw training stimuli more than once.

    Returns
    -------
    dict of str to float
        Median over voxels of the ceiling as a share of variance, by participant; without those it cannot be told of.
    """
    medians: dict[str, float] = {}
    without: list[str] = []
    with each_of(plan.participants, "Noise ceilings", "participant") as people:
        for participant in people:
            with failures.of_participant(participant):
                person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
                voxels = usable_voxels([person], common_space=False)[0]
                scaling = participant_standardization(plan, person, voxels, split)
                found = voxel_ceilings(plan, person, voxels, split, scaling=scaling)
                if found is None:
                    without.append(f"sub-{participant}")
                    continue
                _write(plan, tree, person, found, split=split, scaling=scaling)
                medians[participant] = float(np.median(found.ceiling))
    if without:
        logger.info(
            "No noise ceiling of %s: fewer than %d training stimuli were shown more than once.",
            ", ".join(without), FEWEST_REPEATED,
        )  # fmt: skip
    return medians


def voxel_ceilings(
    plan: Plan, person: ParticipantResponses, voxels: IntArray, split: Split, *, scaling: Standardization
) -> VoxelCeilings | None:
    """Ceilings from repeated training stimuli; None where fewer than three were repeated.

    Values of a group of voxels are in memory at a time.
    """
    rows = fitted_rows(person.stimulus_id, row_sets(person, plan, split))
    names = [person.stimulus_id[k] for k in rows]
    groups = repeats(names)
    if len(groups) < FEWEST_REPEATED:
        return None
    repeated = np.sort(np.concatenate(groups))
    names = [names[k] for k in repeated]

    def measure(values: FloatArray) -> FloatArray:
        # The same halves for every group of voxels.
        generator = np.random.default_rng(plan.config.random_seed)
        ceiling = noise_ceiling(noise_ceiling_snr(values, names))
        return np.stack([ceiling, split_half_reliability(values, names, generator=generator)])

    ceiling, reliability = over_voxels(measure, response_table(person, voxels, scaling), rows[repeated])
    return VoxelCeilings(voxels, ceiling, reliability, tuple(len(group) for group in groups))


def _write(
    plan: Plan,
    tree: OutputTree,
    person: ParticipantResponses,
    found: VoxelCeilings,
    *,
    split: Split,
    scaling: Standardization,
) -> None:
    run = person.runs[0]
    shared = _sidecar(
        tree, person, found, split=split, scaling=scaling, kind=plan.kind, seed=plan.config.random_seed
    )
    maps: list[tuple[str, FloatArray, dict[str, str]]] = [
        (
            "noiseceiling",
            100 * found.ceiling,
            {
                "Description": "Noise ceiling of a single response: the share of its variance that the stimulus "
                "explains, ncsnr^2 / (ncsnr^2 + 1), ncsnr the standard deviation of the signal over that of the noise.",
                "Units": "percent of variance",
                "References": "https://doi.org/10.1038/s41593-021-00962-x",
            },
        ),
        (
            "reliability",
            found.reliability,
            {
                "Description": "Split-half reliability of the mean response over all repeats of a stimulus "
                "(Spearman-Brown), averaged over random halves.",
                "Units": "correlation",
            },
        ),
    ]
    for desc, values, about in maps:
        path = tree.voxel_map(run, desc=desc)
        write_map(
            path, values, voxels=found.voxels, grid=person.grid, space=run.space, sidecar={**about, **shared}
        )
    _summarise(tree, run, found, sources=[tree.uri(tree.voxel_map(run, desc=desc)) for desc, _, _ in maps])


def _sidecar(
    tree: OutputTree,
    person: ParticipantResponses,
    found: VoxelCeilings,
    *,
    split: Split,
    scaling: Standardization,
    kind: str,
    seed: int,
) -> dict[str, Any]:
    counts = Counter(found.presentations)
    return {
        "Sources": [tree.uri(file.path) for file in person.stored],
        "Sets": list(FITTED_ON),
        "SplitHash": split_hash(split),
        "ResponseKind": kind,
        "Standardization": {
            "Unit": scaling.unit,
            "Scaling": scaling.scaling,
            "TransductiveUnits": sorted(
                name for name, one in scaling.statistics.items() if one.source == "transductive"
            ),
        },
        "RandomSeed": seed,
        "NumberOfVoxels": len(found.voxels),
        "NumberOfStimuli": len(found.presentations),
        "NumberOfTrials": sum(found.presentations),
        "StimuliByPresentations": {str(n): counts[n] for n in sorted(counts)},
        "SoftwareVersion": __version__,
    }


def _summarise(tree: OutputTree, run: Run, found: VoxelCeilings, *, sources: Sequence[str]) -> None:
    """One row for people and programs that look at many participants, and one line in the log."""
    percent = 100 * found.ceiling
    row = {
        "participant_id": f"sub-{run.participant}",
        "n_voxels": len(percent),
        "n_stimuli": len(found.presentations),
        "n_trials": sum(found.presentations),
        "median_ceiling": float(np.median(percent)),
        "top_ceiling": float(np.quantile(percent, 0.9)),
        "share_above_10": float((percent > 10).mean()),
        "share_above_30": float((percent > 30).mean()),
        "median_reliability": float(np.median(found.reliability)),
    }
    path = tree.voxel_summary(run, desc="noiseceiling")
    write_tsv(path, {name: [value] for name, value in row.items()})
    write_json(
        path.with_suffix(".json"),
        {**SUMMARY, "Description": "Noise ceilings of single responses.", "Sources": list(sources)},
    )
    logger.info(
        "sub-%s: noise ceiling of a single response, by %d training stimuli shown %d times: median over %d voxels "
        "%.1f %% of variance, %.0f %% of the voxels above 10 %%.",
        run.participant, row["n_stimuli"], row["n_trials"], row["n_voxels"], row["median_ceiling"],
        100 * float((percent > 10).mean()),
    )  # fmt: skip
