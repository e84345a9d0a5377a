"""Maps of one participant into the output tree, each with what it is, from what, and how reliable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.dataset.outputs.map_files import (
    MapTable,
    write_decoder_map,
    write_map_table,
    write_regions,
)
from clipmused_bids.dataset.outputs.tree import MapKind, OutputTree
from clipmused_bids.methods.token_attention import Reading, Token
from clipmused_bids.records import Run, VoxelSpace
from clipmused_bids.report.leak_notes import leakage_fields
from clipmused_bids.stages.map_making import AttentionMap, OcclusionMap, Reliability
from clipmused_bids.stages.map_regions import MapRegions
from clipmused_bids.stages.map_trials import MapTrials

_ROLLOUT = "https://doi.org/10.18653/v1/2020.acl-main.385"
_TOKEN_WORDS: Mapping[Token, str] = {
    "Low": "the low-level token",
    "High": "the high-level token",
    "Class": "the class token",
}


def map_kind(token: Token, reading: Reading) -> MapKind:
    """Name of an attention map in file names."""
    name = token if reading == "last block" else f"{token}Rollout"
    kinds: tuple[MapKind, ...] = get_args(MapKind)
    return next(kind for kind in kinds if kind == name)


class MapWriter:
    """Writes the maps of one participant by one decoder.

    Parameters
    ----------
    tree : OutputTree
    trials : MapTrials
    regions : MapRegions
    space : VoxelSpace
        Of the decoder.
    model_label : str
    seed, draws : int
    """

    def __init__(
        self,
        tree: OutputTree,
        trials: MapTrials,
        regions: MapRegions,
        space: VoxelSpace,
        *,
        model_label: str,
        seed: int,
        draws: int,
    ) -> None:
        self.tree, self.trials, self.regions, self.space = tree, trials, regions, space
        self.model_label, self.seed, self.draws = model_label, seed, draws

    @property
    def _run(self) -> Run:
        return self.trials.person.runs[0]

    def write_occlusion(self, made: OcclusionMap, *, request: str) -> None:
        """Write drops as a map, a series over labels, a table, and the regions they are about."""
        trials, found = self.trials, made.found
        names = trials.label_names
        shared = {
            **self._fields(made.reliability),
            "Regions": self.regions.how,
            "RegionsImage": self.tree.uri(
                self.tree.statmap(self._run, model_label=self.model_label, kind="Regions")
            ),
            "NumberOfRegions": len(self.regions.names),
            "KnockedOut": "standardised responses of the region's voxels set to 0, their mean in the training data",
            "IntactMeanAveragePrecision": found.intact,
            "FloorOfMeanAveragePrecision": found.floor,
            "NumberOfScorableLabels": found.n_labels,
        }
        known = np.asarray(np.isfinite(found.of_label).all(axis=0))
        self._write(
            "Occlusion", found.drop[self.regions.region],
            {
                "Description": "Occlusion: mAP of the test trials minus their mAP when the voxel's region is knocked "
                "out; mean over labels. Above 0 where the decoder needs the region",
                "Units": "difference of mean average precision, both 0 to 1",
                **shared,
            },
            request,
        )  # fmt: skip
        self._write(
            "OcclusionLabels", np.where(known, found.of_label, 0.0)[self.regions.region].T,
            {
                "Description": "Occlusion by label: volume k is the drop of the average precision of label k; 0 "
                "throughout for a label that cannot be scored",
                "Units": "difference of average precision, both 0 to 1",
                "LabelNames": list(names),
                "LabelsNotScored": [name for name, use in zip(names, known, strict=True) if not use],
                **shared,
            },
            request,
        )  # fmt: skip
        write_regions(
            self.tree.statmap(self._run, model_label=self.model_label, kind="Regions"), self.regions.region,
            voxels=self.space.voxels, grid=self.space.grid, space=self._run.space, request=request,
            sidecar={
                "Description": f"Regions of the maps of the decoder {self.model_label}, from 1 in the order of their "
                f"names: {self.regions.how}",
                "RegionNames": list(self.regions.names),
                **self._place(),
            },
        )  # fmt: skip
        table = MapTable(
            names=self.regions.names,
            n_voxels=self.regions.sizes(),
            centre=self.regions.centres(self.space),
            drop=found.drop,
            randomised=made.random_drop,
            top1=found.top1,
            label_names=names,
            of_label=np.where(known, found.of_label, np.nan),
        )
        write_map_table(
            self.tree.map_table(self._run, model_label=self.model_label), table, request=request,
            sidecar={"Description": f"What the decoder {self.model_label} loses without each region", **shared},
        )  # fmt: skip

    def write_attention(self, maps: Mapping[tuple[Token, Reading], AttentionMap], *, request: str) -> None:
        """Write a map for each token and reading."""
        for (token, reading), one in maps.items():
            how = "in the last block" if reading == "last block" else "through all blocks (attention rollout)"
            self._write(
                map_kind(token, reading),
                one.values,
                {
                    "Description": f"Attention of {_TOKEN_WORDS[token]} over patches {how}, mean over heads and test "
                    "trials. It says where a token reads, not what the decoder needs",
                    "Units": "share of the token's attention"
                    if one.local
                    else "share of the token's attention, brought to voxels",
                    "Token": token,
                    "Reading": reading,
                    "NumberOfBlocks": one.depth,
                    "NumberOfPatches": one.n_patches,
                    "PatchesAreLocal": one.local,
                    "PatchesToVoxels": one.places,
                    "UniformAttentionCorrelation": one.uniform,
                    **({"References": _ROLLOUT} if reading == "rollout" else {}),
                    **self._fields(one.reliability),
                },
                request,
            )

    def _write(self, kind: MapKind, values: Any, sidecar: Mapping[str, Any], request: str) -> None:
        write_decoder_map(
            self.tree.statmap(self._run, model_label=self.model_label, kind=kind), values,
            voxels=self.space.voxels, grid=self.space.grid, space=self._run.space, sidecar=sidecar,
            request=request,
        )  # fmt: skip

    def _place(self) -> dict[str, Any]:
        return {
            "Sources": [
                *(self.tree.uri(file.path) for file in self.trials.person.stored),
                *(self.tree.uri(one.path) for one in self.trials.decoders.values()),
            ],
            "Space": self._run.space or "native",
            # BIDS asks for it where the space is no template's; the maps lie on their responses' grid.
            "SpatialReference": self._run.sources.get("image", "orig"),
        }

    def _fields(self, reliability: Reliability) -> dict[str, Any]:
        trials = self.trials
        folds = sorted(fold for fold in trials.decoders if fold)
        hashes = {str(fold): trials.decoders[fold].weights_hash for fold in folds}
        return {
            **self._place(),
            "ModelLabel": self.model_label,
            "Method": trials.record.config["method"],
            "WeightsHash": trials.record.weights_hash,
            **({"WeightsHashOfFolds": hashes} if folds else {}),
            "Set": "test",
            "DecodedBy": "each trial by the decoder of the fold that holds it out"
            if folds
            else "the decoder",
            "NumberOfTrials": len(trials.rows),
            "NumberOfTestTrials": trials.n_available,
            "NumberOfStimuli": len(set(trials.stimulus_id)),
            "SplitHalfReliability": reliability.split_half,
            "SplitHalf": "correlation over regions of the maps of random halves of the test stimuli, Spearman-Brown",
            "RandomisedWeightsCorrelation": reliability.mean_randomised,
            "RandomisedWeightsCorrelations": list(reliability.randomised),
            "RandomisedWeights": reliability.how,
            **leakage_fields(trials.record.config),
            "RandomSeed": self.seed,
            "SoftwareVersion": __version__,
        }
