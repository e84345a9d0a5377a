"""Whether a trained decoder can take a new participant."""

from __future__ import annotations

from dataclasses import replace

from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.fitted_network import FittedNetwork
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.records import TrialData


def require_adaptable(base: Method, train: TrialData) -> NetworkMethod:
    """See that a base can take the participant of these trials.

    Raises
    ------
    UsageError
        If the base's method has nothing that a new participant could share, or nothing links his voxels to it.
    DataError
        If the base knows him already, or has other labels, kinds of labels or voxels.
    """
    if not isinstance(base, NetworkMethod):
        raise UsageError(
            f"a new participant: a decoder of method {type(base).__name__} shares nothing that he could use.",
            hint="the base must be a group's deep decoder: group --train --method clip-mused",
        )
    if len(train.participants) != 1:
        raise DataError(f"a new participant: expected one, got {len(train.participants)}.")
    fitted = base.fitted()
    who, signature = train.participants[0], fitted.signature
    if who in signature.masks:
        raise DataError(
            f"sub-{who}: the base knows this participant already.", hint="decode with the base itself"
        )
    if fitted.label_loss == "softmax" and train.n_trials and not train.single_label:
        raise DataError(
            f"sub-{who}: the base was trained on trials of exactly one label each; these may have several, or none.",
            hint='a base trained with training.label_loss = "binary" reads such trials',
        )
    # Labels, then, in a common space, voxels.
    replace(signature, any_participant=True).check(replace(train, participants=(), responses=(), spaces=()))
    if fitted.architecture.common_space != train.common_space:
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
    if fitted.architecture.own_maps:
        _require_link(fitted, train)
    elif not train.common_space:
        raise UsageError(
            f"sub-{who}: in native space the base reads one participant's own voxels, and no one else's.",
            hint="train the base with several participants: group --train",
        )
    return base


def _require_link(base: FittedNetwork, train: TrialData) -> None:
    who = train.participants[0]
    if train.n_trials == 0:
        raise UsageError(
            f"sub-{who}: without calibration trials nothing links his voxels to the base's features.",
            hint="give some with --calibration-trials; none are needed only in a common space",
        )
    if len(base.templates) != len(base.members):
        raise DataError(
            "the base holds no template of shared features: it knows one participant only, or is older than they are.",
            hint="train it with several participants; --overwrite trains it again",
        )
