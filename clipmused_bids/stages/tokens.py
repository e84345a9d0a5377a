"""What the tokens of the main decoder become for held-out responses, and whether CLIP finds the same things alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from clipmused_bids import __version__
from clipmused_bids.dataset.files.atomic import remove
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.outputs.token_files import (
    StimulusTokens,
    tokens_are_current,
    write_stimulus_tokens,
)
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import ModelRecord
from clipmused_bids.decoder.tokens import INITIAL_SPREAD
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.randomised import untrained
from clipmused_bids.methods.token_outputs import token_outputs
from clipmused_bids.records import FloatArray, IntArray, Split, Targets
from clipmused_bids.stages.assemble import ParticipantResponses, open_responses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.decoder_choice import find_decoder
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import trials_to_decode
from clipmused_bids.stages.splitting import split_hash, tested_people
from clipmused_bids.stages.stored_features import stored_features
from clipmused_bids.stages.stored_model import stored_decoder
from clipmused_bids.stages.token_agreement import BrainSide, agreements_with_clip
from clipmused_bids.stages.token_stimuli import MOST_STIMULI, TestStimuli, choose_stimuli
from clipmused_bids.targets.similarity import similarity_matrix

logger = logging.getLogger(__name__)


def has_pair(config: Mapping[str, Any]) -> bool:
    """Whether a stored decoder has a low-level and a high-level token of each participant."""
    architecture = config["decoder"].get("architecture", {})
    return bool(architecture.get("tokens") == "pair")


def measure_tokens(
    plan: Plan, tree: OutputTree, catalogue: Catalogue, split: Split, *, failures: Failures
) -> None:
    """Store the tokens of each participant's test stimuli and their agreement with CLIP; what is there already stays.

    Nothing is done for a decoder without a pair of tokens; what an earlier one left under its label is removed.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    measured, reused = 0, 0
    for participant in tested_people(plan.without(failures), split):
        with failures.of_participant(participant):
            done = _measure(plan, tree, catalogue, split, participant)
            measured += done == "measured"
            reused += done == "reused"
    plan.without(failures)
    if measured + reused:
        logger.info("Tokens: of %d participant(s) measured, of %d reused.", measured, reused)


def _measure(plan: Plan, tree: OutputTree, catalogue: Catalogue, split: Split, participant: str) -> str:
    label = plan.config.model_label
    record = find_decoder(tree, participant, model_label=label)
    person = open_responses(tree, participant, plan.runs_of(participant), kind=plan.kind)
    path = tree.tokens(person.runs[0], model_label=label)
    chosen = None
    if has_pair(record.config):
        chosen = choose_stimuli(plan, tree, catalogue, split, person, names=record.config["label_names"])
    if chosen is None:
        remove(path)
        remove(path.with_suffix(".json"))
        return "nothing"
    decoders = {
        fold: find_decoder(tree, participant, model_label=label, fold=fold or None)
        for fold in np.unique(chosen.fold).tolist()
    }
    seed = plan.config.random_seed
    request = _request(catalogue, split, person, chosen, decoders, seed=seed)
    if not plan.config.overwrite and tokens_are_current(path, request):
        return "reused"
    targets, reason = stored_features(plan, tree, catalogue, chosen.stimulus_id, config=record.config)
    sides = {fold: _brain_sides(one, person, chosen, fold=fold, seed=seed) for fold, one in decoders.items()}
    tokens = StimulusTokens(
        stimulus_id=chosen.stimulus_id,
        fold=chosen.fold,
        group=chosen.group,
        n_trials=np.array([len(rows) for rows in chosen.rows]),
        group_names=chosen.group_names,
        low=np.concatenate([one["low"] for one in sides.values()]),
        high=np.concatenate([one["high"] for one in sides.values()]),
        clip=_clip_similarities(targets),
    )
    details = _details(tree, person, decoders, chosen, targets=targets, reason=reason)
    similarities = {fold: _similarities(own) for fold, own in sides.items()}
    found = agreements_with_clip(similarities, tokens.clip, chosen.fold, seed=seed)
    write_stimulus_tokens(path, tokens, details={**details, "Request": request, "Agreements": found})
    return "measured"


