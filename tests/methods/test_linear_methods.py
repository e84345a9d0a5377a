from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Peer
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import Hyperparameters, LinearOptions
from clipmused_bids.methods import linear_fit
from clipmused_bids.methods.linear_fit import fit_each, fit_pooled
from clipmused_bids.methods.registry import create
from clipmused_bids.methods.ridge_solver import folds_of
from clipmused_bids.records import TrialData

GRID = (0.01, 0.1, 1.0, 10.0)
HYPERPARAMETERS = Hyperparameters(linear=LinearOptions(alphas=(0.2,)))


def nothing(data: TrialData) -> TrialData:
    return data.subset(np.empty(0, dtype=int))


def peer(x: np.ndarray, y: np.ndarray) -> Peer:
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return Peer(0.2 * values[values > 1e-10 * values.max()].mean()).fit(x, y)


@pytest.mark.parametrize("name", ["ridge", "ridge-pooled"])
def test_predictions_are_scikit_learns_clipped_to_probabilities(
    make_trials: Callable[..., TrialData], name: str
) -> None:
    data = make_trials()
    method = create(name, hyperparameters=HYPERPARAMETERS, seed=0, device="cpu")
    method.fit(data, nothing(data))
    found = method.predict_proba(data)
    people = [x.astype(np.float64) for x in data.read()]
    labels = [data.labels[data.participant == p] for p in range(2)]
    if name == "ridge":
        expected = [peer(x, y).predict(x) for x, y in zip(people, labels, strict=True)]
    else:
        one = peer(np.concatenate(people), data.labels)
        expected = [one.predict(x) for x in people]
    raw = np.concatenate(expected)
    assert raw.min() < 0
    np.testing.assert_allclose(found, np.clip(raw, 0, 1), atol=1e-5)


def test_the_pooled_ridge_of_a_common_space_decodes_new_people(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_participants=3)
    method = create("ridge-pooled", hyperparameters=HYPERPARAMETERS, seed=0, device="cpu")
    known = data.subset(np.flatnonzero(data.participant < 2))
    known = replace(
        known, participants=data.participants[:2], responses=data.responses[:2], spaces=data.spaces[:2]
    )
    method.fit(known, nothing(known))
    new = data.of_participant("03")
    probability = method.predict_proba(new)
    assert probability[new.labels == 1].mean() > probability[new.labels == 0].mean() + 0.3


def test_in_native_space_the_pooled_ridge_borrows_strength(make_trials: Callable[..., TrialData]) -> None:
    """Each participant's map is the product of the own and the shared one, so voxels need not correspond."""
    data = make_trials(common_space=False, n_trials=120, n_regions=0, effect=0.5)
    test = data.group >= 8
    train = data.subset(np.flatnonzero(~test))
    fit = fit_pooled(train, alphas=(0.1, 1.0, 10.0))
    assert set(fit.maps) == {"01", "02"}
    assert set(fit.alpha) == {"01", "02", "all"}
    scores = np.concatenate(
        [x @ m.coef + m.intercept for x, m in zip(data.read(), fit.maps.values(), strict=True)]
    )
    held_out = scores[test]
    labels = data.labels[test]
    assert np.corrcoef(held_out.ravel(), labels.ravel())[0, 1] > 0.5


def test_held_out_predictions_of_noise_know_nothing(make_trials: Callable[..., TrialData]) -> None:
    """A fit to its own training trials would look far better than chance."""
    data = make_trials(effect=0.0, common_space=False, n_trials=100, n_voxels=200, n_regions=0)
    for fit in (fit_each(data, alphas=(0.01,)), fit_pooled(data, alphas=(0.01,))):
        centred = data.labels - data.labels.mean(axis=0)
        assert abs(np.corrcoef(fit.held_out.ravel(), centred.ravel())[0, 1]) < 0.15


