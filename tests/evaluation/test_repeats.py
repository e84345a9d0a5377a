from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.evaluation.repeats import score_against_repeats


def study(rng, *, n=60, repeats=4, noise=3.0):
    """Responses that are the labels in noise of single trials; the decoder reads them as they are."""
    own = (rng.random((n, 3)) < 0.4).astype(float)
    ids = np.tile(np.arange(n), repeats)
    responses = own[ids] + noise * rng.normal(size=(len(ids), 3))
    calls = []

    def predict(groups):
        calls.append(groups)
        return np.array([responses[rows].mean(axis=0) for rows in groups])

    return own[ids], [f"s{k}" for k in ids], predict, calls


def curve(study, seed=0, **more):
    labels, ids, predict, _ = study
    rng = np.random.default_rng(seed)
    return score_against_repeats(labels, ids, predict, single_label=False, rng=rng, **more)


def test_averaging_raises_the_score_as_less_noise_does():
    rng = np.random.default_rng(0)
    found = curve(study(rng, n=3000))
    assert [one.n_averaged for one in found] == [1, 2, 3, 4]
    auc = [one.scores[1].value for one in found]
    assert (np.diff(auc) > 0).all()
    # Two normal distributions whose means lie 1 apart, each of standard deviation 3 / sqrt(k).
    expected = [stats.norm.cdf(np.sqrt(k / 2) / 3) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(auc, expected, atol=0.012)


def test_the_last_point_is_the_score_of_all_repeats():
    world = study(np.random.default_rng(1))
    labels, ids, predict, calls = world
    found = curve(world)
    groups = [np.flatnonzero(np.array(ids) == name) for name in dict.fromkeys(ids)]
    expected = score(labels[[rows[0] for rows in groups]], predict(groups), single_label=False)
    assert found[-1].scores == expected
    assert [one.n_draws for one in found] == [5, 5, 5, 1]
    assert len(calls) == 16 + 1


def test_stimuli_and_floors_are_the_same_at_all_numbers():
    world = study(np.random.default_rng(2))
    found = curve(world)
    assert {one.n_stimuli for one in found} == {60}
    assert len({one.scores[0].floor for one in found}) == 1
    ids = np.array(world[1])
    for groups in world[3]:
        assert [ids[rows[0]] for rows in groups] == list(dict.fromkeys(ids))
        assert all(len(set(ids[rows])) == 1 and len(set(rows)) == len(rows) for rows in groups)


def test_draws_follow_the_seed():
    world = study(np.random.default_rng(3))
    assert curve(world, seed=1) == curve(world, seed=1)
    assert curve(world, seed=1)[0] != curve(world, seed=2)[0]


def test_stimuli_with_fewer_repeats_are_left_out_at_all_numbers():
    labels, ids, predict, _ = study(np.random.default_rng(4), n=10, repeats=3)
    kept = [k for k in range(30) if not (ids[k] in {"s1", "s2"} and k >= 20)]
    found = score_against_repeats(
        labels[kept],
        [ids[k] for k in kept],
        lambda groups: predict([np.array(kept)[rows] for rows in groups]),
        single_label=False,
        rng=np.random.default_rng(0),
    )
    assert [(one.n_averaged, one.n_stimuli) for one in found] == [(1, 8), (2, 8), (3, 8)]


def test_without_repeats_there_is_no_curve():
    assert curve(study(np.random.default_rng(5), repeats=1)) == ()


def test_too_many_repeats_are_refused():
    world = study(np.random.default_rng(6))
    with pytest.raises(DataError, match="no stimulus has 7 repeats; the most are 4"):
        curve(world, most=7)
    with pytest.raises(DataError, match="239 stimuli for 240 trials"):
        score_against_repeats(
            world[0], world[1][1:], world[2], single_label=False, rng=np.random.default_rng(0)
        )
