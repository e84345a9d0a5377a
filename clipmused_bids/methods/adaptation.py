"""A new participant for a trained decoder: the net stays as it is, only what is a participant's own is fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import AlignedFeatures, OwnRegionPatches
from clipmused_bids.errors import DataError
from clipmused_bids.long_work import each_of
from clipmused_bids.methods.adaptable import require_adaptable
from clipmused_bids.methods.architecture import Architecture, build_decoder
from clipmused_bids.methods.base import Method, Signature, joined_trials, require_finite_trials
from clipmused_bids.methods.feature_core import as_features, core_of, through_maps
from clipmused_bids.methods.fitted_network import FittedNetwork
from clipmused_bids.methods.link import Link, Part, fit_link
from clipmused_bids.methods.member_histories import joined_histories
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.own_scores import own_scores
from clipmused_bids.methods.token_tuning import TOKENS, tune_tokens
from clipmused_bids.records import FloatArray, History, TrialData
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.monitor import decode_logits
from clipmused_bids.training.state import choose_device, load_tensors, seeded, tensors_of

logger = logging.getLogger(__name__)


def adapt(
    base: Method,
    train: TrialData,
    validation: TrialData,
    *,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> NetworkMethod:
    """Fit to a new participant what is a participant's own in a trained decoder; all else is copied bit by bit.

    In a common space these are 2 x D numbers of his tokens, which start at the mean of the known participants'.
    In native space there are the V x K numbers of his linear map and, with a fixed readout, V x C + C of its map
    (``methods.link``). Then tokens are trained by the base's losses, pulled towards the mean token; in native space
    on features and scores that are predicted for each trial by maps that were fitted without it.

    Everything is judged by the labels' loss that the base was trained by. How long the tokens are trained is chosen
    by the validation trials, or without any by leaving groups out of the training trials (``token_tuning``); both may
    choose 0 epochs, which is the mean token. Where the base is fitted to train+validation, so is this, and groups are
    left out of both.

    Parameters
    ----------
    base : Method
        A fitted deep decoder of a group: ``clip-mused``, ``ms-emb`` (D numbers of one token), or one that knows no
        participant (``ms-smodel-...``: in a common space nothing is fitted).
    train, validation : TrialData
        Trials of one new participant. ``train`` may have none in a common space: he is then decoded with the mean
        token, and ``validation`` is not looked at.
    seed : int
        Order of trials and mixing.
    source : mapping, optional
        JSON values that say which decoder the base is; kept in the adaptation.
    device : str, optional
        ``cpu``, ``cuda`` or ``auto``; the base's otherwise.

    Returns
    -------
    NetworkMethod
        Decodes the new participant only; ``adaptation`` says how it was fitted.

    Raises
    ------
    UsageError
        If the base's method has nothing that a new participant could share, or nothing links his voxels to it.
    DataError
        If the base knows him already, or has other labels, kinds of labels or voxels.
    """
    method, _ = adapt_with_history(base, train, validation, seed=seed, source=source, device=device)
    return method


def adapt_with_history(
    base: Method,
    train: TrialData,
    validation: TrialData,
    *,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> tuple[NetworkMethod, History | None]:
    """Fit as ``adapt`` does, and tell how the training of the tokens went; None where none were trained."""
    known = require_adaptable(base, train)
    fitted = known.fitted()
    if device is not None:
        known = known.with_fitted(fitted)
        known.device = choose_device(device)
    if train.n_trials and known.hyperparameters.fit_on == "train+validation":
        train = joined_trials(train, validation)
        validation = validation.subset(np.empty(0, dtype=np.int64))
    require_finite_trials(train)
    architecture = _architecture_of(fitted.architecture, train)
    models, notes, histories = [], [], []
    with each_of(range(len(fitted.members)), "Members", "member") as members:
        for m in members:
            model, found, history = _adapt_member(
                known, m, train, validation, architecture=architecture, seed=seed + m
            )
            models.append(model)
            notes.append(found)
            histories += [] if history is None else [history]
    adaptation = {
        "base": dict(source or {}),
        "known": list(fitted.signature.masks),
        "n_trials": train.n_trials,
        "n_validation_trials": validation.n_trials if train.n_trials else 0,
        "fitted_values": fitted_values(models[0], common_space=train.common_space),
        **notes[0],
    }
    method = known.with_fitted(
        FittedNetwork(
            members=tuple(models),
            signature=Signature.of(train),
            architecture=architecture,
            alignment=notes[0]["alignment"],
            label_loss=fitted.label_loss,
            adaptation=adaptation,
        )
    )
    return method, joined_histories(histories) if histories else None


def fitted_values(model: Network, *, common_space: bool) -> dict[str, int]:
    """Numbers that are fitted to a new participant: of his tokens, maps and readout."""
    maps = 0
    if isinstance(model.patches, AlignedFeatures | OwnRegionPatches):
        maps = sum(parameter.numel() for parameter in model.patches.own.parameters())
    readout = 0
    if isinstance(model.readout, FixedReadout) and not common_space:
        readout = model.readout.own[0].numel() + model.readout.offset.numel()
    tokens = dict(model.named_parameters()).get(TOKENS)
    return {"tokens": 0 if tokens is None else tokens.numel(), "maps": maps, "readout": readout}


def _architecture_of(base: Architecture, train: TrialData) -> Architecture:
    """The base's architecture for one other participant."""
    regions = base.regions
    if base.kind == "own-roi":
        n_regions = len(train.spaces[0].region_names)
        if n_regions != base.n_regions:
            raise DataError(
                f"sub-{train.participants[0]}: {n_regions} regions; the base has {base.n_regions}.",
                hint="give the atlas that the base was trained with",
            )
        regions = (np.asarray(train.spaces[0].region),)
    return replace(base, n_voxels=(train.responses[0].n_voxels,), regions=regions)