def _request(
    catalogue: Catalogue,
    split: Split,
    person: ParticipantResponses,
    chosen: TestStimuli,
    decoders: Mapping[int, ModelRecord],
    *,
    seed: int,
) -> dict[str, Any]:
    """All that the tokens and what is told of them depend on."""
    return {
        "WeightsHashes": {str(fold): one.weights_hash for fold, one in decoders.items()},
        "SplitHash": split_hash(split),
        "ResponsesHash": digest(*(file.fingerprint for file in person.stored)),
        "Rows": digest(*(rows.astype("<i8").tobytes() for rows in chosen.rows)),
        "Stimuli": catalogue.hashes_of(chosen.stimulus_id, guiding=True),
        "RandomSeed": seed,
        "MostStimuli": MOST_STIMULI,
    }


def _brain_sides(
    record: ModelRecord, person: ParticipantResponses, chosen: TestStimuli, *, fold: int, seed: int
) -> dict[BrainSide, FloatArray]:
    """What stands for each stimulus of a fold, mean over its trials: tokens, an untrained network's, the voxels."""
    model = record.load()
    method = stored_decoder(model)
    assert isinstance(method, NetworkMethod)
    rows = [rows for rows, of in zip(chosen.rows, chosen.fold, strict=True) if of == fold]
    data = trials_to_decode(model, person)
    trials = data.subset(np.concatenate(rows))
    own = token_outputs(method, trials)
    random = token_outputs(untrained(method, seed=seed), trials)
    ends = np.cumsum([len(one) for one in rows])[:-1]
    means: dict[BrainSide, FloatArray] = {
        "low": _over_trials(own["low"], ends),
        "high": _over_trials(own["high"], ends),
        "untrained low": _over_trials(random["low"], ends),
        "untrained high": _over_trials(random["high"], ends),
    }
    # One stimulus at a time: responses of all of them may be large.
    means["voxels"] = np.stack([data.responses[0].read(one).mean(axis=0) for one in rows])
    return means


def _over_trials(values: FloatArray, ends: IntArray) -> FloatArray:
    """Mean over the trials of each stimulus, which lie side by side."""
    return np.stack([part.mean(axis=0) for part in np.split(values, ends)])


def _similarities(sides: Mapping[BrainSide, FloatArray]) -> dict[BrainSide, FloatArray]:
    """Cosines of tokens; of voxels, which were not through a LayerNorm, correlations over voxels."""
    return {
        name: similarity_matrix(values - values.mean(axis=1, keepdims=True) if name == "voxels" else values)
        for name, values in sides.items()
    }


def _clip_similarities(targets: Targets | None) -> dict[str, FloatArray]:
    """Cosines of each level that is known, NaN where a stimulus has no features."""
    found = {}
    for level in ("low", "high"):
        features = None if targets is None else getattr(targets, level)
        if features is None or not features.any():
            continue
        cosines, known = similarity_matrix(features), features.any(axis=1)
        cosines[~known] = cosines[:, ~known] = np.nan
        found[level] = cosines
    return found


def _details(
    tree: OutputTree,
    person: ParticipantResponses,
    decoders: Mapping[int, ModelRecord],
    chosen: TestStimuli,
    *,
    targets: Targets | None,
    reason: str,
) -> dict[str, Any]:
    """Fields of the sidecar but what was found."""
    config = next(iter(decoders.values())).config
    options = config["hyperparameters"]
    return {
        "Sources": [
            *(tree.uri(one.path) for one in decoders.values()),
            *(tree.uri(file.path) for file in person.stored),
        ],
        "Participant": f"sub-{person.participant}",
        "Method": config["method"],
        "Regime": config["split"]["regime"],
        "NumberOfTestStimuli": chosen.n_tested,
        "OrderedBy": chosen.ordered_by,
        "NumberOfMembers": options["training"]["n_seeds"],
        "Guidance": {
            "low": _guided(options, config, "low"),
            "high": _guided(options, config, "high"),
        },
        "ClipModel": None if targets is None else targets.clip_model,
        "HighLevelOf": None if targets is None else targets.high_source,
        "NoClip": reason or None,
        "InitialTokenNorm": INITIAL_SPREAD * options["model"]["width"] ** 0.5,
        # A decoder that was adapted to a newcomer was trained before, on others.
        "BestEpoch": None if config["decoder"].get("adaptation") else config["best_epoch"],
        "SoftwareVersion": __version__,
    }


def _guided(options: Mapping[str, Any], config: Mapping[str, Any], level: str) -> bool:
    """Whether the similarity loss of a level was on, and had targets."""
    return options["training"][f"lambda_{level}"] > 0 and config["guidance"][level] not in {"off", "none"}
