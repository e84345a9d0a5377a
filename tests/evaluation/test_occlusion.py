from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from clipmused_bids.evaluation.map_reliability import (
    map_correlation,
    region_means,
    split_half,
    stimulus_halves,
)
from clipmused_bids.evaluation.occlusion import average_precisions, occlusion


@given(seed=st.integers(0, 10_000), n_values=st.integers(1, 6))
def test_average_precision_is_that_of_scikit_learn_ties_and_selections_included(
    seed: int, n_values: int
) -> None:
    rng = np.random.default_rng(seed)
    truth, scores = (rng.random(12) < 0.4).astype(float), rng.integers(0, n_values, (3, 12)) / 3
    half = rng.random(12) < 0.5
    found = average_precisions(truth, scores, [np.ones(12, dtype=bool), half])
    for k, chosen in enumerate((slice(None), half)):
        y = truth[chosen]
        for s in range(3):
            if 0 < y.sum() < len(y):
                assert found[k, s] == pytest.approx(average_precision_score(y, scores[s][chosen]))
            else:
                assert np.isnan(found[k, s])


def test_drop_by_hand() -> None:
    """Four trials, one label: intact the positives rank 1 and 2 (AP 1); without region 1 they rank 2 and 4."""
    labels = np.array([[1.0], [1.0], [0.0], [0.0]])
    intact, without = [0.9, 0.8, 0.2, 0.1], [0.5, 0.1, 0.9, 0.3]
    probabilities = np.array([intact, without, intact])[:, :, None]
    found = occlusion(
        labels, probabilities, fold=np.zeros(4, int), stimulus_id=list("abcd"), single_label=False, seed=0
    )
    assert found.drop.tolist() == pytest.approx([1 - (1 / 2 + 2 / 4) / 2, 0.0])
    assert found.intact == 1.0
    assert np.isnan(found.top1).all()


def test_folds_are_ranked_apart_and_count_alike() -> None:
    """In fold 1 the region matters (AP 1 to 1/2), in fold 2, whose decoder is surer of everything, it does not."""
    labels = np.array([[1.0], [0.0], [1.0], [0.0]])
    intact, without = [0.2, 0.1, 0.9, 0.8], [0.1, 0.2, 0.9, 0.8]
    found = occlusion(
        labels, np.array([intact, without])[:, :, None], fold=np.array([1, 1, 2, 2]), stimulus_id=list("abcd"),
        single_label=False, seed=0,
    )  # fmt: skip
    assert found.drop.tolist() == pytest.approx([(0.5 + 0.0) / 2])
    assert found.floor == pytest.approx(0.75)


def test_single_labels_have_a_drop_of_top1_and_unknown_labels_do_not_count() -> None:
    labels = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
    intact = np.array([[0.9, 0.1, np.nan], [0.1, 0.9, np.nan], [0.8, 0.2, np.nan], [0.2, 0.8, np.nan]])
    without = intact.copy()
    without[0, :2] = [0.1, 0.9]
    found = occlusion(
        labels, np.array([intact, without]), fold=np.zeros(4, int), stimulus_id=list("abcd"), single_label=True, seed=0
    )  # fmt: skip
    assert found.top1.tolist() == [0.25]
    assert np.isnan(found.of_label[0, 2])
    assert found.n_labels == 2


def test_split_half_by_hand() -> None:
    """Correlations 1/2 and 1: their mean 3/4 gives 2 * .75 / 1.75."""
    one = np.array([[1.0, 0, -1], [1, 2, 3]])
    other = np.array([[1.0, -1, 0], [2, 4, 6]])
    assert split_half(one, other) == pytest.approx(1.5 / 1.75)


def test_constant_maps_and_two_regions_tell_nothing() -> None:
    assert np.isnan(map_correlation(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])))
    assert np.isnan(map_correlation(np.full(50, 0.1) / 3 * 3, np.arange(50.0)))
    assert np.isnan(map_correlation(np.array([1.0, 2]), np.array([1.0, 3])))
    assert np.isnan(split_half(np.zeros((2, 4)), np.zeros((2, 4))))


def test_all_trials_of_a_stimulus_lie_in_one_half() -> None:
    names = [f"s{k % 6}" for k in range(18)]
    halves = stimulus_halves(names, seed=3)
    assert len({tuple(first) for first, _ in halves}) > 1
    for first, second in halves:
        assert (first ^ second).all()
        mine, others = ({n for n, use in zip(names, half, strict=True) if use} for half in (first, second))
        assert not mine & others
        assert len(mine) == 3
    assert stimulus_halves(["a", "b", "c", "a"], seed=0) == []


def test_region_means_leave_out_what_is_outside() -> None:
    found = region_means(np.array([[1.0, 3, 5, 7]]), np.array([0, 0, 2, -1]), n_regions=3)
    assert found[0, [0, 2]].tolist() == [2.0, 5.0]
    assert np.isnan(found[0, 1])
