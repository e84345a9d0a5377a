from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from clipmused_bids.methods.alignment import (
    align,
    semantic_targets,
    shared_response_model,
    voxels_of,
)
from clipmused_bids.methods.matching import shared_rows
from clipmused_bids.records import ResponseTable, TrialData

ALPHAS = (0.1, 1.0)


def test_srm_finds_the_shared_response_up_to_a_rotation() -> None:
    generator = np.random.default_rng(0)
    shared = generator.standard_normal((80, 3))
    people = []
    for n_voxels in (20, 31):
        basis = np.linalg.qr(generator.standard_normal((n_voxels, 3)))[0]
        people.append(shared @ basis.T + 0.05 * generator.standard_normal((80, n_voxels)) + 7)
    maps = shared_response_model(people, n_shared=3, seed=1)
    first, second = (x @ w - (x @ w).mean(axis=0) for x, w in zip(people, maps, strict=True))
    for one in maps:
        np.testing.assert_allclose(one.T @ one, np.eye(3), atol=1e-9)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99
    fit = first @ np.linalg.lstsq(first, shared - shared.mean(axis=0), rcond=None)[0]
    assert np.corrcoef(fit.ravel(), shared.ravel())[0, 1] > 0.99


def trials_of(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable], names: list[list[str]]
) -> TrialData:
    """Responses that say participant and row; stimuli as named."""
    n_trials = len(names[0])
    data = make_trials(n_trials=n_trials, n_voxels=4, common_space=False, n_regions=0)
    tables = tuple(
        make_table([np.arange(n_trials)[:, None] + 100 * p + np.zeros((1, 4))]) for p in range(len(names))
    )
    return replace(data, responses=tables, stimulus_id=tuple(name for person in names for name in person))


def test_repeats_of_shared_stimuli_are_averaged(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    data = trials_of(make_trials, make_table, [["b", "a", "x", "a"], ["a", "b", "b", "y"]])
    shared = shared_rows(data, minimum=2)
    assert shared is not None
    assert shared.matched_by == "stimulus"
    np.testing.assert_allclose(shared.responses[0][:, 0], [2.0, 0.0])
    np.testing.assert_allclose(shared.responses[1][:, 0], [100.0, 101.5])


def test_with_few_stimuli_kth_presentations_are_matched(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    data = trials_of(make_trials, make_table, [["a", "b", "a", "a"], ["b", "a", "b", "a"]])
    shared = shared_rows(data, minimum=3)
    assert shared is not None
    assert shared.matched_by == "occurrence"
    np.testing.assert_allclose(shared.responses[0][:, 0], [0, 2, 1])
    np.testing.assert_allclose(shared.responses[1][:, 0], [101, 103, 100])


def test_only_the_given_trials_are_matched(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    data = trials_of(make_trials, make_table, [["a", "b", "a", "b"], ["a", "b", "a", "b"]])
    shared = shared_rows(data.subset(np.array([2, 3, 4, 5])), minimum=2)
    assert shared is not None
    np.testing.assert_allclose(shared.responses[0][:, 0], [2, 3])
    np.testing.assert_allclose(shared.responses[1][:, 0], [100, 101])


def test_nothing_shared_is_none(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable]
) -> None:
    assert shared_rows(trials_of(make_trials, make_table, [["a", "b"], ["c", ""]]), minimum=1) is None


@pytest.mark.parametrize(
    ("same_stimuli", "how", "source"),
    [(True, "auto", "SRM"), (False, "auto", "ridge"), (True, "ridge", "ridge"), (False, "srm", "ridge")],
)
def test_alignment_takes_what_the_data_allow(
    make_trials: Callable[..., TrialData], same_stimuli: bool, how: str, source: str
) -> None:
    data = make_trials(common_space=False, same_stimuli=same_stimuli, n_regions=0)
    alignment = align(data, how=how, n_shared=6, alphas=ALPHAS, seed=0)
    assert alignment.source.startswith(source)
    features = [x @ w for x, w in zip(data.read(), alignment.maps, strict=True)]
    np.testing.assert_allclose([f.std(axis=0) for f in features], 1, rtol=1e-4)


@pytest.mark.parametrize("how", ["srm", "ridge"])
def test_aligned_people_agree_where_unaligned_do_not(make_trials: Callable[..., TrialData], how: str) -> None:
    """A map from features to labels learned on one participant serves the other."""
    data = make_trials(common_space=False, n_trials=120, n_regions=0)
    right = {}
    for kind in (how, "random"):
        maps = align(data, how=kind, n_shared=4, alphas=ALPHAS, seed=0).maps
        first, second = (np.c_[x @ w, np.ones(120)] for x, w in zip(data.read(), maps, strict=True))
        labels = [data.labels[data.participant == p] for p in range(2)]
        weights = np.linalg.lstsq(first, labels[0], rcond=None)[0]
        right[kind] = np.mean((second @ weights > 0.5) == (labels[1] > 0.5))
    assert right[how] > 0.9
    assert right["random"] < 0.7


def test_features_beyond_what_a_fit_determines_start_at_random(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(common_space=False, same_stimuli=False, targets=False, n_regions=0)
    alignment = align(data, how="auto", n_shared=10, alphas=ALPHAS, seed=0)
    assert all(one.shape == (40, 10) for one in alignment.maps)
    assert all(np.linalg.matrix_rank(one) == 10 for one in alignment.maps)


def test_blocks_of_semantic_targets_weigh_alike(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    targets = semantic_targets(data)
    assert targets.shape == (120, 4 + 8)
    np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-9)
    for block in (targets[:, :4], targets[:, 4:]):
        assert block.var(axis=0).sum() == pytest.approx(1)


def test_trials_without_features_are_unknown_targets(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    stimulus = data.stimulus.copy()
    stimulus[7] = -1
    targets = semantic_targets(replace(data, stimulus=stimulus))
    assert np.isnan(targets[7, 4:]).all()
    assert not np.isnan(np.delete(targets, 7, axis=0)).any()


def test_some_voxels_of_the_same_trials(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    part = voxels_of(data, [np.array([3, 1]), np.array([5])])
    np.testing.assert_array_equal(part.read()[0], data.read()[0][:, [3, 1]])
    np.testing.assert_array_equal(part.read()[1], data.read()[1][:, [5]])
