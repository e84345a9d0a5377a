from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from clipmused_bids.config import build_hyperparameters
from clipmused_bids.evaluation.occlusion import occlusion
from clipmused_bids.methods import knock_out
from clipmused_bids.methods.knock_out import knocked_out
from clipmused_bids.methods.randomised import how_randomised, randomised
from clipmused_bids.methods.registry import create
from clipmused_bids.methods.token_attention import regions_of, token_attention, tokens_of
from clipmused_bids.records import FloatArray, TrialData

Make = Callable[..., TrialData]
QUICK = {
    "model": {"width": 8, "depth": 2, "heads": 2, "readout": "ridge"},
    "training": {"max_epochs": 2, "n_seeds": 2},
}


class ReadsRegionTwo:
    """Probabilities of both labels are the mean response of voxels 20 to 29, which are region 2."""

    def predict_proba(self, data: TrialData) -> FloatArray:
        values = np.concatenate(data.read())[:, 20:30].mean(axis=1)
        return np.repeat(1 / (1 + np.exp(-values))[:, None], data.labels.shape[1], axis=1).astype(float)


def fitted(trials: TrialData, method: str):  # type: ignore[no-untyped-def]
    made = create(method, hyperparameters=build_hyperparameters(QUICK), seed=3, device="cpu")
    made.fit(trials, trials)
    return made


def test_a_planted_region_is_found_with_its_drop(make_trials: Make) -> None:
    """Knocked out, all trials tie, and average precision falls to the prevalence."""
    trials = make_trials(n_participants=1)
    values = trials.responses[0].read(trials.row)[:, 20:30].mean(axis=1)
    labels = np.stack([values > 0.1, values > 0.2, values > 0, values > -0.1], axis=1).astype(np.float32)
    trials = replace(trials, labels=labels)
    region = np.arange(40) // 10
    predicted = knocked_out(ReadsRegionTwo(), trials, region, n_regions=4)
    found = occlusion(
        labels, predicted, fold=np.zeros(60, int), stimulus_id=trials.stimulus_id, single_label=False, seed=0
    )
    assert found.drop.tolist() == pytest.approx([0, 0, 1 - labels.mean(axis=0).mean(), 0])
    assert found.of_label[2] == pytest.approx(1 - labels.mean(axis=0))


def test_trials_in_portions_are_the_same(make_trials: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = make_trials(n_participants=1)
    region, counted = np.arange(40) // 10, []
    whole = knocked_out(ReadsRegionTwo(), trials, region, n_regions=4)
    monkeypatch.setattr(knock_out, "VALUES_AT_ONCE", 40 * 7)
    parts = knocked_out(ReadsRegionTwo(), trials, region, n_regions=4, done=counted.append)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert sum(counted) == 5 * 60


def test_voxels_of_no_region_always_stay(make_trials: Make) -> None:
    trials = make_trials(n_participants=1)
    region = np.where(np.arange(40) // 10 == 2, -1, 0)
    intact, without = knocked_out(ReadsRegionTwo(), trials, region, n_regions=1)
    np.testing.assert_array_equal(intact, without)


def test_weights_in_closed_form_are_shuffled_over_voxels(make_trials: Make) -> None:
    trials = make_trials(n_participants=1)
    ridge = fitted(trials, "ridge")
    other = randomised(ridge, draw=1, seed=5)
    state = ridge.state()
    coef, intercept = state["coef.01"], state["intercept.01"]
    order = other.order(40)  # type: ignore[attr-defined]
    shuffled = np.empty_like(coef)
    shuffled[order] = coef
    expected = np.clip(trials.read()[0] @ shuffled + intercept, 0, 1)
    np.testing.assert_allclose(other.predict_proba(trials), expected, atol=1e-6)
    assert not np.allclose(ridge.predict_proba(trials), expected, atol=0.05)
    assert "shuffled" in how_randomised(ridge)


def test_networks_are_drawn_anew_and_the_fitted_one_stays(make_trials: Make) -> None:
    trials = make_trials(n_regions=0)
    method = fitted(trials, "clip-mused")
    before = {name: value.copy() for name, value in method.state().items()}
    first, again, second = (randomised(method, draw=k, seed=0) for k in (0, 0, 1))
    same, drawn, other = (one.state() for one in (first, again, second))  # type: ignore[attr-defined]
    name = "member.0.tokens.subject"
    assert not np.allclose(drawn[name], before[name])
    assert not np.allclose(drawn[name], other[name])
    np.testing.assert_array_equal(drawn[name], same[name])
    readout = "member.1.readout.own.0"
    assert not np.array_equal(drawn[readout], before[readout])
    np.testing.assert_array_equal(np.sort(drawn[readout], axis=0), np.sort(before[readout], axis=0))
    for key, value in method.state().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize(
    ("method", "tokens"),
    [("clip-mused", ("Low", "High")), ("ms-emb", ("Class",)), ("ss-vit", ("Class",)), ("ridge", ())],
)
def test_attention_of_each_token_is_a_share(make_trials: Make, method: str, tokens: tuple[str, ...]) -> None:
    trials = make_trials()
    made = fitted(trials, method)
    assert tokens_of(made, "02") == tokens
    if not tokens:
        assert regions_of(made, "02") is None
        return
    np.testing.assert_array_equal(regions_of(made, "02"), np.arange(40) // 10)
    mine = trials.of_participant("02")
    members = token_attention(made, mine)
    assert len(members) == 2
    network = made.own("02") if method == "ss-vit" else made
    model = network.fitted().members[1]
    x, person = np.concatenate(mine.read()), 0 if method == "ss-vit" else 1
    import torch

    with torch.no_grad():
        last = model([torch.as_tensor(x)], [person], with_attention=True).attention[-1].mean(dim=1)
    for k, token in enumerate(tokens):
        found = members[1].of_token[token, "last block"]
        np.testing.assert_allclose(found, last[:, k, len(tokens) :].numpy(), atol=1e-5)
        assert (found.sum(axis=1) < 1).all()
        assert members[1].of_token[token, "rollout"].shape == (60, 4)
