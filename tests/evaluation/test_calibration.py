from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn import metrics as sk

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.calibration import (
    Calibration,
    calibration_scores,
    expected_calibration_error,
    fit_calibration,
    log_odds,
)
from clipmused_bids.evaluation.metrics import score

NAN = float("nan")


def miscalibrated(rng, *, n=4000, slope=(2.0, 0.5, 1.0), intercept=(-1.0, 0.5, 0.0)):
    """Labels whose log-odds are a known line in the log-odds of what is predicted."""
    odds = rng.normal(-0.5, 1.2, size=(n, len(slope)))
    labels = rng.random(odds.shape) < expit(np.array(slope) * odds + np.array(intercept))
    return labels.astype(float), expit(odds)


class TestFit:
    def test_finds_the_planted_line(self):
        labels, probabilities = miscalibrated(np.random.default_rng(0))
        found = fit_calibration(labels, probabilities, scope="label")
        np.testing.assert_allclose(found.slope, [2.0, 0.5, 1.0], atol=0.2)
        np.testing.assert_allclose(found.intercept, [-1.0, 0.5, 0.0], atol=0.2)
        assert found.origin == ("label",) * 3

    def test_minimises_platts_loss(self):
        labels, probabilities = miscalibrated(np.random.default_rng(1), n=80, slope=(1.5,), intercept=(0.3,))
        positive = labels[:, 0] == 1
        n_positive, n_negative = positive.sum(), (~positive).sum()
        target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        odds = log_odds(probabilities[:, 0])

        def loss(line):
            p = expit(line[0] * odds + line[1])
            return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()

        expected = minimize(loss, [1.0, 0.0], tol=1e-12).x
        found = fit_calibration(labels, probabilities, scope="label")
        assert (found.slope[0], found.intercept[0]) == pytest.approx(tuple(expected), abs=1e-4)

    def test_pooled_is_the_fit_to_all_entries_as_one_label(self):
        labels, probabilities = miscalibrated(np.random.default_rng(2), n=300)
        labels[:50, 1] = NAN
        known = ~np.isnan(labels)
        one = fit_calibration(labels[known][:, None], probabilities[known][:, None], scope="label")
        found = fit_calibration(labels, probabilities, scope="pooled")
        assert found == Calibration(one.slope * 3, one.intercept * 3, ("pooled",) * 3)

    def test_few_positives_take_the_pooled_fit(self):
        labels, probabilities = miscalibrated(np.random.default_rng(3), n=300)
        labels[:, 1] = 0
        labels[:9, 1] = 1
        pooled = fit_calibration(labels, probabilities, scope="pooled")
        found = fit_calibration(labels, probabilities, scope="label")
        assert found.origin == ("label", "pooled", "label")
        assert found.slope[1] == pooled.slope[1] != found.slope[0]

    def test_a_slope_that_would_turn_the_ranking_round_is_not_used(self):
        labels, probabilities = miscalibrated(
            np.random.default_rng(4), slope=(2.0, -1.0), intercept=(0.0, 0.0)
        )
        found = fit_calibration(labels, probabilities, scope="label")
        assert found.origin == ("label", "pooled")
        assert min(found.slope) > 0
        against = fit_calibration(1 - labels[:, :1], probabilities[:, :1], scope="label")
        assert against == Calibration((1.0,), (0.0,), ("identity",))
        np.testing.assert_array_equal(against.apply(probabilities[:, :1]), probabilities[:, :1])

    @pytest.mark.parametrize(
        ("labels", "probabilities"),
        [
            (np.zeros((50, 1)), np.linspace(0, 1, 50)[:, None]),  # no positive
            (np.arange(12)[:, None] % 2.0, np.linspace(0, 1, 12)[:, None]),  # too few trials
            (np.arange(50)[:, None] % 2.0, np.full((50, 1), 0.4)),  # nothing to fit a slope to
            (np.full((50, 1), NAN), np.linspace(0, 1, 50)[:, None]),  # nothing known
        ],
    )
    def test_nothing_to_fit_leaves_probabilities_as_they_are(self, labels, probabilities):
        found = fit_calibration(labels, probabilities, scope="label")
        assert found.origin == ("identity",)
        np.testing.assert_array_equal(found.apply(probabilities), probabilities)

    def test_separable_classes_have_a_finite_slope(self):
        labels = (np.arange(40) >= 25).astype(float)[:, None]
        found = fit_calibration(labels, np.where(labels == 1, 1.0, 0.0), scope="label")
        assert found.origin == ("label",)
        # The minimum gives both groups their Platt targets.
        np.testing.assert_allclose(found.apply(np.array([[0.0], [1.0]]))[:, 0], [1 / 27, 16 / 17], rtol=1e-3)

    def test_refuses_what_is_no_probability(self):
        labels = np.array([[0.0], [1.0]])
        with pytest.raises(DataError, match=r"1 predictions are outside \[0, 1\]"):
            fit_calibration(labels, np.array([[0.2], [1.5]]), scope="label")
        with pytest.raises(DataError, match="1 of 2 trials have predictions that are not finite"):
            fit_calibration(labels, np.array([[0.2], [NAN]]), scope="label")
        with pytest.raises(DataError, match=r"it is of 1 labels, the predictions have shape \(2, 2\)"):
            Calibration((1.0,), (0.0,), ("label",)).apply(np.zeros((2, 2)))