def _adapt_member(
    base: NetworkMethod,
    m: int,
    train: TrialData,
    validation: TrialData,
    *,
    architecture: Architecture,
    seed: int,
) -> tuple[Network, dict[str, Any], History | None]:
    """One member for the new participant, how it was fitted, and how its tokens were trained."""
    model = _model_of(base, m, architecture)
    notes: dict[str, Any] = {"alignment": "shared by all participants"}
    core, train_core, validation_core = model, train, validation
    if architecture.own_maps:
        link = _link(base, m, model, train)
        notes = {
            "alignment": link.source,
            "readout_weights": dict(link.weights),
        }
        core = core_of(model)
        train_core = as_features(train, link.features, link.scores)
        validation_core = through_maps(model, validation)
    tuned = tune_tokens(
        core,
        train_core,
        validation_core,
        options=replace(base.hyperparameters.training, label_loss=base.fitted().label_loss),
        guided=base.kind.guided,
        seed=seed,
        device=base.device,
    )
    tokens = tensors_of(core).get(TOKENS)
    load_tensors(model, tensors_of(model) | ({} if tokens is None else {TOKENS: tokens}))
    return model.eval(), notes | tuned.notes, tuned.history


def _model_of(base: NetworkMethod, m: int, architecture: Architecture) -> Network:
    """The member for one participant: the mean token, shared weights as they are, own maps of zeros."""
    with seeded(0, device=base.device):
        options = base.kind.model_options(base.hyperparameters.model)
        model = build_decoder(architecture, options, n_participants=1)
    known = tensors_of(base.fitted().members[m])
    tensors = {}
    for name, value in tensors_of(model).items():
        if name == TOKENS:
            tensors[name] = known[name].mean(axis=0, keepdims=True)
        elif name.startswith("patches.own.") or (
            not architecture.common_space and name.startswith(("readout.own.", "readout.offset"))
        ):
            tensors[name] = np.zeros_like(value)
        else:
            tensors[name] = known[name]
    load_tensors(model, tensors)
    return model.to(base.device).eval()


def _link(base: NetworkMethod, m: int, model: Network, train: TrialData) -> Link:
    """Fit own maps and readout, and put them into the model."""
    fitted, options = base.fitted(), base.hyperparameters
    template, alphas = fitted.templates[m], options.linear.alphas
    parts = _parts(fitted.architecture, train, n_shared=options.model.n_shared)
    fixed = model.readout if isinstance(model.readout, FixedReadout) else None
    core = core_of(model)

    def logits(features: FloatArray) -> FloatArray:
        scores = None if fixed is None else np.zeros((len(features), len(train.label_names)))
        return decode_logits(core, TrialReader(as_features(train, features, scores), device=base.device))

    own = {}
    if fixed is not None:
        own = own_scores(
            train, frequency=template.frequency, options=options.model, alphas=alphas, loss=fitted.label_loss
        )
    link = fit_link(
        template, train, logits=logits, own=own,
        readout_weight=None if fixed is None else float(fixed.weight.detach()),
        parts=parts, alphas=alphas, loss=fitted.label_loss,
    )  # fmt: skip
    assert isinstance(model.patches, AlignedFeatures | OwnRegionPatches)
    model.patches.start_from([link.maps.astype(np.float32)])
    if fixed is not None and link.readout is not None and link.offset is not None:
        fixed.start_from([link.readout], [link.offset], weight=float(fixed.weight.detach()))
    logger.info(
        "sub-%s: maps: %s; readout: %s.",
        train.participants[0], link.source,
        ", ".join(f"{weight:.2f} ({name})" for name, weight in link.weights.items()) or "none of his own",
    )  # fmt: skip
    return link


def _parts(architecture: Architecture, train: TrialData, *, n_shared: int) -> list[Part]:
    if architecture.kind != "own-roi":
        return [(np.arange(train.responses[0].n_voxels), slice(0, n_shared))]
    region = np.asarray(train.spaces[0].region)
    return [
        (np.flatnonzero(region == r), slice(r * n_shared, (r + 1) * n_shared))
        for r in range(architecture.n_regions)
    ]
