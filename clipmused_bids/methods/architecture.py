"""From data and options to a decoder: which network, which patches, with which voxels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import ModelOptions
from clipmused_bids.decoder.cnn import CnnPatches
from clipmused_bids.decoder.mlp import Mlp, VoxelVector
from clipmused_bids.decoder.model import ClipMused, TokenTransformer
from clipmused_bids.decoder.network import Features, Network, Patches
from clipmused_bids.decoder.readout import FixedReadout, LearnedReadout
from clipmused_bids.decoder.roi import (
    AlignedFeatures,
    AlignedPatches,
    OwnRegionPatches,
    SharedRegionPatches,
)
from clipmused_bids.errors import UsageError
from clipmused_bids.methods.network_kinds import CLIP_MUSED, NetworkKind, Tokens
from clipmused_bids.records import IntArray, TrialData
from clipmused_bids.responses.regions import cluster_regions

logger = logging.getLogger(__name__)

CLUSTERING_TRIALS = 1000

PatchKind = Literal["cnn", "roi", "own-roi", "aligned", "voxels", "features"]


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the decoder's tensors, apart from the options.

    Parameters
    ----------
    kind : {"cnn", "roi", "own-roi", "aligned", "voxels", "features"}
        ``own-roi``: regions in native space, by each participant's own maps. Of a multilayer perceptron, which
        reads one vector: ``voxels`` as they are, or ``features`` that each participant's own map aligns.
    grid_shape : tuple of int
        Grid of the common space.
    n_voxels : tuple of int
        V of each participant.
    common_space : bool
        Whether voxels correspond between participants.
    n_labels, n_regions : int
    voxels : ndarray of int, shape (n_voxels,)
        Places in the grid; empty unless ``cnn``.
    regions : tuple of ndarray of int
        Region of each voxel: one array for all (``roi``), one for each participant (``own-roi``), or none.
    tokens : {"pair", "one", "shared", "none"}
        A pair or one for each participant, one for all, or none (a multilayer perceptron).
    """

    kind: PatchKind
    grid_shape: tuple[int, int, int]
    n_voxels: tuple[int, ...]
    common_space: bool
    n_labels: int
    n_regions: int
    voxels: IntArray
    regions: tuple[IntArray, ...]
    tokens: Tokens = "pair"

    @property
    def own_maps(self) -> bool:
        """Whether each participant has linear maps of his own."""
        return self.kind in {"own-roi", "aligned", "features"}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays among the fields, by name."""
        return {"architecture.voxels": self.voxels} | {
            f"architecture.region.{n}": region for n, region in enumerate(self.regions)
        }

    def to_config(self) -> dict[str, Any]:
        """Return the other fields as values that JSON can hold."""
        return {
            "kind": self.kind,
            "grid_shape": list(self.grid_shape),
            "n_voxels": list(self.n_voxels),
            "common_space": self.common_space,
            "n_labels": self.n_labels,
            "n_regions": self.n_regions,
            "n_region_arrays": len(self.regions),
            "tokens": self.tokens,
        }

    @classmethod
    def from_config(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Architecture:
        """Read back what ``tensors`` and ``to_config`` wrote."""
        shape = config["grid_shape"]
        return cls(
            kind=config["kind"],
            grid_shape=(int(shape[0]), int(shape[1]), int(shape[2])),
            n_voxels=tuple(int(n) for n in config["n_voxels"]),
            common_space=bool(config["common_space"]),
            n_labels=int(config["n_labels"]),
            n_regions=int(config["n_regions"]),
            voxels=np.asarray(tensors["architecture.voxels"]),
            regions=tuple(
                np.asarray(tensors[f"architecture.region.{n}"]) for n in range(config["n_region_arrays"])
            ),
            # Decoders that were stored before there were others have a pair.
            tokens=config.get("tokens", "pair"),
        )


def choose_architecture(
    train: TrialData, options: ModelOptions, *, network: NetworkKind = CLIP_MUSED
) -> Architecture:
    """Decide between kinds of patches by what the training data offer.

    A multilayer perceptron reads the voxels of one participant, or of all in a common space, as they are; in
    native space several participants need each their own map into ``n_shared`` features. For a transformer
    ``auto`` is ``roi`` in a common space, or where all participants have the same named regions; ``aligned``
    otherwise. In a common space without an atlas, regions are made by clustering the training responses.

    Raises
    ------
    UsageError
        If ``cnn`` or ``roi`` is asked for and voxels (regions) of the participants do not correspond.
    """
    kind = _vector_kind(train) if network.reads == "vector" else _kind(train, options)
    regions: tuple[IntArray, ...] = ()
    n_regions = 0
    if kind == "roi":
        region, n_regions = _common_regions(train, n_regions=options.n_regions)
        regions = (region,)
    elif kind == "own-roi":
        regions = tuple(np.asarray(space.region) for space in train.spaces)
        n_regions = len(train.spaces[0].region_names)
    space = train.spaces[0]
    architecture = Architecture(
        kind=kind,
        grid_shape=space.grid.shape,
        n_voxels=tuple(table.n_voxels for table in train.responses),
        common_space=train.common_space,
        n_labels=len(train.label_names),
        n_regions=n_regions,
        voxels=np.asarray(space.voxels) if kind == "cnn" else np.empty(0, dtype=np.int64),
        regions=regions,
        tokens=network.token_scheme(options),
    )
    logger.info("patches: %s%s.", kind, f" ({n_regions} regions)" if n_regions else "")
    return architecture


def _vector_kind(train: TrialData) -> PatchKind:
    return "voxels" if train.common_space or len(train.participants) == 1 else "features"


def _kind(train: TrialData, options: ModelOptions) -> PatchKind:
    corresponding = _regions_correspond(train)
    if options.patches == "aligned":
        return "aligned"
    if options.patches == "cnn":
        if not train.common_space:
            raise UsageError(
                "model.patches = cnn: the participants' voxels are in native space, and a CNN needs a common one.",
                hint='name a template space with --space, or set model.patches = "aligned"',
            )
        return "cnn"
    if train.common_space:
        return "roi"
    if corresponding:
        return "own-roi"
    if options.patches == "roi":
        raise UsageError(
            "model.patches = roi: voxels are in native space and the participants have no regions in common.",
            hint='give --atlas in every participant\'s space, or set model.patches = "aligned"',
        )
    return "aligned"


def _regions_correspond(train: TrialData) -> bool:
    names = train.spaces[0].region_names
    return len(names) > 1 and all(space.region_names == names for space in train.spaces)


def _common_regions(train: TrialData, *, n_regions: int) -> tuple[IntArray, int]:
    space = train.spaces[0]
    if len(space.region_names) > 1:
        return np.asarray(space.region), len(space.region_names)
    mask = np.zeros(space.grid.shape, dtype=bool)
    mask.flat[space.voxels] = True
    n_regions = min(n_regions, len(space.voxels))
    some = np.unique(np.linspace(0, train.n_trials - 1, CLUSTERING_TRIALS).astype(int))
    region = cluster_regions(np.concatenate(train.subset(some).read()), mask, n_regions=n_regions)
    logger.info("patches: no atlas, so %d regions are made by clustering the training responses.", n_regions)
    return region, int(region.max()) + 1


def build_decoder(architecture: Architecture, options: ModelOptions, *, n_participants: int) -> Network:
    """Build the decoder with random weights, drawn from torch's current generator."""
    if architecture.tokens == "none":
        return _mlp(architecture, options, n_participants=n_participants)
    patches = _patches(architecture, options)
    transformer = ClipMused if architecture.tokens == "pair" else TokenTransformer
    return transformer(
        patches,
        n_participants=n_participants,
        n_labels=architecture.n_labels,
        width=options.width,
        depth=options.depth,
        heads=options.heads,
        mlp_ratio=options.mlp_ratio,
        head=options.head,
        dropout=options.dropout,
        input_dropout=options.input_dropout,
        readout=_readout(architecture, patches, options),
        tokens=architecture.tokens,
    )


