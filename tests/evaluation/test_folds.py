from __future__ import annotations

import numpy as np
import pytest

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.folds import mean_over_folds, score_folds
from clipmused_bids.evaluation.metrics import best_thresholds, score
from clipmused_bids.records import Score

NAN = float("nan")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = (rng.random((90, 4)) < [0.2, 0.3, 0.4, 0.5]).astype(float)
    return labels, 0.5 * labels + 0.5 * rng.random(labels.shape), ["b"] * 40 + ["a"] * 30 + ["c"] * 20


def by_name(means):
    return {one.score.metric: one for one in means}


def test_is_the_mean_of_the_folds_scores(predictions):
    labels, probabilities, fold = predictions
    found = by_name(score_folds(labels, probabilities, fold, single_label=False))
    parts = [slice(0, 40), slice(40, 70), slice(70, 90)]
    scores = [{s.metric: s for s in score(labels[k], probabilities[k], single_label=False)} for k in parts]
    for metric in ("mAP", "AUC", "Hamming", "microAP"):
        assert found[metric].score.value == pytest.approx(np.mean([s[metric].value for s in scores]))
        assert found[metric].score.floor == pytest.approx(np.mean([s[metric].floor for s in scores]))
        assert (found[metric].n_folds, found[metric].n_scored, found[metric].n_left_out) == (3, 3, 0)
    assert found["mAP"].score.n_trials == 90


def test_predictions_of_different_folds_are_not_ranked_against_each_other(predictions):
    labels, probabilities, fold = predictions
    shifted = probabilities.copy()
    shifted[40:] += 10  # another decoder, with another offset
    before = by_name(score_folds(labels, probabilities, fold, single_label=False))
    after = by_name(score_folds(labels, shifted, fold, single_label=False))
    assert after["mAP"] == before["mAP"]
    assert after["AUC"] == before["AUC"]


def test_labels_that_a_fold_cannot_score_are_left_out_there_and_counted(predictions):
    labels, probabilities, fold = predictions
    labels[:40, 1] = 0
    labels[40:70, :2] = 1
    found = by_name(score_folds(labels, probabilities, fold, single_label=False))["mAP"]
    kept = [(slice(0, 40), [0, 2, 3]), (slice(40, 70), [2, 3]), (slice(70, 90), [0, 1, 2, 3])]
    expected = [score(labels[k][:, c], probabilities[k][:, c], single_label=False)[0].value for k, c in kept]
    assert found.score.value == pytest.approx(np.mean(expected))
    assert (found.n_left_out, found.score.n_labels, found.n_scored) == (3, 2, 3)


def test_a_fold_without_scorable_label_gives_no_value(predictions):
    labels, probabilities, fold = predictions
    labels[:40] = 0
    found = by_name(score_folds(labels, probabilities, fold, single_label=False))["AUC"]
    rest = [
        score(labels[k], probabilities[k], single_label=False)[1].value
        for k in (slice(40, 70), slice(70, 90))
    ]
    assert found.score.value == pytest.approx(np.mean(rest))
    assert (found.n_folds, found.n_scored, found.n_left_out) == (3, 2, 4)
    nothing = by_name(score_folds(np.zeros_like(labels), probabilities, fold, single_label=False))["AUC"]
    assert np.isnan([nothing.score.value, nothing.score.floor]).all()
    assert (nothing.n_scored, nothing.score.n_labels, nothing.score.n_trials) == (0, 0, 0)


def test_each_fold_has_its_own_cuts(predictions):
    labels, probabilities, fold = predictions
    folds = np.array(fold)
    cuts = {f: best_thresholds(labels[folds == f], probabilities[folds == f]) for f in "abc"}
    found = by_name(score_folds(labels, probabilities, fold, single_label=False, thresholds=cuts))["F1"]
    expected = [
        score(labels[folds == f], probabilities[folds == f], single_label=False, thresholds=cuts[f])[-1].value
        for f in "abc"
    ]
    assert found.score.value == pytest.approx(np.mean(expected))


def test_a_metric_that_one_fold_lacks():
    scores = {
        "a": [Score("mAP", 0.4, 0.1, 3, 10), Score("F1", 0.5, 0.2, 3, 10)],
        "b": [Score("mAP", 0.6, 0.2, 2, 8)],
    }
    found = by_name(mean_over_folds(scores, n_labels=3))
    assert found["mAP"].score == Score("mAP", 0.5, pytest.approx(0.15), 2, 18)
    assert (found["F1"].n_folds, found["F1"].score.value) == (1, 0.5)


def test_needs_a_fold_for_each_trial(predictions):
    labels, probabilities, fold = predictions
    with pytest.raises(DataError, match="89 fold names for 90 trials"):
        score_folds(labels, probabilities, fold[1:], single_label=False)
