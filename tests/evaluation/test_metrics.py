from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.floors import blind_f1, chance_top_k, random_average_precision
from clipmused_bids.evaluation.metrics import best_thresholds, direction, per_label, score

NAN = float("nan")


def by_name(scores):
    return {s.metric: s for s in scores}


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 6)) < [0.05, 0.1, 0.2, 0.3, 0.5, 0.7]).astype(float)
    noise = rng.normal(size=labels.shape)
    return labels, 1 / (1 + np.exp(-(2 * labels - 1 + noise)))


class TestFloors:
    def test_published_example(self):
        # Three positives of 100: harmonic number H_100 = 5.18737751763962.
        assert random_average_precision(3, 100) == pytest.approx(
            2 / 99 * 0.9481262248 + 0.0518737752, abs=1e-9
        )
        assert round(random_average_precision(3, 100), 3) == 0.071

    @pytest.mark.parametrize(("n_positive", "n"), [(1, 2), (1, 10), (3, 20), (5, 12), (1, 1), (7, 7)])
    def test_is_the_mean_over_random_rankings(self, n_positive, n):
        rng = np.random.default_rng(n)
        truth = np.arange(n) < n_positive
        values = [sk.average_precision_score(truth, rng.permutation(n)) for _ in range(1000)]
        error = np.std(values) / np.sqrt(len(values))
        assert random_average_precision(n_positive, n) == pytest.approx(
            np.mean(values), abs=4 * error + 1e-12
        )

    def test_nothing_positive_has_no_floor(self):
        assert np.isnan(random_average_precision(0, 10))

    def test_f1_of_predicting_everything(self):
        truth = np.arange(50) < 10
        assert blind_f1(np.array([0.2]))[0] == pytest.approx(sk.f1_score(truth, np.ones(50)))

    def test_top_k(self):
        assert chance_top_k(1, 8) == 0.125
        assert chance_top_k(5, 20) == 0.25


class TestScore:
    def test_agrees_with_scikit_learn_over_all_labels(self, predictions):
        labels, probabilities = predictions
        scores = by_name(score(labels, probabilities, single_label=False))
        assert list(scores) == ["mAP", "AUC", "Hamming", "microAP"]
        expected = {
            "mAP": sk.average_precision_score(labels, probabilities, average="macro"),
            "AUC": sk.roc_auc_score(labels, probabilities, average="macro"),
            "Hamming": sk.hamming_loss(labels, probabilities > 0.5),
            "microAP": sk.average_precision_score(labels, probabilities, average="micro"),
        }
        for metric, value in expected.items():
            assert scores[metric].value == pytest.approx(value)
            assert (scores[metric].n_labels, scores[metric].n_trials) == (6, 200)

    def test_floors(self, predictions):
        labels, probabilities = predictions
        scores = by_name(score(labels, probabilities, single_label=False))
        chances = [random_average_precision(int(k), 200) for k in labels.sum(axis=0)]
        assert scores["mAP"].floor == pytest.approx(np.mean(chances))
        assert scores["AUC"].floor == 0.5
        nothing = by_name(score(labels, np.zeros_like(labels), single_label=False))
        assert scores["Hamming"].floor == pytest.approx(nothing["Hamming"].value)
        assert scores["microAP"].floor == pytest.approx(random_average_precision(int(labels.sum()), 1200))

    def test_labels_that_cannot_be_scored_never_enter(self, predictions):
        labels, probabilities = predictions
        rng = np.random.default_rng(1)
        more = np.column_stack([labels, np.zeros(200), np.ones(200), np.full(200, NAN)])
        guesses = np.column_stack([probabilities, rng.random((200, 3))])
        assert score(more, guesses, single_label=False) == score(labels, probabilities, single_label=False)

    def test_unknown_entries_are_masked_one_by_one(self, predictions):
        labels, probabilities = predictions
        holes = labels.copy()
        holes[:50, 0] = NAN
        holes[100:, 3] = NAN
        scores = by_name(score(holes, probabilities, single_label=False))
        kept = [slice(50, None), slice(None), slice(None), slice(None, 100), slice(None), slice(None)]
        precisions = [
            sk.average_precision_score(labels[k, c], probabilities[k, c]) for c, k in enumerate(kept)
        ]
        wrong = sum(((probabilities[k, c] > 0.5) != labels[k, c]).sum() for c, k in enumerate(kept))
        assert scores["mAP"].value == pytest.approx(np.mean(precisions))
        assert scores["Hamming"].value == pytest.approx(wrong / (1200 - 150))

    def test_nothing_to_score_is_nan_not_a_constant(self):
        scores = score(np.ones((5, 2)), np.full((5, 2), 0.7), single_label=False)
        for each in scores:
            assert np.isnan(each.value)
            assert np.isnan(each.floor)
            assert (each.n_labels, each.n_trials) == (0, 0)

    def test_perfect_and_inverted(self, predictions):
        labels, _ = predictions
        good = by_name(score(labels, labels, single_label=False))
        assert [good[m].value for m in ("mAP", "AUC", "Hamming", "microAP")] == [1, 1, 0, 1]
        bad = by_name(score(labels, 1 - labels, single_label=False))
        assert (bad["AUC"].value, bad["Hamming"].value) == (0, 1)

    def test_no_knowledge_scores_the_floor(self):
        rng = np.random.default_rng(2)
        labels = (rng.random((100, 3)) < [0.1, 0.3, 0.6]).astype(float)
        runs = [by_name(score(labels, rng.random(labels.shape), single_label=False)) for _ in range(150)]
        for metric in ("mAP", "AUC", "microAP"):
            values = [run[metric].value for run in runs]
            error = np.std(values) / np.sqrt(len(values))
            assert np.mean(values) == pytest.approx(runs[0][metric].floor, abs=4 * error)

    def test_predictions_that_are_not_numbers_are_refused(self, predictions):
        labels, probabilities = predictions
        probabilities[3, 1] = NAN
        with pytest.raises(DataError, match="1 of 200 trials have predictions that are not finite"):
            score(labels, probabilities, single_label=False)

    def test_labels_that_are_neither_present_nor_absent_are_refused(self, predictions):
        labels, probabilities = predictions
        labels[3, 1] = 0.4
        with pytest.raises(DataError, match=r"1 labels are neither 0 nor 1 nor unknown, the first is 0\.4"):
            score(labels, probabilities, single_label=False)

    def test_shapes_must_agree(self, predictions):
        labels, probabilities = predictions
        with pytest.raises(DataError, match=r"labels have shape \(200, 6\), predictions \(200, 5\)"):
            score(labels, probabilities[:, :5], single_label=False)


