from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from clipmused_bids.config import Hyperparameters, LinearOptions
from clipmused_bids.errors import DataError
from clipmused_bids.methods import srm_fit
from clipmused_bids.methods.alignment import shared_response_model
from clipmused_bids.methods.base import label_frequency
from clipmused_bids.methods.matching import match_trials
from clipmused_bids.methods.registry import create
from clipmused_bids.methods.ridge_solver import folds_of
from clipmused_bids.methods.srm import SharedResponse
from clipmused_bids.records import ResponseTable, TrialData

Make = Callable[..., TrialData]
MakeTable = Callable[[list[np.ndarray]], ResponseTable]
CS = (0.001, 0.1)


def fitted(
    data: TrialData, *, n_features: tuple[int, ...] = (3, 6), cs: tuple[float, ...] = CS
) -> SharedResponse:
    linear = LinearOptions(srm_features=n_features, logistic_c=cs)
    method = create("srm", hyperparameters=Hyperparameters(linear=linear), seed=0, device="cpu")
    method.fit(data, data.subset(np.empty(0, dtype=int)))
    return method


def planted(
    make_trials: Make, make_table: MakeTable, *, n_voxels: Sequence[int] = (80, 50), noise: float = 0.3
) -> tuple[TrialData, list[np.ndarray]]:
    """Three shared features of 60 stimuli in orthonormal directions of each participant's voxels."""
    data = make_trials(n_participants=len(n_voxels), common_space=False, n_regions=0)
    generator = np.random.default_rng(5)
    shared = 3 * generator.standard_normal((60, 3))
    bases = [np.linalg.qr(generator.standard_normal((v, 3)))[0] for v in n_voxels]
    tables = [
        make_table([4 + shared @ basis.T + noise * generator.standard_normal((60, len(basis)))])
        for basis in bases
    ]
    spaces = [replace(data.spaces[0], voxels=np.arange(v), region=np.full(v, -1)) for v in n_voxels]
    return replace(data, responses=tuple(tables), spaces=tuple(spaces)), bases


def test_maps_span_what_was_planted_whatever_the_number_of_voxels(
    make_trials: Make, make_table: MakeTable
) -> None:
    data, bases = planted(make_trials, make_table)
    state = fitted(data, n_features=(3,)).state()
    features = []
    for p, (name, basis) in enumerate(zip(data.participants, bases, strict=True)):
        weights = state[f"map.{name}"]
        assert weights.shape == (len(basis), 3)
        np.testing.assert_allclose(weights.T @ weights, np.eye(3), atol=1e-9)
        assert np.rad2deg(subspace_angles(weights, basis).max()) < 10
        x = data.responses[p].read(np.arange(60)).astype(np.float64)
        np.testing.assert_allclose(state[f"mean.{name}"], x.mean(axis=0), rtol=1e-5)
        features.append((x - state[f"mean.{name}"]) @ weights)
    for k in range(3):
        assert np.corrcoef(features[0][:, k], features[1][:, k])[0, 1] > 0.95


def test_the_objective_never_rises_and_ends_near_that_of_the_planted_maps(
    make_trials: Make, make_table: MakeTable
) -> None:
    data, bases = planted(make_trials, make_table, n_voxels=(30, 25, 20))
    people = [x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in data.read()]

    def objective(maps: Sequence[np.ndarray]) -> float:
        shared = np.mean([x @ w for x, w in zip(people, maps, strict=True)], axis=0)
        return sum(np.square(x - shared @ w.T).sum() for x, w in zip(people, maps, strict=True))

    course = [objective(shared_response_model(people, n_shared=3, seed=2, iterations=n)) for n in range(12)]
    assert all(after <= before + 1e-9 for before, after in pairwise(course))
    assert course[-1] < 0.2 * course[0]
    assert 0.9 * objective(bases) < course[-1] < objective(bases)


def test_voxels_of_a_common_space_need_not_correspond(make_trials: Make) -> None:
    common = make_trials()
    generator = np.random.default_rng(0)
    tables = [table.of_voxels(generator.permutation(40)) for table in common.responses]
    shuffled = replace(common, responses=tuple(tables))
    for data in (common, shuffled):
        probability = fitted(data).predict_proba(data)
        assert roc_auc_score(data.labels.ravel(), probability.ravel()) > 0.95


def test_what_is_not_known_of_a_participant_is_learned_from_the_others(make_trials: Make) -> None:
    """A label that nobody annotated for sub-02: the shared classifier reads it in shared features all the same."""
    data = make_trials(n_participants=3, n_trials=120, common_space=False, n_regions=0)
    labels, second = data.labels.copy(), data.participant == 1
    labels[second, 2] = np.nan
    new = data.subset(np.flatnonzero(second & (data.group >= 8)))
    train = replace(data, labels=labels).subset(np.flatnonzero(data.group < 8))
    probability = fitted(train).predict_proba(new)
    assert roc_auc_score(new.labels[:, 2], probability[:, 2]) > 0.9


