from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Peer

from clipmused_bids.config import Hyperparameters, LinearOptions
from clipmused_bids.methods.linear_fit import fit_each, fit_pooled
from clipmused_bids.methods.registry import create
from clipmused_bids.records import TrialData

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