class TestTop:
    def test_hand_worked(self):
        labels = np.eye(3)[[0, 1, 2, 2]]
        guesses = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.5, 0.1]])
        scores = by_name(score(labels, guesses, single_label=True))
        assert scores["top1"].value == 0.5
        assert scores["top1"].floor == pytest.approx(1 / 3)
        assert "top5" not in scores  # five of three classes would always be right

    def test_top5_counts_the_true_class_among_five(self):
        guesses = np.tile(np.linspace(1, 0, 8), (8, 1))
        scores = by_name(score(np.eye(8), guesses, single_label=True))
        assert scores["top1"].value == 1 / 8
        assert scores["top5"].value == 5 / 8
        assert scores["top5"].floor == 5 / 8

    def test_trials_of_unknown_class_do_not_count(self):
        labels = np.eye(3)[[0, 1, 2]]
        labels[2] = NAN
        scores = by_name(score(labels, np.eye(3), single_label=True))
        assert scores["top1"].value == 1
        assert scores["top1"].n_trials == 2


class TestThresholds:
    def test_is_the_best_of_all_cuts(self, predictions):
        labels, probabilities = predictions
        cuts = best_thresholds(labels, probabilities)
        for c, cut in enumerate(cuts):
            every = [sk.f1_score(labels[:, c], probabilities[:, c] >= t) for t in probabilities[:, c]]
            assert sk.f1_score(labels[:, c], probabilities[:, c] >= cut) == pytest.approx(max(every))

    def test_label_never_seen_takes_the_pooled_cut(self, predictions):
        labels, probabilities = predictions
        labels[:, 2] = NAN
        labels[:, 4] = 0
        cuts = best_thresholds(labels, probabilities)
        known = np.delete(np.arange(6), 2)
        flat, guess = labels[:, known].ravel(), probabilities[:, known].ravel()
        assert cuts[2] == cuts[4]
        best = max(sk.f1_score(flat, guess >= t) for t in np.unique(guess))
        assert sk.f1_score(flat, guess >= cuts[2]) == pytest.approx(best)

    def test_nothing_to_choose_by(self):
        np.testing.assert_array_equal(best_thresholds(np.zeros((4, 2)), np.full((4, 2), 0.1)), [0.5, 0.5])

    def test_f1_is_scored_at_them(self, predictions):
        labels, probabilities = predictions
        cuts = np.linspace(0.2, 0.8, 6)
        f1 = by_name(score(labels, probabilities, single_label=False, thresholds=cuts))["F1"]
        assert f1.value == pytest.approx(sk.f1_score(labels, probabilities >= cuts, average="macro"))
        labels[:, 1] = 0  # not scored, and neither is its cut
        rest = np.array([0, 2, 3, 4, 5])
        f1 = by_name(score(labels, probabilities, single_label=False, thresholds=cuts))["F1"]
        expected = sk.f1_score(labels[:, rest], probabilities[:, rest] >= cuts[rest], average="macro")
        assert f1.value == pytest.approx(expected)
        everything = np.zeros(6)
        blind = by_name(score(labels, probabilities, single_label=False, thresholds=everything))["F1"]
        assert blind.value == pytest.approx(f1.floor)


def test_per_label_lists_all_labels(predictions):
    labels, probabilities = predictions
    labels[:, 1] = 0
    labels[:100, 2] = NAN
    rows = per_label(labels, probabilities, label_names="abcdef")
    assert [row.label for row in rows] == list("abcdef")
    assert np.isnan(rows[1].average_precision)
    assert np.isnan(rows[1].floor)
    assert (rows[1].prevalence, rows[1].n_positive, rows[1].n_trials) == (0, 0, 200)
    assert rows[2].average_precision == pytest.approx(
        sk.average_precision_score(labels[100:, 2], probabilities[100:, 2])
    )
    assert rows[2].prevalence == labels[100:, 2].mean()
    assert rows[2].n_trials == 100
    scores = by_name(score(labels, probabilities, single_label=False))
    assert np.nanmean([row.average_precision for row in rows]) == pytest.approx(scores["mAP"].value)
    assert np.nanmean([row.auc for row in rows]) == pytest.approx(scores["AUC"].value)


def test_direction_is_that_of_better_predictions(predictions):
    labels, probabilities = predictions
    better = by_name(score(labels, 0.5 * labels + 0.5 * probabilities, single_label=False))
    for metric, worse in by_name(score(labels, probabilities, single_label=False)).items():
        grows = better[metric].value > worse.value
        assert direction(metric) == ("higher" if grows else "lower")
