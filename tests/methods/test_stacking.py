"""Linear decoders in a stack: what they learn from, what they count, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from clipmused_bids.decoder.losses import label_loss
from clipmused_bids.methods import stacking
from clipmused_bids.methods.linear_fit import fit_each
from clipmused_bids.methods.ridge_solver import folds_of, ridge_path, trial_rows
from clipmused_bids.methods.stacking import cross_fit, fit_members, predict, scores_of, stack
from clipmused_bids.methods.voxel_weights import label_weights, weighted
from clipmused_bids.records import ResponseTable, TrialData

ALPHAS = (0.01, 0.1, 1.0, 10.0)


def with_silent_voxels(
    make_trials: Callable[..., TrialData], *, n_silent: int, **options: object
) -> TrialData:
    """Trials whose last voxels are noise."""
    data = make_trials(n_voxels=40 + n_silent, n_regions=0, **options)
    generator = np.random.default_rng(9)
    tables = []
    for table in data.responses:
        values = table.read(np.arange(table.n_rows))
        values[:, 40:] = generator.standard_normal((len(values), n_silent))
        tables.append(ResponseTable((values,), table.columns[:1], table.mean[:1], table.sd[:1]))
    return replace(data, responses=tuple(tables))


def adjusted_r_squared(labels: np.ndarray, voxel: np.ndarray) -> float:
    n, n_labels = labels.shape
    r_squared = LinearRegression().fit(labels.astype(float), voxel).score(labels.astype(float), voxel)
    return 1 - (1 - r_squared) * (n - 1) / (n - 1 - n_labels)


def test_weights_are_the_adjusted_r_squared_of_the_labels(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(common_space=False, effect=0.5)
    for p, (weight, x) in enumerate(zip(label_weights(data), data.read(), strict=True)):
        labels = data.labels[data.participant == p]
        expected = np.array([max(0.0, adjusted_r_squared(labels, voxel)) for voxel in x.T])
        np.testing.assert_allclose(weight, expected / np.sqrt(np.mean(expected**2)), rtol=1e-4, atol=1e-6)


def test_weights_of_a_common_space_are_of_all_trials_together(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(effect=0.5)
    first, second = label_weights(data)
    np.testing.assert_array_equal(first, second)
    x = np.concatenate(data.read())
    ratio = adjusted_r_squared(data.labels, x[:, 3]) / adjusted_r_squared(data.labels, x[:, 7])
    assert first[3] / first[7] == pytest.approx(ratio, rel=1e-4)


def test_too_few_trials_weigh_voxels_alike(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_participants=1, n_trials=60).subset(np.arange(4))
    np.testing.assert_array_equal(label_weights(data)[0], np.ones(40))


def test_a_voxel_of_weight_zero_reads_as_zero_and_others_as_multiples(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials(n_participants=1)
    weight = np.where(np.arange(40) < 20, 0.0, 2.5)
    x, (read,) = data.read()[0], weighted(data, [weight]).read()
    np.testing.assert_allclose(read, x * weight, rtol=1e-5, atol=1e-6)
    assert not read[:, :20].any()


def test_weighted_voxels_decode_better_where_most_are_silent(make_trials: Callable[..., TrialData]) -> None:
    data = with_silent_voxels(make_trials, n_silent=400, effect=0.5, n_trials=90, common_space=False)
    train = data.subset(np.flatnonzero(data.group % 3 < 2))
    test = data.subset(np.flatnonzero(data.group % 3 == 2))
    members = fit_members(train, alphas=ALPHAS, voxel_weights="labels", loss="binary")
    correlation = {
        name: np.corrcoef(predict(one.maps, test).ravel(), test.labels.ravel())[0, 1]
        for name, one in members.items()
    }
    assert correlation["each, weighted"] > correlation["each"] + 0.05


def test_a_path_is_the_ridge_at_each_penalty(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_participants=1)
    labels = data.labels.copy()
    labels[:7, 1] = np.nan
    path = ridge_path(trial_rows(data), labels, alphas=ALPHAS)
    for alpha, (coef, intercept) in zip(ALPHAS, path, strict=True):
        alone = fit_each(replace(data, labels=labels), alphas=(alpha,)).maps["01"]
        np.testing.assert_allclose(coef, alone.coef, atol=1e-10)
        np.testing.assert_allclose(intercept, alone.intercept, atol=1e-10)


@pytest.mark.parametrize("common_space", [True, False])
def test_held_out_predictions_do_not_see_their_group(
    make_trials: Callable[..., TrialData], common_space: bool
) -> None:
    """Other labels and other responses in the rest of the data change a prediction; its own labels never do."""
    data = make_trials(common_space=common_space, effect=0.5)
    fold = folds_of(data.group)
    mine = fold == 2
    turned = data.labels.copy()
    turned[mine] = 1 - turned[mine]
    others = data.labels.copy()
    others[~mine] = 1 - others[~mine]
    for path in (stacking._each, stacking._pooled):
        unweighted = partial(path, alphas=(1.0,))
        for fit in (unweighted, stacking._of_weighted_voxels(unweighted)):
            found = [
                cross_fit(replace(data, labels=labels), fit, fold=fold, loss="binary").held_out[mine]
                for labels in (data.labels, turned, others)
            ]
            np.testing.assert_array_equal(found[0], found[1])
            assert not np.allclose(found[0], found[2])


@pytest.mark.parametrize("loss", ["binary", "softmax"])
def test_a_stack_is_never_worse_than_its_best_member(
    loss: str, make_trials: Callable[..., TrialData]
) -> None:
    data = make_trials(effect=0.3, common_space=False)
    if loss == "softmax":
        labels = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, data.n_trials)]
        data = replace(data, labels=labels, single_label=True)
    members = fit_members(data, alphas=ALPHAS, voxel_weights="labels", loss=loss)
    scores = [scores_of(one.held_out, data) for one in members.values()]
    together = stack(scores, data, loss=loss)

    def objective(weights: np.ndarray) -> float:
        """The labels' loss by torch, and the prior of the weights."""
        prior = torch.as_tensor(stacking.prior_logits(data, loss=loss))
        logits = prior + torch.as_tensor(np.tensordot(weights, np.stack(scores), axes=1))
        n_terms = data.n_trials if loss == "softmax" else data.labels.size
        away = weights - 1 / len(weights)
        value = label_loss(logits.double(), torch.as_tensor(data.labels), kind=loss)
        return float(value) + stacking.PRIOR / 2 * float(away @ away) / n_terms

    assert together.loss == pytest.approx(objective(together.weights), rel=1e-5)
    for k in range(len(scores)):
        for size in (0.5, 1.0, 1.5):
            assert together.loss <= objective(size * np.eye(len(scores))[k]) + 1e-6
    assert (together.weights >= 0).all()


