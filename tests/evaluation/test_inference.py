from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.inference import (
    Interval,
    answer,
    over_participants,
    paired_difference,
    participant_interval,
    stimulus_difference,
    verdict,
)
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.evaluation.resampling import rarest_labels, strata, stratified_weights
from clipmused_bids.evaluation.weighted import weighted_metric
from clipmused_bids.records import Score

NAN = float("nan")


class TestParticipants:
    def test_is_scipys_one_sample_t_interval(self):
        values = [0.31, 0.42, 0.28, 0.5]
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
        found = participant_interval(values, confidence=0.9)
        assert (found.low, found.high) == pytest.approx(tuple(expected))
        assert found.mean == pytest.approx(np.mean(values))
        assert found.n == 4

    def test_covers_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        found = [participant_interval(rng.normal(0.3, 0.1, 4)) for _ in range(2000)]
        covered = np.mean([f.low <= 0.3 <= f.high for f in found])
        assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors

    def test_participants_without_value_do_not_count(self):
        assert participant_interval([0.2, NAN, 0.4]) == participant_interval([0.2, 0.4])

    def test_one_participant_has_no_interval(self):
        found = participant_interval([0.4])
        assert (found.mean, found.n) == (0.4, 1)
        assert np.isnan([found.low, found.high]).all()
        assert participant_interval([]).n == 0

    def test_difference_is_paired(self):
        ours = {"01": 0.30, "02": 0.50, "03": 0.72}
        theirs = {"03": 0.70, "01": 0.27, "02": 0.49}
        expected = stats.ttest_rel([0.30, 0.50, 0.72], [0.27, 0.49, 0.70]).confidence_interval(0.95)
        found = paired_difference(ours, theirs)
        assert (found.low, found.high) == pytest.approx(tuple(expected))
        assert found.mean == pytest.approx(0.02)

    def test_difference_needs_the_same_participants(self):
        with pytest.raises(DataError, match="participants 02, 03 were scored with one method only"):
            paired_difference({"01": 0.1, "02": 0.2}, {"01": 0.1, "03": 0.2})

    def test_summary_weighs_participants_equally(self):
        rng = np.random.default_rng(1)
        scores = {}
        for person, n in (("01", 50), ("02", 500)):
            labels = (rng.random((n, 4)) < 0.3).astype(float)
            scores[person] = score(labels, rng.random((n, 4)) + labels, single_label=False)
        summaries = over_participants(scores)
        assert [s.metric for s in summaries] == ["mAP", "AUC", "Hamming", "microAP"]
        values = [scores[p][0].value for p in scores]
        assert summaries[0].interval == participant_interval(values)
        assert summaries[0].floor == pytest.approx(np.mean([scores[p][0].floor for p in scores]))

    def test_summary_of_a_metric_one_participant_lacks(self):
        full = (Score("mAP", 0.4, 0.1, 3, 10), Score("top1", 0.2, 0.1, 3, 10))
        summary = over_participants({"01": full, "02": (Score("mAP", NAN, NAN, 0, 0),)})
        assert [(s.metric, s.interval.mean, s.interval.n) for s in summary] == [
            ("mAP", 0.4, 1),
            ("top1", 0.2, 1),
        ]


