"""The stack of ridges as a decoder of its own: what the default decoder starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import Hyperparameters, LinearOptions, ModelOptions
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.context import FitContext
from clipmused_bids.methods.linear_fit import predict
from clipmused_bids.methods.readouts import start_bias, start_readout
from clipmused_bids.methods.registry import create
from clipmused_bids.methods.ridge_stack import RidgeStack
from clipmused_bids.methods.stacking import fit_members
from clipmused_bids.records import ResponseTable, TrialData

ALPHAS = (0.01, 0.1, 1.0, 10.0)
LINEAR = Hyperparameters(linear=LinearOptions(alphas=ALPHAS))
DEFAULT = ModelOptions(
    width=16,
    depth=1,
    heads=2,
    head="linear",
    n_shared=5,
    n_patches=3,
    readout="stack",
    voxel_weights="labels",
)
both_losses = pytest.mark.parametrize("single_label", [False, True], ids=["sigmoid", "softmax"])
both_spaces = pytest.mark.parametrize("common_space", [True, False], ids=["common", "native"])


def trials(
    make_trials: Callable[..., TrialData], *, single_label: bool = False, **options: object
) -> tuple[TrialData, TrialData]:
    """Training trials and others."""
    data = make_trials(n_trials=90, effect=0.5, n_regions=0, **options)
    if single_label:
        labels = np.eye(4, dtype=np.float32)[np.argmax(data.labels, axis=1)]
        data = replace(data, labels=labels, single_label=True)
    first = data.group % 3 < 2
    return data.subset(np.flatnonzero(first)), data.subset(np.flatnonzero(~first))


def fitted(train: TrialData) -> RidgeStack:
    method = create("ridge-stack", hyperparameters=LINEAR, seed=0, device="cpu")
    assert isinstance(method, RidgeStack)
    method.fit(train, train.subset(np.empty(0, dtype=int)))
    return method


@both_losses
@both_spaces
def test_it_is_the_decoder_before_its_training(
    make_trials: Callable[..., TrialData], common_space: bool, single_label: bool
) -> None:
    """The network adds only what the small start of its classifier on the tokens says."""
    train, test = trials(make_trials, common_space=common_space, single_label=single_label)
    loss = "softmax" if single_label else "binary"
    torch.manual_seed(0)
    model = build_decoder(choose_architecture(train, DEFAULT), DEFAULT, n_participants=2).eval()
    start_bias(model, train, loss=loss)
    start_readout(model, train, options=DEFAULT, alphas=ALPHAS, loss=loss)
    assert isinstance(model.readout, FixedReadout)
    probability = fitted(train).predict_proba(test)
    for p, x in enumerate(test.read()):
        mine = probability[test.participant == p]
        scores = model.readout(model.readout.scores(torch.as_tensor(x), p))
        bias = model.head[-1].bias
        logits = (scores + bias).detach().numpy()
        np.testing.assert_allclose(
            mine, softmax(logits, axis=1) if single_label else expit(logits), atol=1e-5
        )
        whole = model([torch.as_tensor(x)], [p]).logits.detach().numpy()
        begun = softmax(whole, axis=1) if single_label else expit(whole)
        np.testing.assert_allclose(begun, mine, atol=0.02)
        for c in range(4):
            assert np.corrcoef(rankdata(begun[:, c]), rankdata(mine[:, c]))[0, 1] > 0.99


@both_spaces
def test_logits_are_the_prior_and_the_weighted_scores_of_the_members(
    make_trials: Callable[..., TrialData], common_space: bool
) -> None:
    train, test = trials(make_trials, common_space=common_space)
    method = fitted(train)
    p = train.labels.mean(axis=0, dtype=float)
    expected = np.tile(logit(p), (test.n_trials, 1))
    members = fit_members(train, alphas=ALPHAS, voxel_weights="labels", loss="binary")
    weights = method.summary()["weights"]
    assert set(weights) == set(members)
    assert max(weights.values()) > 0.1
    for name, member in members.items():
        expected += weights[name] * (predict(member.maps, test) - p) / (p * (1 - p))
    np.testing.assert_allclose(logit(method.predict_proba(test)), expected, atol=1e-8)


def test_single_labels_get_probabilities_that_sum_to_1(make_trials: Callable[..., TrialData]) -> None:
    train, test = trials(make_trials, single_label=True)
    probability = fitted(train).predict_proba(test)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    assert (probability.argmax(axis=1) == test.labels.argmax(axis=1)).mean() > 0.6
    several, rest = trials(make_trials)
    assert np.abs(fitted(several).predict_proba(rest).sum(axis=1) - 1).max() > 0.05


def test_it_decodes_new_people_of_a_common_space_and_nobody_else(
    make_trials: Callable[..., TrialData],
) -> None:
    train, test = trials(make_trials, n_participants=3)
    known = replace(
        train.subset(np.flatnonzero(train.participant < 2)),
        participants=train.participants[:2], responses=train.responses[:2], spaces=train.spaces[:2],
    )  # fmt: skip
    method = fitted(known)
    assert method.summary()["per_participant"] == {}
    assert method.summary()["shared"] == 40 * 4 + 4
    new = test.of_participant("03")
    assert roc_auc_score(new.labels, method.predict_proba(new)) > 0.9
    native, _ = trials(make_trials, common_space=False)
    assert fitted(native).summary()["per_participant"] == {"01": 164, "02": 164}


def test_it_beats_the_ridge_where_most_voxels_are_silent(make_trials: Callable[..., TrialData]) -> None:
    train, test = trials(make_trials, n_voxels=440, common_space=False)
    tables = []
    for table in train.responses:
        values = table.read(np.arange(table.n_rows)).copy()
        values[:, 40:] = np.random.default_rng(9).standard_normal((len(values), 400))
        tables.append(ResponseTable((values,), table.columns[:1], table.mean[:1], table.sd[:1]))
    train, test = (replace(part, responses=tuple(tables)) for part in (train, test))
    area = {}
    for name in ("ridge", "ridge-stack"):
        method = create(name, hyperparameters=LINEAR, seed=0, device="cpu")
        method.fit(train, train.subset(np.empty(0, dtype=int)))
        area[name] = roc_auc_score(test.labels, method.predict_proba(test))
    assert area["ridge-stack"] > area["ridge"] + 0.02


def test_a_single_run_that_shows_each_condition_once_still_decodes(
    make_trials: Callable[..., TrialData],
) -> None:
    """Whatever is fitted without a condition cannot know it, so held-out parts speak against every decoder."""
    train, test = trials(make_trials, single_label=True, common_space=False)
    train, test = train.of_participant("01"), test.of_participant("01")
    once = np.array([np.flatnonzero(train.labels[:, label] == 1)[0] for label in range(4)])
    one_run = replace(train.subset(once), group=np.zeros(4, dtype=int))
    probability = fitted(one_run).predict_proba(test)
    assert np.ptp(probability, axis=0).max() > 0.01
    assert roc_auc_score(test.labels, probability) > 0.6


def test_the_history_says_what_each_member_counts(make_trials: Callable[..., TrialData]) -> None:
    train, test = trials(make_trials, common_space=False)
    method = create("ridge-stack", hyperparameters=LINEAR, seed=0, device="cpu")
    rows: list[dict[str, float]] = []
    history = method.fit(train, test, context=FitContext(report=rows.append))
    assert rows == [{name: column[0] for name, column in history.columns.items()}]
    columns = {"weight_each", "weight_each_weighted", "weight_pooled", "weight_pooled_weighted"}
    assert set(rows[0]) == {"epoch", "val_map"} | columns
    assert rows[0]["val_map"] > 0.7
