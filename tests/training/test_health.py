from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.config import Hyperparameters, ModelOptions, TrainingOptions
from clipmused_bids.decoder.network import DecoderOutput
from clipmused_bids.methods.registry import create, restore
from clipmused_bids.records import History, TrialData
from clipmused_bids.training.health import (
    TokenProbe,
    TokenState,
    agreement,
    effective_rank,
    mean_cosine,
    token_states,
    warn_of,
)

Make = Callable[..., TrialData]
ONE_PERSON = np.zeros(200, dtype=int)
QUICK = Hyperparameters(
    model=ModelOptions(width=16, depth=1, heads=2, head="linear", n_regions=4, alignment="random"),
    training=TrainingOptions(max_epochs=3, perp_scale="batch+width"),
)


def halves(data: TrialData) -> tuple[TrialData, TrialData]:
    return data.subset(np.flatnonzero(data.group < 4)), data.subset(np.flatnonzero(data.group >= 4))


def test_effective_rank_counts_directions_that_vary_alike() -> None:
    generator = np.random.default_rng(0)
    for k in (1, 3, 8):
        directions = np.linalg.qr(generator.standard_normal((12, k)))[0]
        scores = generator.standard_normal((200, k))
        scores = np.linalg.qr(scores - scores.mean(axis=0))[0]
        assert effective_rank(5 + scores @ directions.T, ONE_PERSON) == pytest.approx(k, rel=1e-6)