class TestApply:
    def test_hand_worked(self):
        found = Calibration((2.0,), (-1.0,), ("label",)).apply(np.array([[0.5], [0.731058578630005]]))
        np.testing.assert_allclose(found[:, 0], [expit(-1), expit(1)], rtol=1e-4)

    @settings(max_examples=50, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        slope=st.floats(0.1, 2.0),
        intercept=st.floats(-3, 3),
        decimals=st.integers(1, 12),
    )
    def test_ranking_metrics_do_not_change(self, seed, slope, intercept, decimals):
        rng = np.random.default_rng(seed)
        labels = (rng.random((60, 2)) < 0.3).astype(float)
        labels[:2] = [[0, 0], [1, 1]]
        probabilities = np.round(rng.random((60, 2)) ** 3, decimals)
        probabilities[:4] = [[0, 0], [1, 1], [1, 0], [0, 1]]
        mapped = Calibration((slope, 1.0), (intercept, -0.5), ("label", "label")).apply(probabilities)
        before = {s.metric: s.value for s in score(labels, probabilities, single_label=False)}
        after = {s.metric: s.value for s in score(labels, mapped, single_label=False)}
        assert after["mAP"] == pytest.approx(before["mAP"], abs=1e-12)
        assert after["AUC"] == pytest.approx(before["AUC"], abs=1e-12)

    def test_small_probabilities_stay_apart(self):
        probabilities = np.array([[0.0], [1e-15], [1e-9], [1e-4], [1 - 1e-4], [1 - 1e-9], [1.0]])
        mapped = Calibration((0.7,), (0.4,), ("label",)).apply(probabilities)
        assert (np.diff(mapped[:, 0]) > 0).all()

    def test_one_map_for_all_labels_keeps_the_first_class_first(self):
        rng = np.random.default_rng(0)
        labels = np.eye(4)[rng.integers(4, size=200)]
        odds = 3 * labels + rng.normal(size=labels.shape)
        probabilities = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        mapped = fit_calibration(labels, probabilities, scope="pooled").apply(probabilities)
        np.testing.assert_array_equal(mapped.argmax(axis=1), probabilities.argmax(axis=1))
        assert not np.allclose(mapped, probabilities, atol=0.01)


class TestScores:
    def test_calibration_mends_them_on_new_trials(self):
        rng = np.random.default_rng(5)
        fitted = fit_calibration(*miscalibrated(rng), scope="label")
        labels, probabilities = miscalibrated(rng)
        before = calibration_scores(labels, probabilities)
        after = calibration_scores(labels, fitted.apply(probabilities))
        assert after[0].value < before[0].value - 0.005
        assert after[1].value < 0.03
        assert before[1].value > 0.06

    def test_brier_is_scikit_learns_over_scorable_labels(self):
        rng = np.random.default_rng(6)
        labels, probabilities = miscalibrated(rng, n=100)
        labels[:30, 0] = NAN
        labels[:, 2] = 1  # not scorable
        brier = calibration_scores(labels, probabilities)[0]
        expected = [
            sk.brier_score_loss(labels[30:, 0], probabilities[30:, 0]),
            sk.brier_score_loss(labels[:, 1], probabilities[:, 1]),
        ]
        assert brier.value == pytest.approx(np.mean(expected))
        assert (brier.n_labels, brier.n_trials) == (2, 100)

    def test_predicting_the_prevalence_scores_the_floors(self):
        labels, _ = miscalibrated(np.random.default_rng(7), n=200)
        prevalence = np.tile(labels.mean(axis=0), (200, 1))
        for each in calibration_scores(labels, prevalence):
            assert each.value == pytest.approx(each.floor, abs=1e-12)

    def test_error_is_worked_by_hand(self):
        # Bins of 0.5: 0.1 and 0.3 with one positive of two; 0.9, 0.8 and 1.0 with two of three.
        probabilities = np.array([0.1, 0.3, 0.9, 0.8, 1.0])
        positive = np.array([True, False, True, True, False])
        expected = (abs(0.4 - 1) + abs(2.7 - 2)) / 5
        assert expected_calibration_error(positive, probabilities, n_bins=2) == pytest.approx(expected)

    def test_errors_of_two_labels_do_not_cancel(self):
        labels = np.tile(np.arange(10)[:, None] < [2, 8], (5, 1)).astype(float)
        ece = calibration_scores(labels, np.full(labels.shape, 0.5))[1]
        assert ece.value == pytest.approx(0.3)

    def test_nothing_to_score_is_nan(self):
        for each in calibration_scores(np.zeros((5, 2)), np.full((5, 2), 0.1)):
            assert np.isnan([each.value, each.floor]).all()


def test_log_odds_are_those_of_the_probability():
    np.testing.assert_allclose(
        log_odds(np.array([0.2, 0.5, 0.9])), logit([0.2, 0.5, 0.9]), rtol=1e-4, atol=1e-9
    )
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
