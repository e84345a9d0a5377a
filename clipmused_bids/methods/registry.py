"""All methods by name; their modules, with torch, are loaded when a method is built."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clipmused_bids.config import Hyperparameters
from clipmused_bids.errors import UsageError
from clipmused_bids.methods import network_kinds
from clipmused_bids.methods.network_kinds import NetworkKind

if TYPE_CHECKING:
    # --help lists the methods, and must not wait for numpy.
    from numpy.typing import NDArray

    from clipmused_bids.methods.base import Method
    from clipmused_bids.methods.logistic import Logistic
    from clipmused_bids.methods.prevalence import Prevalence
    from clipmused_bids.methods.ridge import Ridge
    from clipmused_bids.methods.ridge_stack import RidgeStack
    from clipmused_bids.methods.srm import SharedResponse


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What is known of a method before it is built.

    Parameters
    ----------
    per_participant : bool
        Each participant is fitted alone.
    deep : bool
        Reads the tables ``model`` and ``training`` of the hyper-parameters: it is a network.
    guided : bool
        Reads CLIP targets of the stimuli, and the table ``targets``.
    linear : bool
        A rival of the kind that a decoder must beat: its log-odds or scores are linear in the responses.
    least_participants : int
        Fewest participants that it can be fitted to.
    description : str
        One line for tables and reports.
    create : callable
        ``create(hyperparameters, seed, device) -> Method``.
    restore : callable
        ``restore(tensors, config) -> Method``.
    network : NetworkKind or None
        Which network a deep method trains.
    """

    per_participant: bool
    deep: bool = False
    guided: bool = False
    linear: bool = False
    least_participants: int = 1
    description: str
    create: Callable[[Hyperparameters, int, str], Method]
    restore: Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], Method]
    network: NetworkKind | None = None

    @property
    def reads_regions(self) -> bool:
        """Whether regions of an atlas may become patches."""
        return self.network is not None and self.network.reads == "patches"