@pytest.mark.parametrize("shape", [(200, 7), (30, 90)])
def test_effective_rank_is_the_exponential_of_scipys_entropy_of_variances(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(1).standard_normal(shape) * np.linspace(0.1, 3, shape[1])
    variances = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    found = effective_rank(x, np.zeros(len(x), dtype=int))
    assert found == pytest.approx(np.exp(entropy(variances / variances.sum())), rel=1e-6)


def test_what_differs_between_people_only_is_no_direction() -> None:
    """A token that knows the participant and nothing of the stimulus has collapsed."""
    people = np.arange(60) % 5
    token = np.random.default_rng(0).standard_normal((5, 8))[people]
    assert effective_rank(token, people) == 0
    assert effective_rank(token, np.zeros(60, dtype=int)) > 2
    assert mean_cosine(cosine_similarity(token), people) == pytest.approx(1)
    assert mean_cosine(cosine_similarity(token), np.zeros(60, dtype=int)) < 0.9


def test_tokens_that_are_no_numbers_have_no_state(make_trials: Make) -> None:
    data = make_trials()
    probe = TokenProbe(data, data, seed=0)
    token = torch.full((120, 4), float("nan"))
    probe.see(np.arange(120), DecoderOutput(torch.zeros(1), low=token, high=torch.ones(120, 4)))
    row = probe.measure()
    assert np.isnan([row["rank_low"], row["cosine_low"], row["agreement_low_high"]]).all()
    assert row["rank_high"] == 0


def test_mean_cosine_is_over_pairs_of_different_trials() -> None:
    token = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    found = mean_cosine(cosine_similarity(token), np.array([0, 0, 0, 1]))
    assert found == pytest.approx((0 + 1 + 0) / 3)
    assert np.isnan(mean_cosine(np.eye(2), np.array([0, 1])))


def test_agreement_is_the_correlation_over_the_pairs_alone() -> None:
    generator = np.random.default_rng(0)
    found, target = (cosine_similarity(generator.standard_normal((9, 4))) for _ in range(2))
    pairs = np.triu(np.ones((9, 9), dtype=bool), k=1)
    pairs[0, 1] = False
    expected = np.corrcoef(found[pairs], target[pairs])[0, 1]
    target[0, 1] = 1e6
    assert agreement(found, target, pairs) == pytest.approx(expected)
    assert np.isnan(agreement(np.ones((9, 9)), target, pairs))


def test_each_token_is_compared_with_both_levels(make_trials: Make) -> None:
    """Tokens that are CLIP's features of the other level agree fully with that one, and with no other."""
    data = make_trials(n_trials=100)
    validation = data.subset(np.flatnonzero(data.group >= 5))
    probe = TokenProbe(data, validation, seed=0)
    low = torch.as_tensor(data.targets.low[validation.stimulus])
    high = torch.as_tensor(data.targets.high[validation.stimulus])
    order = np.random.default_rng(0).permutation(validation.n_trials)
    for index in np.array_split(order, 3):
        probe.see(index, DecoderOutput(torch.zeros(len(index), 4), low=high[index], high=2 * low[index]))
    row = probe.measure()
    assert row["agreement_low_high"] == pytest.approx(1, abs=1e-6)
    assert row["agreement_high_low"] == pytest.approx(1, abs=1e-6)
    assert abs(row["agreement_low_low"]) < 0.3
    assert abs(row["agreement_high_high"]) < 0.3
    assert probe.measure() == {}


def test_pairs_of_one_stimulus_and_unknown_stimuli_do_not_count(make_trials: Make) -> None:
    """Both participants saw the same stimuli: a token of the stimulus alone would agree by their pairs."""
    data = make_trials(n_trials=60)
    stimulus = data.stimulus.copy()
    stimulus[3] = -1
    high = data.targets.high.copy()
    high[7] = 0
    data = replace(data, stimulus=stimulus, targets=replace(data.targets, high=high))
    probe = TokenProbe(data, data, seed=0)
    token = np.random.default_rng(0).standard_normal((data.n_trials, 6))
    probe.see(np.arange(data.n_trials), DecoderOutput(torch.zeros(1), token=torch.as_tensor(token)))
    pairs = [
        (i, j)
        for i in range(120)
        for j in range(i + 1, 120)
        if stimulus[i] != stimulus[j]
        and min(stimulus[i], stimulus[j]) >= 0
        and 7 not in {stimulus[i], stimulus[j]}
    ]
    clip = cosine_similarity(high[np.maximum(stimulus, 0)])
    own = cosine_similarity(token)
    expected = np.corrcoef([own[p] for p in pairs], [clip[p] for p in pairs])[0, 1]
    assert probe.measure()["agreement_token_high"] == pytest.approx(expected, abs=1e-6)


def test_the_probe_is_validation_trials_where_there_are_enough(make_trials: Make) -> None:
    data = make_trials(n_trials=400)
    many, few = data.subset(np.arange(300)), data.subset(np.arange(300, 315))
    assert len(TokenProbe(data, many, seed=0).index) == 256
    probe = TokenProbe(data, few, seed=0)
    assert not probe.of_validation
    assert len(probe.index) == 800 // 20
    unknown = replace(many, labels=np.full_like(many.labels, np.nan))
    assert not TokenProbe(data, unknown, seed=0).of_validation
    np.testing.assert_array_equal(TokenProbe(data, many, seed=3).index, TokenProbe(data, many, seed=3).index)


@pytest.mark.parametrize("n_validation", [40, 0])
def test_history_has_the_state_of_both_tokens(make_trials: Make, n_validation: int) -> None:
    train, validation = halves(make_trials())
    method = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
    history = method.fit(train, validation.subset(np.arange(n_validation)))
    names = [f"{what}_{token}" for what in ("rank", "cosine") for token in ("low", "high")]
    names += [f"agreement_{token}_{level}" for token in ("low", "high") for level in ("low", "high")]
    for name in names:
        assert np.isfinite(history.columns[name]).all()
        assert len(history.columns[name]) == 4
    tokens = method.summary()["tokens"]
    assert [one["token"] for one in tokens] == ["low", "high"]
    assert tokens[1]["effective_rank"] == pytest.approx(
        history.columns["rank_high"][history.best_epoch], abs=1e-4
    )
    assert restore("clip-mused", method.state(), method.config()).summary()["tokens"] == tokens


def test_looking_at_tokens_changes_nothing(make_trials: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for measure in (TokenProbe.measure, lambda _: {}):
        monkeypatch.setattr(TokenProbe, "measure", measure)
        method = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
        train, validation = halves(make_trials())
        method.fit(train, validation.subset(np.arange(10)))
        states.append(method.state())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("name", "token"), [("ms-smodel-mlp", None), ("ms-emb", "token")])
def test_networks_without_a_pair_have_no_columns_of_one(
    make_trials: Make, name: str, token: str | None
) -> None:
    method = create(name, hyperparameters=QUICK, seed=0, device="cpu")
    columns = method.fit(*halves(make_trials())).columns
    assert {key for key in columns if key.startswith(("rank_", "cosine_", "agreement_"))} == (
        {f"rank_{token}", f"cosine_{token}"} if token else set()
    )


def test_a_collapsed_decoder_is_named_in_log_and_configuration(
    make_trials: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Responses that do not differ leave the tokens nothing to tell trials apart by."""
    data = make_trials()
    tables = tuple(replace(table, sd=tuple(1e9 * sd for sd in table.sd)) for table in data.responses)
    method = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
    with caplog.at_level(logging.WARNING):
        method.fit(*halves(replace(data, responses=tables)))
    for level in ("low", "high"):
        assert f"the {level}-level token at the kept epoch: two trials of a participant" in caplog.text
    assert all(one["complaints"] for one in method.summary()["tokens"])


def test_a_healthy_decoder_is_not_complained_of(make_trials: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        method = create("clip-mused", hyperparameters=QUICK, seed=0, device="cpu")
        method.fit(*halves(make_trials()))
    assert "tokens:" not in caplog.text
    assert [one["complaints"] for one in method.summary()["tokens"]] == [[], []]


@pytest.mark.parametrize(
    ("rank", "cosine", "norm", "said"),
    [
        (8.0, 0.3, 1.0, []),
        (1.2, 0.3, 1.0, ["one direction only (effective rank 1.20)"]),
        (0.5, 0.995, 1.0, ["mean cosine 0.995"]),
        (8.0, 0.3, 25.0, ["norm is 25 times"]),
        (1.0, 0.3, 11.0, ["one direction", "norm is 11 times"]),
        (float("nan"), float("nan"), float("nan"), []),
    ],
)
def test_what_is_complained_of(rank: float, cosine: float, norm: float, said: list[str]) -> None:
    found = TokenState("low", rank, cosine, norm, {}).complaints()
    assert len(found) == len(said)
    for one, expected in zip(found, said, strict=True):
        assert expected in one


def test_the_state_is_that_of_the_kept_epoch(caplog: pytest.LogCaptureFixture) -> None:
    nan = float("nan")
    history = History(
        columns={
            "rank_low": (5.0, 1.1, 6.0),
            "cosine_low": (0.1, 0.2, 0.3),
            "agreement_low_high": (0.0, 0.4, nan),
            "norm_low": (nan, 8.0, 8.0),
        },
        best_epoch=1,
        stopped="",
    )
    (state,) = token_states(history, width=16)
    assert (state.effective_rank, state.mean_cosine, state.relative_norm) == (1.1, 0.2, 2.0)
    assert state.as_table()["agreement_high"] == 0.4
    with caplog.at_level(logging.WARNING):
        warn_of([state])
    assert "tokens: the low-level token at the kept epoch: trials differ along one direction" in caplog.text
