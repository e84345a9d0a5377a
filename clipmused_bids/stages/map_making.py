"""From test trials and decoders to maps: occlusion and attention, each with its reliability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.evaluation.map_reliability import (
    map_correlation,
    region_means,
    split_half,
    stimulus_halves,
)
from clipmused_bids.evaluation.occlusion import Occlusion, occlusion
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.knock_out import Done, knocked_out
from clipmused_bids.methods.randomised import Predictor, how_randomised, on_device, randomised
from clipmused_bids.methods.token_attention import Reading, Token, token_attention, tokens_of
from clipmused_bids.records import BoolArray, FloatArray, TrialData
from clipmused_bids.stages.map_regions import MapRegions
from clipmused_bids.stages.map_trials import MapTrials
from clipmused_bids.stages.predicting import aligned_labels, trials_to_decode
from clipmused_bids.stages.stored_model import stored_decoder


@dataclass(frozen=True)
class FoldDecoder:
    """A decoder and the trials that it did not see.

    Parameters
    ----------
    model : StoredModel
    method : Method
    data : TrialData
        Without labels.
    mine : ndarray of bool, shape (n,)
        Which of the test trials they are.
    """

    model: StoredModel
    method: Method
    data: TrialData
    mine: BoolArray


@dataclass(frozen=True)
class Reliability:
    """What stands beside a map.

    Parameters
    ----------
    split_half : float
        Over halves of the test stimuli, Spearman-Brown; NaN where it cannot be told.
    randomised : tuple of float
        Correlation over regions with the same map of each draw of random weights; NaN where a map is constant.
    how : str
        What random weights are.
    """

    split_half: float
    randomised: tuple[float, ...]
    how: str

    @property
    def mean_randomised(self) -> float:
        """Mean over the draws that can be compared."""
        known = [r for r in self.randomised if not np.isnan(r)]
        return float(np.mean(known)) if known else float("nan")


@dataclass(frozen=True)
class OcclusionMap:
    """Drops by region, with those of decoders with random weights (mean over draws) and the reliability."""

    found: Occlusion
    random_drop: FloatArray
    reliability: Reliability


@dataclass(frozen=True)
class AttentionMap:
    """Attention of one token as a map of voxels.

    Parameters
    ----------
    values : ndarray of shape (n_voxels,)
    local : bool
        Whether patches are made of the voxels that they are shown at.
    places : str
        How patches became voxels.
    depth, n_patches : int
    uniform : float
        Correlation over voxels with the map that equal attention to all patches would give; NaN where that is the
        same everywhere.
    reliability : Reliability
    """

    values: FloatArray
    local: bool
    places: str
    depth: int
    n_patches: int
    uniform: float
    reliability: Reliability


def fold_decoders(trials: MapTrials, *, device: str) -> list[FoldDecoder]:
    """Load the decoders of the trials."""
    loaded = []
    for fold, record in sorted(trials.decoders.items()):
        mine = trials.fold == fold
        model = record.load()
        data = trials_to_decode(model, trials.person).subset(trials.rows[mine])
        loaded.append(FoldDecoder(model, on_device(stored_decoder(model), device), data, mine))
    return loaded


def occlusion_map(
    trials: MapTrials,
    decoders: list[FoldDecoder],
    regions: MapRegions,
    *,
    draws: int,
    seed: int,
    done: Done,
) -> OcclusionMap:
    """Knock every region out, for the decoders as they are and with random weights."""

    def scored(predictor: Callable[[Method], Predictor]) -> Occlusion:
        return occlusion(
            trials.labels,
            _probabilities(trials, decoders, regions, predictor, done=done),
            fold=trials.fold,
            stimulus_id=trials.stimulus_id,
            single_label=bool(trials.record.config["single_label"]),
            seed=seed,
        )

    def random(draw: int) -> Occlusion:
        return scored(lambda method: randomised(method, draw=draw, seed=seed))

    found = scored(lambda method: method)
    others = [random(draw) for draw in range(draws)]
    return OcclusionMap(
        found,
        np.mean([one.drop for one in others], axis=0),
        Reliability(
            split_half=found.split_half,
            randomised=tuple(map_correlation(found.drop, one.drop) for one in others),
            how=how_randomised(decoders[0].method),
        ),
    )


def _probabilities(
    trials: MapTrials,
    decoders: list[FoldDecoder],
    regions: MapRegions,
    predictor: Callable[[Method], Predictor],
    *,
    done: Done,
) -> FloatArray:
    """Predict all trials by their decoders, (R + 1, n, C) in the order of the labels of ``trials``."""
    n_regions, names = len(regions.names), trials.label_names
    probabilities = np.full((n_regions + 1, *trials.labels.shape), np.nan)
    for one in decoders:
        found = knocked_out(predictor(one.method), one.data, regions.region, n_regions=n_regions, done=done)
        for k, values in enumerate(found):
            probabilities[k, one.mine] = aligned_labels(one.model, values, names)
    return probabilities


def attention_maps(
    trials: MapTrials, decoders: list[FoldDecoder], regions: MapRegions, *, draws: int, seed: int
) -> Mapping[tuple[Token, Reading], AttentionMap]:
    """Average the attention of each token over trials; nothing for a decoder without tokens."""
    participant = trials.participant
    tokens = tokens_of(decoders[0].method, participant)
    keys = [(token, reading) for token in tokens for reading in _READINGS]
    halves = stimulus_halves(trials.stimulus_id, seed=seed)
    selections = [np.ones(len(trials.rows), dtype=bool), *(half for pair in halves for half in pair)]
    found: dict[tuple[Token, Reading], AttentionMap] = {}
    if not keys:
        return found
    true = _voxel_attention(decoders, selections, keys, lambda method: method)
    random = [
        _voxel_attention(
            decoders, selections[:1], keys, lambda method, k=draw: randomised(method, draw=k, seed=seed)
        )
        for draw in range(draws)
    ]
    inside = regions.inside >= 0
    for key in keys:
        means = region_means(true[key].values, regions.inside, n_regions=regions.n_inside)
        others = [
            region_means(one[key].values, regions.inside, n_regions=regions.n_inside)[0] for one in random
        ]
        found[key] = AttentionMap(
            values=true[key].values[0],
            local=true[key].local,
            places=true[key].places,
            depth=true[key].depth,
            n_patches=true[key].n_patches,
            uniform=map_correlation(true[key].values[0][inside], true[key].uniform[inside]),
            reliability=Reliability(
                split_half=split_half(means[1::2], means[2::2]) if halves else float("nan"),
                randomised=tuple(map_correlation(means[0], other) for other in others),
                how=how_randomised(decoders[0].method),
            ),
        )
    return found


_READINGS: tuple[Reading, ...] = ("last block", "rollout")


@dataclass(frozen=True)
class _VoxelAttention:
    """Mean attention in each selection of trials, (n_selections, n_voxels); what equal attention gives, (n_voxels,)."""

    values: FloatArray
    uniform: FloatArray
    local: bool
    places: str
    depth: int
    n_patches: int


def _voxel_attention(
    decoders: list[FoldDecoder],
    selections: list[BoolArray],
    keys: list[tuple[Token, Reading]],
    predictor: Callable[..., Predictor],
) -> dict[tuple[Token, Reading], _VoxelAttention]:
    """Mean over trials and members of the attention at each voxel; a trial counts alike in every fold."""
    sums: dict[tuple[Token, Reading], FloatArray] = {}
    counts = np.array([chosen.sum() for chosen in selections], dtype=float)
    for one in decoders:
        weights = np.stack([chosen[one.mine] for chosen in selections]) / counts[:, None]
        members = token_attention(predictor(one.method), one.data)
        for member in members:
            for key in keys:
                attention = member.of_token[key]
                equal = np.full((1, attention.shape[1]), one.mine.mean() / attention.shape[1])
                own = member.places.to_voxels(np.concatenate([weights @ attention, equal])) / len(members)
                sums[key] = sums[key] + own if key in sums else own
    last = members[0]
    return {
        key: _VoxelAttention(
            values=sums[key][:-1],
            uniform=sums[key][-1],
            local=last.places.local,
            places=last.places.how,
            depth=last.depth,
            n_patches=last.of_token[key].shape[1],
        )
        for key in keys
    }
