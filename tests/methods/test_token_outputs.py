"""Tokens of trials against the network's own pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from clipmused_bids.config import build_hyperparameters
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.network_kinds import CLIP_MUSED, SS_MLP, NetworkKind
from clipmused_bids.methods.randomised import untrained
from clipmused_bids.methods.token_outputs import token_outputs
from clipmused_bids.records import TrialData

QUICK: dict[str, Any] = {
    "model": {"width": 8, "depth": 1, "heads": 2, "n_regions": 3, "hidden_width": 8},
    "training": {"max_epochs": 2, "n_seeds": 2},
}


def fitted(data: TrialData, kind: NetworkKind = CLIP_MUSED, **model: Any) -> NetworkMethod:
    tables = {**QUICK, "model": {**QUICK["model"], **model}}
    method = NetworkMethod(kind, hyperparameters=build_hyperparameters(tables), seed=0, device="cpu")
    method.fit(data, data)
    return method


def test_tokens_are_those_of_a_pass_and_members_stand_side_by_side(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials(n_trials=20)
    method = fitted(data)
    # The second participant alone, in another order: whose token it is must not depend on the place among the data.
    wanted = data.of_participant("02").subset(np.arange(20)[::-1])
    found = token_outputs(method, wanted)
    assert sorted(found) == ["high", "low"]
    assert found["low"].shape == (20, 16)
    x = torch.as_tensor(wanted.responses[0].read(wanted.row))
    with torch.no_grad():
        for m, network in enumerate(method.fitted().members):
            output = network.eval()([x], [1])
            for name in ("low", "high"):
                own = found[name][:, 8 * m : 8 * m + 8]
                np.testing.assert_allclose(own, getattr(output, name).numpy(), atol=1e-5)


def test_a_network_without_a_pair_has_other_names(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_trials=20)
    assert list(token_outputs(fitted(data, tokens="one"), data)) == ["token"]
    alone = data.of_participant("01")
    assert token_outputs(fitted(alone, SS_MLP), alone) == {}


def test_random_weights_have_learned_nothing(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_trials=20)
    method = fitted(data)
    before = token_outputs(method, data)["low"]
    random = untrained(method, seed=5)
    own = [dict(one.named_parameters()) for one in random.fitted().members]
    for member, trained in zip(own, method.fitted().members, strict=True):
        same = [
            name for name, value in trained.named_parameters()
            if value.ndim > 1 and torch.equal(value, member[name])
        ]  # fmt: skip
        assert same == []
    tokens = token_outputs(random, data)["low"]
    assert np.abs(tokens - before).max() > 0.1
    np.testing.assert_array_equal(tokens, token_outputs(untrained(method, seed=5), data)["low"])
    np.testing.assert_array_equal(before, token_outputs(method, data)["low"])
    assert untrained(method, seed=5).fitted().signature == method.fitted().signature


def test_other_data_are_refused(make_trials: Callable[..., TrialData]) -> None:
    method = fitted(make_trials(n_trials=20))
    with pytest.raises(Exception, match="voxels in the mask"):
        token_outputs(method, make_trials(n_trials=20, n_voxels=39))