def within_folds(values: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Without the folds' means, which are opposite to what a fit without the fold knows."""
    means = np.stack([values[fold == number].mean(axis=0) for number in np.unique(fold)])
    return (values - means[np.unique(fold, return_inverse=True)[1]]).ravel()


def test_the_pooled_ridge_of_native_space_holds_out_both_its_steps(
    make_trials: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of noise nothing is known; in closed form the second step has seen the labels through the first."""
    studies = []
    for seed in range(24):
        data = make_trials(
            effect=0.0, common_space=False, n_voxels=200, n_regions=0, n_labels=1, targets=False, seed=seed
        )
        studies.append(replace(data, group=data.group // 3))
    correlation = {}
    for most in (linear_fit.MOST_OPERATIONS, 0.0):
        monkeypatch.setattr(linear_fit, "MOST_OPERATIONS", most)
        correlation[most] = np.mean(
            [
                np.corrcoef(
                    within_folds(fit_pooled(data, alphas=(0.01,)).held_out, data.group),
                    within_folds(data.labels.astype(float), data.group),
                )[0, 1]
                for data in studies
            ]
        )
    honest, closed = correlation.values()
    assert closed > 0.08
    assert abs(honest) < 0.05


def test_held_out_predictions_of_the_pooled_ridge_never_see_their_labels(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials(common_space=False, effect=0.5, n_regions=0)
    mine = folds_of(data.group) == 2
    turned, others = data.labels.copy(), data.labels.copy()
    turned[mine] = 1 - turned[mine]
    others[~mine] = 1 - others[~mine]
    found = [
        fit_pooled(replace(data, labels=labels), alphas=(1.0,)).held_out[mine]
        for labels in (data.labels, turned, others)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_the_pooled_penalty_of_native_space_predicts_held_out_trials_best(
    make_trials: Callable[..., TrialData],
) -> None:
    """Each candidate refitted by hand; the first step chooses among the same grid in all of them."""
    data = make_trials(common_space=False, effect=0.15, n_voxels=100, n_regions=0)
    labels = data.labels.copy()
    labels[::7, 1] = np.nan
    data = replace(data, labels=labels)
    fold = folds_of(data.group)
    errors = np.zeros(len(GRID))
    for number in np.unique(fold):
        rest, out = (data.subset(np.flatnonzero(where)) for where in (fold != number, fold == number))
        for a, maps in enumerate(linear_fit.pooled_path(rest, alphas=GRID)):
            for p, (name, x) in enumerate(zip(out.participants, out.read(), strict=True)):
                off = x @ maps[name].coef + maps[name].intercept - out.labels[out.participant == p]
                errors[a] += np.nansum(np.square(off))
    fit = fit_pooled(data, alphas=GRID)
    assert len(np.unique(errors)) == len(GRID)
    assert fit.alpha["all"] == GRID[int(np.argmin(errors))]
    assert np.nansum(np.square(fit.held_out - labels)) == pytest.approx(errors.min())
    np.testing.assert_array_equal(np.isnan(fit.held_out), np.isnan(labels))


@pytest.mark.parametrize("effect", [0.1, 0.3])
def test_refitting_costs_the_pooled_ridge_no_accuracy(
    make_trials: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch, effect: float
) -> None:
    area: dict[float, list[float]] = {}
    for most in (linear_fit.MOST_OPERATIONS, 0.0):
        monkeypatch.setattr(linear_fit, "MOST_OPERATIONS", most)
        for seed in range(6):
            data = make_trials(
                common_space=False, n_trials=120, n_voxels=200, n_regions=0, effect=effect, seed=seed
            )
            train, test = (data.subset(np.flatnonzero(part)) for part in (data.group < 7, data.group >= 7))
            fit = fit_pooled(train, alphas=GRID)
            found = linear_fit.predict([fit.maps[name] for name in data.participants], test)
            area.setdefault(most, []).append(roc_auc_score(test.labels, found))
    honest, closed = (np.mean(each) for each in area.values())
    assert honest > closed - 0.005


def test_a_label_unknown_for_a_participant_gets_the_others_frequency(
    make_trials: Callable[..., TrialData],
) -> None:
    data = make_trials()
    labels = data.labels.copy()
    labels[data.participant == 1, 2] = np.nan
    frequency = np.nanmean(labels[:, 2])
    for name in ("ridge", "logistic", "prevalence"):
        method = create(name, hyperparameters=HYPERPARAMETERS, seed=0, device="cpu")
        method.fit(replace(data, labels=labels), nothing(data))
        np.testing.assert_allclose(method.predict_proba(data)[data.participant == 1, 2], frequency, rtol=1e-6)


def test_prevalence_is_each_participants_training_frequency(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(same_stimuli=False)
    method = create("prevalence", hyperparameters=HYPERPARAMETERS, seed=0, device="cpu")
    method.fit(data, nothing(data))
    for p in range(2):
        mine = data.participant == p
        expected = np.tile(data.labels[mine].mean(axis=0), (60, 1))
        np.testing.assert_allclose(method.predict_proba(data)[mine], expected, rtol=1e-6)


def test_validation_trials_are_scored_before_they_are_fitted(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_voxels=100, effect=0.2)
    train, validation = (
        data.subset(np.flatnonzero(data.group < 4)),
        data.subset(np.flatnonzero(data.group >= 4)),
    )
    rows = []
    for fit_on in ("train", "train+validation"):
        method = create(
            "ridge", hyperparameters=replace(HYPERPARAMETERS, fit_on=fit_on), seed=0, device="cpu"
        )
        rows.append(method.fit(train, validation).columns["val_map"])
    assert rows[0] == rows[1]
    assert rows[0][0] < 1
