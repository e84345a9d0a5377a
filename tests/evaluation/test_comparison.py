from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.comparison import (
    PredictedTrials,
    best_method,
    compare_methods,
    compare_over_seeds,
    holm,
    paired_p_value,
)
from clipmused_bids.evaluation.folds import score_folds
from clipmused_bids.evaluation.inference import stimulus_difference

NAN = float("nan")
GAINS = {"net": 2.0, "ridge": 1.0, "pooled": 1.3, "copy": 1.3}
LINEAR = ("ridge", "pooled", "absent")


def study(*, seed=0, people=5, n=60, gains=GAINS, folds=False):
    rng = np.random.default_rng(seed)
    own = (rng.random((n, 4)) < [0.2, 0.3, 0.4, 0.5]).astype(float)
    labels = np.tile(own, (people, 1))
    predictions = {
        name: 1 / (1 + np.exp(-(gain * (2 * labels - 1) + rng.normal(size=labels.shape))))
        for name, gain in gains.items()
    }
    predictions["copy"] = predictions["pooled"].copy()
    trials = PredictedTrials(
        labels,
        tuple(f"{p}" for p in range(people) for _ in range(n)),
        tuple(f"s{k}" for k in range(n)) * people,
        tuple(f"{k % 3}" for k in range(n)) * people if folds else None,
    )
    return trials, predictions


def compare(trials, predictions, *, metric="mAP", seed=1, **more):
    rng = np.random.default_rng(seed)
    return compare_methods(
        trials, predictions, linear=LINEAR, metric=metric, rng=rng, n_resamples=200, **more
    )


def plain_scores(trials, probabilities, metric):
    person = np.array(trials.participant)
    fold = np.array(trials.fold if trials.fold is not None else [""] * len(person))
    values = []
    for p in np.unique(person):
        rows = person == p
        means = score_folds(trials.labels[rows], probabilities[rows], fold[rows].tolist(), single_label=False)
        values.append({one.score.metric: one.score.value for one in means}[metric])
    return values


class TestCompareMethods:
    @pytest.mark.parametrize("folds", [False, True])
    @pytest.mark.parametrize("metric", ["mAP", "AUC", "Hamming"])
    def test_over_people_is_the_paired_t_test_of_the_reported_scores(self, metric, folds):
        trials, predictions = study(folds=folds)
        found = {one.method: one for one in compare(trials, predictions, metric=metric)}
        assert list(found) == ["net", "ridge", "copy"]
        for method, one in found.items():
            ours, theirs = (plain_scores(trials, predictions[m], metric) for m in (method, "pooled"))
            assert (one.rival, one.role, one.metric) == ("pooled", "the best linear baseline", metric)
            assert one.intervals[0].mean == pytest.approx(np.mean(ours) - np.mean(theirs))
            if method != "copy":
                test = stats.ttest_rel(ours, theirs)
                interval = test.confidence_interval(0.95)
                assert (one.intervals[0].low, one.intervals[0].high) == pytest.approx(tuple(interval))
                assert one.p_value == pytest.approx(test.pvalue)

    @pytest.mark.parametrize("metric", ["mAP", "Hamming"])
    def test_better_and_worse_are_told_whatever_the_metrics_direction(self, metric):
        trials, predictions = study()
        found = {one.method: one for one in compare(trials, predictions, metric=metric)}
        assert found["net"].answers == ("yes", "yes")
        assert found["ridge"].answers == ("no", "no")
        sign = -1 if metric == "Hamming" else 1
        assert sign * found["net"].intervals[0].mean > 0 > sign * found["ridge"].intervals[0].mean

    def test_a_copy_of_the_baseline_is_undetermined(self):
        found = {one.method: one for one in compare(*study())}["copy"]
        assert found.answers == ("undetermined", "undetermined")
        assert [(i.mean, i.low, i.high) for i in found.intervals] == [(0, 0, 0)] * 2
        assert np.isnan([found.p_value, found.p_holm]).all()

    @pytest.mark.parametrize("folds", [False, True])
    def test_over_stimuli_is_the_difference_of_two_under_the_same_weights(self, folds):
        trials, predictions = study(folds=folds)
        found = next(one for one in compare(trials, predictions) if one.method == "net")
        alone = stimulus_difference(
            trials.labels, predictions["net"], predictions["pooled"],
            stimulus_id=trials.stimulus_id, participant=trials.participant, fold=trials.fold,
            metric="mAP", rng=np.random.default_rng(1), n_resamples=200,
        )  # fmt: skip
        assert found.intervals[1] == alone

    def test_the_reference_is_compared_with_all_others(self):
        found = compare(*study(), reference="net")
        assert [(one.method, one.rival) for one in found if one.role == "the reference"] == [
            ("ridge", "net"), ("pooled", "net"), ("copy", "net"),
        ]  # fmt: skip
        line = found[-1].verdicts[0]
        assert line.startswith("beats net (other people): no (mAP against net -")
        first = found[0].verdicts
        assert first[0].startswith("beats the best linear baseline (other people): yes (mAP against pooled +")
        assert first[1].endswith("60 stimuli)")

    def test_p_values_are_corrected_within_the_role(self):
        found = compare(*study(), reference="net")
        for role in ("the best linear baseline", "the reference"):
            family = [one for one in found if one.role == role]
            expected = holm([one.p_value for one in family])
            np.testing.assert_array_equal([one.p_holm for one in family], expected)
        first = min(found[:2], key=lambda one: one.p_value)
        assert first.p_holm == pytest.approx(2 * first.p_value)  # the copy has no p-value

    def test_without_linear_baselines_there_is_no_such_comparison(self):
        trials, predictions = study()
        assert compare(trials, {"net": predictions["net"]}) == ()

    def test_a_reference_without_predictions_is_refused(self):
        with pytest.raises(DataError, match="clip-mused is not among the methods scored: net, ridge"):
            compare(*study(), reference="clip-mused")

    def test_the_order_of_trials_does_not_matter(self):
        trials, predictions = study()
        order = np.random.default_rng(0).permutation(len(trials.participant))
        shuffled = PredictedTrials(
            trials.labels[order],
            tuple(trials.participant[k] for k in order),
            tuple(trials.stimulus_id[k] for k in order),
        )
        before, after = (
            compare(trials, predictions),
            compare(shuffled, {m: p[order] for m, p in predictions.items()}),
        )
        for one, other in zip(before, after, strict=True):
            assert one.intervals[1].low == pytest.approx(other.intervals[1].low)
            assert one.p_holm == pytest.approx(other.p_holm, nan_ok=True)