def _mlp(architecture: Architecture, options: ModelOptions, *, n_participants: int) -> Mlp:
    vector: Features = VoxelVector(architecture.n_voxels[0])
    if architecture.kind == "features":
        vector = AlignedFeatures(architecture.n_voxels, n_shared=options.n_shared)
    return Mlp(
        vector,
        n_participants=n_participants,
        n_labels=architecture.n_labels,
        hidden_width=options.hidden_width,
        hidden_layers=options.hidden_layers,
        dropout=options.dropout,
        input_dropout=options.input_dropout,
        readout=_readout(architecture, vector, options),
    )


def _readout(
    architecture: Architecture, patches: Features, options: ModelOptions
) -> LearnedReadout | FixedReadout | None:
    if options.readout == "none":
        return None
    if options.readout == "learned":
        return LearnedReadout(n_features=patches.n_features, n_labels=architecture.n_labels)
    n_voxels = architecture.n_voxels[:1] if architecture.common_space else architecture.n_voxels
    return FixedReadout(n_voxels=n_voxels, n_labels=architecture.n_labels)


def _patches(architecture: Architecture, options: ModelOptions) -> Patches:
    if architecture.kind == "cnn":
        return CnnPatches(architecture.voxels, grid_shape=architecture.grid_shape, width=options.width)
    if architecture.kind == "roi":
        return SharedRegionPatches(
            architecture.regions[0], n_regions=architecture.n_regions, width=options.width
        )
    if architecture.kind == "own-roi":
        return OwnRegionPatches(
            architecture.regions,
            n_regions=architecture.n_regions,
            n_shared=options.n_shared,
            width=options.width,
        )
    return AlignedPatches(
        architecture.n_voxels, n_shared=options.n_shared, n_patches=options.n_patches, width=options.width
    )