def test_a_useless_member_of_a_stack_counts_nothing(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_trials=300)
    member = fit_members(data, alphas=ALPHAS, voxel_weights="none", loss="binary")["pooled"]
    good = scores_of(member.held_out, data)
    weights = stack([good, -good], data, loss="binary").weights
    assert weights[0] > 0.7
    assert weights[1] == 0


def test_decoders_too_dear_to_refit_are_left_out(
    make_trials: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_trials(common_space=False)
    whole = fit_members(data, alphas=ALPHAS, voxel_weights="labels", loss="binary")
    assert set(whole) == {"each", "each, weighted", "pooled", "pooled, weighted"}
    monkeypatch.setattr(stacking, "MOST_OPERATIONS", stacking.refit_operations(data) / 2)
    few = fit_members(data, alphas=ALPHAS, voxel_weights="labels", loss="binary")
    assert set(few) == {"each", "pooled"}
    np.testing.assert_array_equal(few["each"].held_out, fit_each(data, alphas=ALPHAS).held_out)


def test_the_largest_study_refits_nothing() -> None:
    """Eight people, 30,000 trials and 15,000 voxels each: more than an hour, by the sizes alone."""
    nsd = stacking.operations([(30_000, 15_000)] * 8, n_fits=6)
    # Gram matrices of 15,000 voxels, and their eigendecompositions.
    assert nsd == pytest.approx(8 * 6 * (30_000 * 15_000**2 + 9 * 15_000**3))
    assert nsd > stacking.MOST_OPERATIONS
    assert 60 * stacking.operations([(160, 1700)] * 4 + [(640, 1700)], n_fits=6) < stacking.MOST_OPERATIONS


def test_one_participant_has_nothing_to_pool(make_trials: Callable[..., TrialData]) -> None:
    members = fit_members(make_trials(n_participants=1), alphas=ALPHAS, voxel_weights="labels", loss="binary")
    assert set(members) == {"each", "each, weighted"}


def test_one_map_serves_all_in_a_common_space(make_trials: Callable[..., TrialData]) -> None:
    members = fit_members(make_trials(), alphas=ALPHAS, voxel_weights="labels", loss="binary")
    assert set(members) == {"pooled", "pooled, weighted"}
    for member in members.values():
        first, second = member.maps
        assert first is second or np.array_equal(first.coef, second.coef)
