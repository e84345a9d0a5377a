"""A new participant for a trained decoder: the net stays as it is, only what is a participant's own is fitted."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from clipmused_bids.config import TrainingOptions
from clipmused_bids.decoder.model import ClipMused
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.decoder.roi import AlignedPatches, OwnRegionPatches
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.methods.architecture import Architecture, build_decoder
from clipmused_bids.methods.base import (
    Method,
    Signature,
    joined_trials,
    require_finite_trials,
)
from clipmused_bids.methods.clip_mused import ClipMusedMethod
from clipmused_bids.methods.feature_core import as_features, core_of, through_maps
from clipmused_bids.methods.link import Link, Part, fit_link
from clipmused_bids.methods.ridge_solver import folds_of
from clipmused_bids.records import FloatArray, TrialData
from clipmused_bids.training.anchored import AnchoredTrainer
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.monitor import decode_logits
from clipmused_bids.training.state import load_tensors, seeded, tensors_of

logger = logging.getLogger(__name__)

TOKENS = "tokens.subject"
MOST_EPOCHS = 40
# Tokens alone are few numbers and far from what a step of the net's own learning rate can move.
RATE_OVER_BASE = 10.0
PULL = 0.01


def adapt(
    base: Method,
    train: TrialData,
    validation: TrialData,
    *,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
) -> ClipMusedMethod:
    """Fit to a new participant what is a participant's own in a trained decoder; all else is copied bit by bit.

    In a common space these are 2 x D numbers of his tokens, which start at the mean of the known participants'.
    In native space there are the V x K numbers of his linear map and, with a fixed readout, V x C + C of its map
    (``methods.link``). Then tokens are trained by the base's losses, pulled towards the mean token; in native space
    on features and scores that are predicted for each trial by maps that were fitted without it.

    How long the tokens are trained is chosen by the validation trials, or without any by leaving groups out of the
    training trials (the label loss on those left out, summed over folds); both may choose 0 epochs, which is the
    mean token. Where the base is fitted to train+validation, so is this, and groups are left out of both.

    Parameters
    ----------
    base : Method
        A fitted ``clip-mused`` decoder of several participants, or of one.
    train, validation : TrialData
        Trials of one new participant. ``train`` may have none in a common space: he is then decoded with the mean
        token, and ``validation`` is not looked at.
    seed : int
        Order of trials and mixing.
    source : mapping, optional
        JSON values that say which decoder the base is; kept in the adaptation.

    Returns
    -------
    ClipMusedMethod
        Decodes the new participant only; ``adaptation`` says how it was fitted.

    Raises
    ------
    UsageError
        If the base's method has nothing that a new participant could share, or nothing links his voxels to it.
    DataError
        If the base knows him already, or has other labels or voxels.
    """
    known = _checked(base, train)
    if train.n_trials and known.hyperparameters.fit_on == "train+validation":
        train = joined_trials(train, validation)
        validation = validation.subset(np.empty(0, dtype=np.int64))
    require_finite_trials(train)
    architecture = _architecture_of(known.architecture, train)
    parts = [
        _adapt_member(known, m, train, validation, architecture=architecture, seed=seed + m)
        for m in range(len(known.members))
    ]
    found = parts[0].notes
    return ClipMusedMethod.adapted(
        known,
        [part.model for part in parts],
        signature=Signature.of(train),
        architecture=architecture,
        adaptation={
            "base": dict(source or {}),
            "known": list(known.signature.masks),
            "n_trials": train.n_trials,
            "n_validation_trials": validation.n_trials if train.n_trials else 0,
            "fitted_values": fitted_values(parts[0].model, common_space=train.common_space),
            **found,
        },
    )


def fitted_values(model: ClipMused, *, common_space: bool) -> dict[str, int]:
    """Numbers that are fitted to a new participant: of his tokens, maps and readout."""
    maps = 0
    if isinstance(model.patches, AlignedPatches | OwnRegionPatches):
        maps = sum(parameter.numel() for parameter in model.patches.own.parameters())
    readout = 0
    if isinstance(model.readout, FixedReadout) and not common_space:
        readout = model.readout.own[0].numel() + model.readout.offset.numel()
    return {"tokens": model.tokens.subject.numel(), "maps": maps, "readout": readout}


@dataclass(frozen=True)
class _Adapted:
    model: ClipMused
    notes: dict[str, Any]


def _checked(base: Method, train: TrialData) -> ClipMusedMethod:
    """See that the base can take this participant."""
    if not isinstance(base, ClipMusedMethod):
        raise UsageError(
            f"a new participant: a decoder of method {type(base).__name__} shares nothing that he could use.",
            hint="the base must be a group's deep decoder: group --train --method clip-mused",
        )
    if len(train.participants) != 1:
        raise DataError(f"a new participant: expected one, got {len(train.participants)}.")
    who, signature = train.participants[0], base.signature
    if who in signature.masks:
        raise DataError(
            f"sub-{who}: the base knows this participant already.", hint="decode with the base itself"
        )
    # Labels, then, in a common space, voxels.
    replace(signature, any_participant=True).check(replace(train, participants=(), responses=(), spaces=()))
    if base.architecture.common_space != train.common_space:
        ours, his = (
            ("a common space", "native space")
            if not train.common_space
            else ("native space", "a common space")
        )
        raise DataError(
            f"sub-{who}: the base was trained in {ours}, these responses are in {his}.",
            hint="choose images of the base's space with --space",
        )
    if train.common_space:
        replace(signature, any_participant=True).check(train)
    if _has_own_maps(base.architecture):
        _require_link(base, train)
    return base


def _require_link(base: ClipMusedMethod, train: TrialData) -> None:
    who = train.participants[0]
    if train.n_trials == 0:
        raise UsageError(
            f"sub-{who}: without calibration trials nothing links his voxels to the base's features.",
            hint="give some with --calibration-trials; none are needed only in a common space",
        )
    if len(base.templates) != len(base.members):
        raise DataError(
            "the base holds no template of its shared features; it was trained by an earlier version.",
            hint="train it again: --overwrite",
        )


def _has_own_maps(architecture: Architecture) -> bool:
    return architecture.kind in {"own-roi", "aligned"}


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
    base: ClipMusedMethod,
    m: int,
    train: TrialData,
    validation: TrialData,
    *,
    architecture: Architecture,
    seed: int,
) -> _Adapted:
    model = _model_of(base, m, architecture)
    notes: dict[str, Any] = {"alignment": "shared by all participants"}
    core, train_core, validation_core = model, train, validation
    if _has_own_maps(architecture):
        link = _link(base, m, model, train)
        notes = {
            "alignment": link.source,
            "readout_weights": dict(zip(("own", "shared"), link.weights, strict=True)),
        }
        core = core_of(model)
        train_core = as_features(train, link.features, link.scores)
        validation_core = through_maps(model, validation)
    notes |= _tune(core, train_core, validation_core, base=base, seed=seed)
    with torch.no_grad():
        model.tokens.subject.copy_(core.tokens.subject)
    return _Adapted(model.eval(), notes)


def _model_of(base: ClipMusedMethod, m: int, architecture: Architecture) -> ClipMused:
    """The member for one participant: the mean token, shared weights as they are, own maps of zeros."""
    with seeded(0, device=base.device):
        model = build_decoder(architecture, base.hyperparameters.model, n_participants=1)
    known = tensors_of(base.members[m])
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


def _link(base: ClipMusedMethod, m: int, model: ClipMused, train: TrialData) -> Link:
    """Fit own maps and readout, and put them into the model."""
    parts = _parts(model, base.architecture, train, n_shared=base.hyperparameters.model.n_shared)
    fixed = model.readout if isinstance(model.readout, FixedReadout) else None
    core = core_of(model)

    def logits(features: FloatArray) -> FloatArray:
        scores = None if fixed is None else np.zeros((len(features), len(train.label_names)))
        return decode_logits(core, TrialReader(as_features(train, features, scores), device=base.device))

    link = fit_link(
        base.templates[m],
        train,
        logits=logits,
        readout_weight=None if fixed is None else float(fixed.weight.detach()),
        parts=parts,
        alphas=base.hyperparameters.linear.alphas,
    )
    assert isinstance(model.patches, AlignedPatches | OwnRegionPatches)
    model.patches.start_from([link.maps.astype(np.float32)])
    if fixed is not None and link.readout is not None and link.offset is not None:
        fixed.start_from([link.readout], [link.offset], weight=float(fixed.weight.detach()))
    logger.info(
        "sub-%s: maps: %s; readout: %.2f of his own ridge, %.2f of the shared classifier.",
        train.participants[0], link.source, *link.weights,
    )  # fmt: skip
    return link


def _parts(model: ClipMused, architecture: Architecture, train: TrialData, *, n_shared: int) -> list[Part]:
    if architecture.kind == "aligned":
        return [(np.arange(train.responses[0].n_voxels), slice(0, n_shared))]
    region = np.asarray(train.spaces[0].region)
    return [
        (np.flatnonzero(region == r), slice(r * n_shared, (r + 1) * n_shared))
        for r in range(model.patches.n_patches)
    ]


def _tune(
    core: ClipMused, train: TrialData, validation: TrialData, *, base: ClipMusedMethod, seed: int
) -> dict[str, Any]:
    """Train the tokens in place for as long as held-out trials say."""
    if train.n_trials == 0:
        return {"epochs": 0, "chosen_by": "no calibration trials: the mean token"}
    options = _options(base.hyperparameters.training)

    def trainer(model: ClipMused, fit_to: TrialData, held: TrialData) -> AnchoredTrainer:
        return AnchoredTrainer(
            model, fit_to, held, options=options, seed=seed, device=base.device, trained=[TOKENS], pull=PULL
        )

    if validation.n_trials:
        history = trainer(core, train, validation).run()
        return {"epochs": history.best_epoch, "chosen_by": "validation trials"}
    fold = folds_of(train.group)
    if len(np.unique(fold)) < 2 or len(np.unique(train.group)) < 2:
        return {"epochs": 0, "chosen_by": "a single group of trials: the mean token"}
    losses = np.zeros(options.max_epochs + 1)
    for k in np.unique(fold):
        one = copy.deepcopy(core)
        held = train.subset(np.flatnonzero(fold == k))
        history = trainer(one, train.subset(np.flatnonzero(fold != k)), held).run(n_epochs=options.max_epochs)
        losses += held.n_trials / train.n_trials * np.array(history.columns["val_loss"])
    n_epochs = int(np.argmin(losses))
    if n_epochs:
        trainer(core, train, validation).run(n_epochs=n_epochs)
    return {
        "epochs": n_epochs,
        "chosen_by": "leaving groups out",
        "held_out_loss": {"mean token": float(losses[0]), "chosen": float(losses[n_epochs])},
    }


def _options(base: TrainingOptions) -> TrainingOptions:
    return replace(
        base,
        learning_rate=base.learning_rate * RATE_OVER_BASE,
        decay_every=0,
        max_epochs=MOST_EPOCHS,
        patience=MOST_EPOCHS,
    )