SEEDS = {
    "net": {"1": 0.50, "2": 0.55, "3": 0.61},
    "ridge": {"1": 0.45, "2": 0.56, "3": 0.52},
    "pooled": {"3": 0.58, "1": 0.47, "2": 0.52},
}


class TestCompareOverSeeds:
    def test_the_seed_is_the_unit(self):
        found = compare_over_seeds(SEEDS, linear=("ridge", "pooled"), metric="mAP", reference="net")
        assert [(one.method, one.rival) for one in found] == [
            ("net", "pooled"), ("ridge", "pooled"), ("ridge", "net"), ("pooled", "net"),
        ]  # fmt: skip
        assert found[0].intervals[0].mean == pytest.approx(0.03)
        assert found[0].answers == ("undetermined",)  # three times the same difference: no spread
        assert np.isnan(found[0].p_value)
        expected = stats.ttest_rel([0.45, 0.56, 0.52], [0.50, 0.55, 0.61])
        assert found[2].p_value == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert (found[2].intervals[0].low, found[2].intervals[0].high) == pytest.approx(tuple(interval))
        assert "3 seeds" in found[2].verdicts[0]
        assert found[2].intervals[0].kind == "other seeds"

    def test_all_need_the_same_seeds(self):
        scores = {**SEEDS, "net": {"1": 0.5, "2": 0.4}}
        with pytest.raises(DataError, match="seeds 3 were scored with one method only"):
            compare_over_seeds(scores, linear=("ridge", "pooled"), metric="mAP")


FOUND = {"a": {"1": 0.2, "2": 0.4}, "b": {"1": 0.5, "2": NAN}, "c": {"1": 0.9, "2": 0.9}}


class TestBestMethod:
    def test_by_direction(self):
        assert best_method(FOUND, among=("a", "b"), metric="AUC") == "b"
        assert best_method(FOUND, among=("a", "b"), metric="Hamming") == "a"

    def test_nothing_to_choose_from(self):
        assert best_method({"a": {"1": NAN}}, among=("a",), metric="mAP") is None
        assert best_method(FOUND, among=("z",), metric="mAP") is None


class TestHolm:
    def test_worked_by_hand(self):
        # Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04, and no later one is smaller.
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
        np.testing.assert_allclose(holm([0.7, 0.6]), [1, 1])

    def test_missing_ones_do_not_count(self):
        np.testing.assert_allclose(holm([NAN, 0.02, NAN, 0.03]), [NAN, 0.04, NAN, 0.04])
        assert holm([]).shape == (0,)

    def test_keeps_the_rate_of_any_false_rejection(self):
        rng = np.random.default_rng(0)
        any_rejected = np.mean([(holm(rng.random(10)) <= 0.05).any() for _ in range(2000)])
        exact = 1 - (1 - 0.05 / 10) ** 10
        assert any_rejected == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2000))


def test_p_value_leaves_out_participants_without_a_value():
    ours, theirs = {"1": 0.2, "2": 0.4, "3": 0.5, "4": NAN}, {"1": 0.1, "2": 0.35, "3": 0.2, "4": 0.3}
    expected = stats.ttest_rel([0.2, 0.4, 0.5], [0.1, 0.35, 0.2]).pvalue
    assert paired_p_value(ours, theirs) == pytest.approx(expected)
    assert np.isnan(paired_p_value({"1": 0.3}, {"1": 0.2}))