def test_test_responses_leave_no_trace(make_trials: Make, make_table: MakeTable) -> None:
    data = make_trials(common_space=False, n_regions=0)
    held_out = data.group >= 4
    noisy = []
    for p, table in enumerate(data.responses):
        values = table.read(np.arange(60))
        rows = data.row[held_out & (data.participant == p)]
        values[rows] = np.random.default_rng(p).standard_normal((len(rows), 40)) * 1e6
        noisy.append(make_table([values]))
    train = np.flatnonzero(~held_out)
    states = [fitted(one.subset(train)).state() for one in (data, replace(data, responses=tuple(noisy)))]
    for name, values in states[0].items():
        np.testing.assert_array_equal(values, states[1][name])


def test_features_and_penalty_are_chosen_without_the_trials_they_are_judged_by(make_trials: Make) -> None:
    """Against a plain loop: the maps of each fold come from ``fit_maps`` of the other folds' trials."""
    data = make_trials(common_space=False, n_regions=0, effect=0.3)
    matching = srm_fit.require_shared(data, minimum=4)
    choice = srm_fit.choose(
        data, matching, n_features=(3, 6), cs=CS, frequency=label_frequency(data.labels), seed=0
    )
    assert (choice.n_features, choice.c) == min(choice.losses, key=lambda pair: choice.losses[pair])
    fold = folds_of(data.group)
    for (k, c), loss in choice.losses.items():
        held_out = np.empty((data.n_trials, 4))
        for f in np.unique(fold):
            rest, out = data.subset(np.flatnonzero(fold != f)), data.subset(np.flatnonzero(fold == f))
            shared = match_trials(rest, minimum=4)
            assert shared is not None
            maps = srm_fit.fit_maps(rest, shared, n_features=[k], seed=0)[k]
            x, new = (
                np.concatenate(
                    [
                        (values - values_of_rest.mean(axis=0)) @ one.weights
                        for values, values_of_rest, one in zip(part.read(), rest.read(), maps, strict=True)
                    ]
                )
                for part in (rest, out)
            )
            for label in range(4):
                fit = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x, rest.labels[:, label])
                held_out[fold == f, label] = fit.predict_proba(new)[:, 1]
        assert loss == pytest.approx(log_loss(data.labels.ravel(), held_out.ravel()), abs=2e-3)


def test_noise_is_held_to_be_noise(make_trials: Make) -> None:
    """Maps fitted with the trials that are scored would make shared noise look shared; labels stay unknown."""
    data = make_trials(common_space=False, n_regions=0, effect=0.0, n_trials=100)
    frequency = label_frequency(data.labels)
    matching = srm_fit.require_shared(data, minimum=4)
    choice = srm_fit.choose(data, matching, n_features=(3, 20), cs=CS, frequency=frequency, seed=0)
    floor = log_loss(data.labels.ravel(), np.tile(frequency, (data.n_trials, 1)).ravel())
    assert min(choice.losses.values()) > floor - 0.01


def test_no_more_features_than_shared_rows_determine(
    make_trials: Make, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_trials(n_trials=20, common_space=False, n_regions=0)
    with caplog.at_level(logging.INFO):
        method = fitted(data, n_features=(30, 50))
    # Two runs of ten trials: each fold leaves ten shared rows, which span nine directions once they are centred.
    assert method.summary()["n_features"] == 9
    assert "srm: the shared trials determine at most 9 features" in caplog.text
    assert "srm: 20 shared rows matched by occurrence" in caplog.text


def test_people_who_share_nothing_are_refused_by_name(make_trials: Make) -> None:
    data = make_trials(same_stimuli=False, common_space=False)
    with pytest.raises(DataError, match="srm: sub-01, sub-02 share no training stimuli") as caught:
        fitted(data)
    assert "NSD's shared images" in str(caught.value.hint)


def test_conditions_are_the_last_resort(make_trials: Make) -> None:
    """Other exemplars of the same categories: means of the categories are matched."""
    data = make_trials(same_stimuli=False, common_space=False, n_regions=0)
    classes = np.tile(np.arange(60) % 4, 2)
    tables = []
    for p, table in enumerate(data.responses):
        pattern = np.random.default_rng(p).standard_normal((4, 40))
        values = pattern[classes[:60]] + table.read(np.arange(60))
        tables.append(
            replace(table, blocks=(values,), columns=table.columns[:1], mean=table.mean[:1], sd=table.sd[:1])
        )
    data = replace(
        data, responses=tuple(tables), labels=np.eye(4, dtype=np.float32)[classes], single_label=True
    )
    matching = match_trials(data, minimum=3)
    assert matching is not None
    assert (matching.matched_by, matching.n_rows) == ("condition", 4)
    for p, x in enumerate(data.read()):
        expected = np.stack([x[classes[:60] == c].mean(axis=0) for c in range(4)])
        np.testing.assert_allclose(matching.rows(data, p).read(np.arange(4)), expected, atol=1e-5)
    method = fitted(data, n_features=(3,))
    assert method.summary()["matched_by"] == "condition"
    right = method.predict_proba(data).argmax(axis=1) == classes
    assert right.mean() > 0.8


def test_the_condition_of_several_labels_is_not_known(make_trials: Make) -> None:
    assert match_trials(make_trials(same_stimuli=False), minimum=2) is None


def test_a_participant_without_trials_shares_nothing(make_trials: Make) -> None:
    data = make_trials()
    with pytest.raises(DataError, match="sub-01, sub-02 share no training stimuli"):
        fitted(data.subset(np.flatnonzero(data.participant == 0)))