class TestStimuli:
    def world(self, rng, *, n=150, n_people=2, gain=0.6):
        """Two methods that see one truth through different noise; stimuli are drawn anew each time."""
        labels = (rng.random((n, 4)) < [0.1, 0.2, 0.3, 0.5]).astype(float)
        trials = np.tile(labels, (n_people, 1))
        ours = trials * (1 + gain) + np.tile(rng.normal(size=labels.shape), (n_people, 1))
        theirs = trials + np.tile(rng.normal(size=labels.shape), (n_people, 1))
        ids = [f"s{k}" for k in range(n)] * n_people
        people = np.repeat([f"{p}" for p in range(n_people)], n).tolist()
        return trials, ours, theirs, ids, people

    def difference(self, world, *, seed=0, metric="mAP", **more):
        labels, ours, theirs, ids, people = world
        rng = np.random.default_rng(seed)
        return stimulus_difference(
            labels, ours, theirs, stimulus_id=ids, participant=people, metric=metric, rng=rng, **more
        )

    def test_mean_is_the_plain_difference_averaged_over_participants(self):
        world = self.world(np.random.default_rng(0))
        labels, ours, theirs, _, people = world
        expected = []
        for p in ("0", "1"):
            rows = np.array(people) == p
            both = [score(labels[rows], x[rows], single_label=False)[0].value for x in (ours, theirs)]
            expected.append(both[0] - both[1])
        found = self.difference(world, n_resamples=50)
        assert found.mean == pytest.approx(np.mean(expected))
        assert found.low < found.mean < found.high
        assert (found.n, found.kind) == (150, "other stimuli")

    def test_covers_the_truth_about_as_often_as_it_says(self):
        rng = np.random.default_rng(11)
        worlds = [self.world(rng, n_people=1) for _ in range(500)]
        found = [self.difference(world, seed=k, n_resamples=200) for k, world in enumerate(worlds)]
        truth = np.mean([f.mean for f in found])
        covered = np.mean([f.low <= truth <= f.high for f in found])
        assert 0.90 <= covered <= 0.975  # 0.94 with a standard error of 0.011

    def test_repeats_and_participants_of_one_stimulus_move_together(self):
        # Ten copies of the same trials are no new stimuli: the interval stays as wide.
        world = self.world(np.random.default_rng(3), n_people=1)
        copies = tuple(np.tile(x, (10, 1)) for x in world[:3])
        people = [str(k) for k in range(10) for _ in range(150)]
        order = np.random.default_rng(0).permutation(1500)
        many = (*(x[order] for x in copies), [(world[3] * 10)[i] for i in order], [people[i] for i in order])
        one, ten = self.difference(world), self.difference(many)
        assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=1e-6)

    def test_equal_methods_differ_by_nothing(self):
        labels, ours, _, ids, people = self.world(np.random.default_rng(4))
        found = self.difference((labels, ours, ours, ids, people), n_resamples=20)
        assert (found.mean, found.low, found.high) == (0, 0, 0)

    def test_no_scorable_label_gives_nan(self):
        world = self.world(np.random.default_rng(5))
        found = self.difference((np.zeros_like(world[0]), *world[1:]), n_resamples=5)
        assert np.isnan([found.mean, found.low, found.high]).all()

    @pytest.mark.parametrize(("n", "bounded"), [(19, False), (20, True)])
    def test_few_stimuli_give_a_mean_without_bounds(self, n, bounded):
        found = self.difference(self.world(np.random.default_rng(8), n=n), n_resamples=20)
        assert np.isfinite(found.mean)
        assert np.isfinite([found.low, found.high]).all() == bounded

    def test_folds_are_scored_by_themselves(self):
        world = self.world(np.random.default_rng(9))
        fold = ["a" if int(name[1:]) < 70 else "b" for name in world[3]]
        # What another decoder adds to all its predictions changes nothing: trials of two folds are not compared.
        shift = np.where(np.array(fold) == "b", 5.0, 0.0)[:, None]
        moved = (world[0], world[1] + shift, *world[2:])
        plain = self.difference(world, fold=fold, n_resamples=50)
        again = self.difference(moved, fold=fold, n_resamples=50)
        assert (again.mean, again.low, again.high) == pytest.approx((plain.mean, plain.low, plain.high))
        assert self.difference(moved, n_resamples=50).mean < plain.mean - 0.02

    def test_same_seed_same_interval(self):
        world = self.world(np.random.default_rng(6))
        assert self.difference(world, seed=1, n_resamples=50) == self.difference(
            world, seed=1, n_resamples=50
        )
        assert self.difference(world, seed=1, n_resamples=50) != self.difference(
            world, seed=2, n_resamples=50
        )

    def test_rare_labels_keep_their_positives(self):
        rng = np.random.default_rng(7)
        labels = np.zeros((200, 2))
        labels[:1, 0] = labels[50:120, 1] = 1
        weights = stratified_weights(rarest_labels(labels, np.arange(200)), n_resamples=300, rng=rng)
        assert np.isfinite(weighted_metric(labels, rng.random((200, 2)), weights, metric="mAP")).all()
        # 70 stimuli of the second label form a stratum, the rest (129 without label, 1 too few) one other each.
        np.testing.assert_allclose(weights[:, 50:120].sum(axis=1), 70)
        np.testing.assert_allclose(weights.sum(axis=1), 200)
        assert weights.min() > 0

    @pytest.mark.parametrize("m", [3, 5, 12, 60])
    def test_weighted_means_spread_as_means_of_other_stimuli_do(self, m):
        rng = np.random.default_rng(m)
        rarest = np.repeat([0, 1, 2], [m, 40, 5])
        weights = stratified_weights(rarest, n_resamples=40_000, rng=rng)[:, :m]
        values = rng.normal(size=m)
        means = weights @ values / weights.sum(axis=1)
        assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(40_000))
        assert means.var() == pytest.approx(values.var(ddof=1) / m, rel=0.04)

    def test_stratum_is_the_rarest_label(self):
        labels = np.zeros((60, 3))
        labels[:40, 0] = 1  # frequent
        labels[:12, 1] = 1  # rarer, and together with the frequent one
        labels[12:15, 2] = 1  # too rare for a stratum of its own
        found = strata(rarest_labels(np.tile(labels, (2, 1)), np.tile(np.arange(60), 2)))
        assert found.tolist() == [1] * 12 + [-1] * 3 + [0] * 25 + [3] * 20


class TestVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "better", "answer"),
        [
            (0.01, 0.05, "higher", "yes"),
            (-0.05, -0.01, "higher", "no"),
            (-0.01, 0.05, "higher", "undetermined"),
            (0.01, 0.05, "lower", "no"),
            (-0.05, -0.01, "lower", "yes"),
        ],
    )
    def test_follows_from_the_interval(self, low, high, better, answer):
        line = verdict(
            Interval((low + high) / 2, low, high, 4), metric="mAP", baseline="ridge", better=better
        )
        assert line.startswith(f"beats the best linear baseline (other people): {answer} ")

    def test_line(self):
        line = verdict(
            Interval(0.03, 0.01, 0.05, 515, "other stimuli"), metric="mAP", baseline="ridge-pooled"
        )
        assert line == (
            "beats the best linear baseline (other stimuli): yes "
            "(mAP against ridge-pooled +0.030 [+0.010, +0.050], 515 stimuli)"
        )

    def test_without_interval_is_undetermined(self):
        line = verdict(participant_interval([0.2]), metric="mAP", baseline="ridge")
        assert "undetermined (mAP against ridge +0.200, no interval from 1 participants)" in line

    def test_a_spread_of_nothing_is_no_evidence(self):
        # Two people whose accuracies differ by one trial of ten each.
        found = paired_difference({"01": 0.4, "02": 0.7}, {"01": 0.3, "02": 0.6})
        assert answer(found) == "undetermined"
        assert answer(Interval(0.1, 0.09, 0.11, 2)) == "yes"

    def test_names_another_rival_and_other_units(self):
        found = paired_difference({"s1": 0.4, "s2": 0.5}, {"s1": 0.3, "s2": 0.1}, kind="other seeds")
        line = verdict(found, metric="mAP", baseline="ss-vit", rival="the reference")
        assert line.startswith("beats the reference (other seeds): undetermined (mAP against ss-vit +0.250 [")
        assert line.endswith("2 seeds)")
