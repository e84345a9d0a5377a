"""All methods by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from clipmused_bids.config import Hyperparameters
from clipmused_bids.errors import UsageError
from clipmused_bids.methods.base import Method, MethodInfo
from clipmused_bids.methods.clip_mused import ClipMusedMethod
from clipmused_bids.methods.prevalence import Prevalence
from clipmused_bids.methods.ridge import Ridge

METHODS: dict[str, MethodInfo] = {
    "clip-mused": MethodInfo(
        per_participant=False,
        deep=True,
        description="CLIP-guided multi-subject transformer (Zhou et al. 2024)",
        create=lambda hyperparameters, seed, device: ClipMusedMethod(
            hyperparameters=hyperparameters, seed=seed, device=device
        ),
        restore=ClipMusedMethod.restore,
    ),
    "ridge": MethodInfo(
        per_participant=True,
        deep=False,
        description="ridge regression for each participant, penalty by leaving groups out",
        create=lambda hyperparameters, _seed, _device: Ridge(
            scope="participant", alphas=hyperparameters.linear.alphas, fit_on=hyperparameters.fit_on
        ),
        restore=Ridge.restore,
    ),
    "ridge-pooled": MethodInfo(
        per_participant=False,
        deep=False,
        description="one ridge regression for all participants (native space: after aligning them by ridge)",
        create=lambda hyperparameters, _seed, _device: Ridge(
            scope="pooled", alphas=hyperparameters.linear.alphas, fit_on=hyperparameters.fit_on
        ),
        restore=Ridge.restore,
    ),
    "prevalence": MethodInfo(
        per_participant=True,
        deep=False,
        description="each label's training frequency",
        create=lambda hyperparameters, _seed, _device: Prevalence(fit_on=hyperparameters.fit_on),
        restore=Prevalence.restore,
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