def _network(kind: NetworkKind, description: str) -> MethodInfo:
    """Make the entry of a method that trains one network for all participants."""

    def create(hyperparameters: Hyperparameters, seed: int, device: str) -> Method:
        from clipmused_bids.methods.network import NetworkMethod

        return NetworkMethod(kind, hyperparameters=hyperparameters, seed=seed, device=device)

    def restore(tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Method:
        from clipmused_bids.methods.network import NetworkMethod

        return NetworkMethod.restore(kind, tensors, config)

    return MethodInfo(
        per_participant=False,
        deep=True,
        guided=kind.guided,
        description=description,
        create=create,
        restore=restore,
        network=kind,
    )


def _network_of_each(kind: NetworkKind, description: str) -> MethodInfo:
    """Make the entry of a method that trains a network for each participant."""
    joint = _network(kind, description)

    def create(hyperparameters: Hyperparameters, seed: int, device: str) -> Method:
        from clipmused_bids.methods.each_participant import EachParticipant

        return EachParticipant(lambda: joint.create(hyperparameters, seed, device))

    def restore(tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Method:
        from clipmused_bids.methods.each_participant import EachParticipant

        return EachParticipant.restore(joint.restore, tensors, config)

    return replace(joint, per_participant=True, create=create, restore=restore)


def _ridge() -> type[Ridge]:
    from clipmused_bids.methods.ridge import Ridge

    return Ridge


def _ridge_stack() -> type[RidgeStack]:
    from clipmused_bids.methods.ridge_stack import RidgeStack

    return RidgeStack


def _logistic() -> type[Logistic]:
    from clipmused_bids.methods.logistic import Logistic

    return Logistic


def _srm() -> type[SharedResponse]:
    from clipmused_bids.methods.srm import SharedResponse

    return SharedResponse


def _prevalence() -> type[Prevalence]:
    from clipmused_bids.methods.prevalence import Prevalence

    return Prevalence


METHODS: dict[str, MethodInfo] = {
    "clip-mused": _network(
        network_kinds.CLIP_MUSED, "CLIP-guided multi-subject transformer (Zhou et al. 2024)"
    ),
    "ms-emb": _network(
        network_kinds.MS_EMB, "shared transformer, class token of each participant (Chehab et al. 2022)"
    ),
    "ms-smodel-vit": _network(
        network_kinds.MS_SMODEL_VIT,
        "shared transformer of pooled trials, no subject information (native space: own maps)",
    ),
    "ms-smodel-mlp": _network(
        network_kinds.MS_SMODEL_MLP,
        "shared perceptron of pooled trials, no subject information (native space: own maps)",
    ),
    "ss-vit": _network_of_each(network_kinds.SS_VIT, "transformer for each participant"),
    "ss-mlp": _network_of_each(network_kinds.SS_MLP, "multilayer perceptron for each participant"),
    "ridge": MethodInfo(
        per_participant=True,
        linear=True,
        description="ridge regression for each participant, penalty by leaving groups out",
        create=lambda hyperparameters, _seed, _device: _ridge()(
            scope="participant", alphas=hyperparameters.linear.alphas, fit_on=hyperparameters.fit_on
        ),
        restore=lambda tensors, config: _ridge().restore(tensors, config),
    ),
    "ridge-pooled": MethodInfo(
        per_participant=False,
        linear=True,
        description="one ridge regression for all participants (native space: after aligning them by ridge)",
        create=lambda hyperparameters, _seed, _device: _ridge()(
            scope="pooled", alphas=hyperparameters.linear.alphas, fit_on=hyperparameters.fit_on
        ),
        restore=lambda tensors, config: _ridge().restore(tensors, config),
    ),
    "ridge-stack": MethodInfo(
        per_participant=False,
        linear=True,
        description="weighted sum of ridge regressions, with voxels as they are and weighted by what labels explain",
        create=lambda hyperparameters, _seed, _device: _ridge_stack()(
            alphas=hyperparameters.linear.alphas, fit_on=hyperparameters.fit_on
        ),
        restore=lambda tensors, config: _ridge_stack().restore(tensors, config),
    ),
    "logistic": MethodInfo(
        per_participant=True,
        linear=True,
        description="logistic regression for each participant, penalty by leaving groups out",
        create=lambda hyperparameters, _seed, _device: _logistic()(
            cs=hyperparameters.linear.logistic_c, fit_on=hyperparameters.fit_on
        ),
        restore=lambda tensors, config: _logistic().restore(tensors, config),
    ),
    "srm": MethodInfo(
        per_participant=False,
        linear=True,
        least_participants=2,
        description="shared response model (Chen et al. 2015) with one logistic regression for all",
        create=lambda hyperparameters, seed, _device: _srm()(
            n_features=hyperparameters.linear.srm_features,
            cs=hyperparameters.linear.logistic_c,
            fit_on=hyperparameters.fit_on,
            seed=seed,
        ),
        restore=lambda tensors, config: _srm().restore(tensors, config),
    ),
    "prevalence": MethodInfo(
        per_participant=True,
        description="each label's training frequency",
        create=lambda hyperparameters, _seed, _device: _prevalence()(fit_on=hyperparameters.fit_on),
        restore=lambda tensors, config: _prevalence().restore(tensors, config),
    ),
}


def create(name: str, *, hyperparameters: Hyperparameters, seed: int, device: str) -> Method:
    """Build a method that is not fitted yet.

    Raises
    ------
    UsageError
        If there is no such method; names the nearest.
    """
    return _find(name).create(hyperparameters, seed, device)


def restore(name: str, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Method:
    """Build a fitted method from what its ``state`` and ``config`` gave; predictions are the same.

    Raises
    ------
    UsageError
        If there is no such method.
    DataError
        If the tensors do not fit the configuration.
    """
    return _find(name).restore(tensors, config)


def _find(name: str) -> MethodInfo:
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(METHODS)}"
        raise UsageError(f"--method {name}: unknown method.", hint=hint)
    return METHODS[name]
