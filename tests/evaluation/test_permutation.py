from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.exchange import exchange_stimuli, exchange_trials, fitting_scheme
from clipmused_bids.evaluation.metrics import score
from clipmused_bids.evaluation.permutation import permutation_test
from clipmused_bids.evaluation.permuted import permuted_metric

NAN = float("nan")
METRICS = ["mAP", "AUC", "Hamming", "top1"]


def arranged(labels, exchange):
    """Labels (n_permutations + 1, n, C) that the trials take, row by row."""
    holder = np.zeros(exchange.source.shape[1], dtype=int)
    holder[exchange.unit] = np.arange(len(labels))
    return labels[holder[exchange.source[:, exchange.unit]]]


def plain(labels, probabilities, metric):
    scores = {s.metric: s.value for s in score(labels, probabilities, single_label=True)}
    return scores[metric]


class TestPermutedMetric:
    @settings(max_examples=40, deadline=None)
    @given(
        n=st.integers(4, 30),
        levels=st.integers(1, 20),
        seed=st.integers(0, 10_000),
        unknown=st.sampled_from([0.0, 0.2]),
        metric=st.sampled_from(METRICS),
    )
    def test_is_scikit_learns_on_the_arranged_labels(self, n, levels, seed, unknown, metric):
        rng = np.random.default_rng(seed)
        labels = np.eye(5)[rng.integers(4, size=n)]
        if metric != "top1" or seed % 2:
            labels[rng.random(labels.shape) < unknown] = NAN
        probabilities = rng.integers(levels + 1, size=labels.shape) / levels
        source = np.vstack([np.arange(n), *(rng.permutation(n) for _ in range(3))])
        found = permuted_metric(labels, source, probabilities, metric=metric)
        expected = [plain(labels[one], probabilities, metric) for one in source]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)

    def test_ties_are_one_step(self):
        labels = np.array([1.0, 0, 1, 0, 0, 1])[:, None]
        scores = np.array([0.9, 0.5, 0.5, 0.5, 0.2, 0.2])[:, None]
        source = np.vstack([np.arange(6), [2, 0, 1, 4, 5, 3]])
        for metric, theirs in (("mAP", sk.average_precision_score), ("AUC", sk.roc_auc_score)):
            found = permuted_metric(labels, source, scores, metric=metric)
            np.testing.assert_allclose(found, [theirs(labels[one, 0], scores[:, 0]) for one in source])

    @pytest.mark.parametrize("metric", METRICS)
    def test_many_arrangements_and_trials_are_done_in_parts(self, metric, monkeypatch):
        rng = np.random.default_rng(0)
        labels = np.eye(3)[rng.integers(3, size=40)]
        probabilities = rng.random((40, 3))
        source = np.argsort(rng.random((50, 40)), axis=1)
        whole = permuted_metric(labels, source, probabilities, metric=metric)
        monkeypatch.setattr("clipmused_bids.evaluation.permuted.AT_ONCE", 90)
        np.testing.assert_allclose(permuted_metric(labels, source, probabilities, metric=metric), whole)

    @pytest.mark.parametrize("metric", METRICS)
    def test_nothing_to_score_is_nan(self, metric):
        source = np.tile(np.arange(4), (3, 1))
        found = permuted_metric(np.ones((4, 2)), source, np.full((4, 2), 0.5), metric=metric)
        assert np.isnan(found).all()


class TestExchangeOfStimuli:
    ids = ("a", "b", "c", "a", "c", "b", "d", "b", "a", "e", "c")
    people = ("1", "1", "1", "1", "1", "1", "1", "2", "2", "2", "2")

    def draw(self, n=200, **more):
        rng = np.random.default_rng(0)
        return exchange_stimuli(self.ids, self.people, n_permutations=n, rng=rng, **more)

    def test_repeats_and_participants_take_the_same_labels(self):
        labels = np.arange(5.0)[[ord(name) - ord("a") for name in self.ids]][:, None]
        found = arranged(labels, self.draw())[..., 0]
        np.testing.assert_array_equal(found[0], labels[:, 0])
        for name in "abcde":
            rows = [k for k, each in enumerate(self.ids) if each == name]
            assert (found[:, rows] == found[:, rows[:1]]).all()

    def test_only_stimuli_of_the_same_participants_change_places(self):
        exchange = self.draw()
        moved = dict(zip("abcde", exchange.moves, strict=True))
        assert moved == {"a": True, "b": True, "c": True, "d": False, "e": False}
        assert {tuple(row) for row in exchange.source[1:, :3]} == set(permutations(range(3)))

    def test_only_stimuli_of_the_same_folds_change_places(self):
        fold = ["1" if name in "ab" else "2" for name in self.ids]
        exchange = self.draw(fold=fold)
        assert exchange.moves.tolist() == [True, True, False, False, False]

    def test_is_drawn_uniformly(self):
        source = self.draw(n=3000).source[1:, :3]
        counts = np.unique(source, axis=0, return_counts=True)[1]
        assert len(counts) == 6
        assert stats.chisquare(counts).pvalue > 1e-4

    def test_needs_one_entry_per_trial(self):
        with pytest.raises(DataError, match="11 participants, 10 stimuli or runs and 11 folds"):
            exchange_stimuli(self.ids[1:], self.people, n_permutations=2, rng=np.random.default_rng(0))


class TestExchangeOfTrials:
    def draw(self, scheme, *, runs, people, n=300, **more):
        rng = np.random.default_rng(1)
        return exchange_trials(runs, people, scheme=scheme, n_permutations=n, rng=rng, **more)

    def test_shifts_keep_neighbours_and_stay_in_the_run(self):
        runs = ["m1"] * 5 + ["m2"] * 4
        exchange = self.draw("circular shifts", runs=runs, people=["1"] * 9)
        for first, length in ((0, 5), (5, 4)):
            part = exchange.source[:, first : first + length] - first
            np.testing.assert_array_equal((np.diff(part, axis=1)) % length, 1)
            assert set(part[1:, 0]) == set(range(length))
        shifts = exchange.source[1:, [0, 5]] - [0, 5]
        assert len(np.unique(shifts, axis=0)) == 20  # the two runs shift independently

    def test_participants_share_a_run_of_one_length(self):
        runs = ["r1"] * 6 + ["r1"] * 6 + ["r1"] * 5
        people = ["1"] * 6 + ["2"] * 6 + ["3"] * 5
        for scheme in ("circular shifts", "trials within runs"):
            source = self.draw(scheme, runs=runs, people=people).source
            np.testing.assert_array_equal(source[:, 6:12] - 6, source[:, :6])
            assert not (source[:, 12:16] - 12 == source[:, :4]).all()

    def test_trials_interleaved_in_the_table_keep_their_order(self):
        exchange = self.draw("circular shifts", runs=["a", "b"] * 4, people=["1"] * 8)
        np.testing.assert_array_equal(np.diff(exchange.source[:, ::2], axis=1) % 8, 2)

    def test_permutations_within_runs_are_all_there(self):
        source = self.draw("trials within runs", runs=["r"] * 3, people=["1"] * 3).source
        assert {tuple(row) for row in source} == set(permutations(range(3)))

    def test_folds_are_apart(self):
        exchange = self.draw(
            "trials within runs", runs=["r"] * 4, people=["1"] * 4, fold=["x", "x", "y", "z"]
        )
        assert exchange.moves.tolist() == [True, True, False, False]


class TestFittingScheme:
    labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]

    def test_movies_are_shifted(self):
        assert fitting_scheme(self.labels, "abcabc", continuous=True, blocked=True) == "circular shifts"

    def test_conditions_and_blocks_exchange_trials(self):
        assert fitting_scheme(self.labels, "abcabc", continuous=False, blocked=False) == "trials within runs"
        assert fitting_scheme(self.labels, "abcdef", continuous=False, blocked=True) == "trials within runs"

    def test_pictures_of_a_category_are_stimuli(self):
        assert fitting_scheme(self.labels, "abcdef", continuous=False, blocked=False) == "stimuli"
        several = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]])
        assert fitting_scheme(several, "abc", continuous=False, blocked=False) == "stimuli"


def study(rng, *, n=30, repeats=2, people=2, gain=0.0, n_labels=3):
    """Predictions that know the stimulus's labels (gain), and otherwise vary by stimulus and by trial."""
    own = (rng.random((n, n_labels)) < [0.2, 0.3, 0.5][:n_labels]).astype(float)
    own[:2] = [[0] * n_labels, [1] * n_labels]
    ids = np.tile(np.arange(n), repeats * people)
    who = np.repeat(np.arange(people), n * repeats)
    of_stimulus = rng.normal(size=own.shape)
    latent = gain * own[ids] + of_stimulus[ids] + 0.3 * rng.normal(size=(len(ids), n_labels))
    return own[ids], 1 / (1 + np.exp(-latent)), [f"s{k:03d}" for k in ids], [f"{p}" for p in who]


class TestPermutationTest:
    @pytest.mark.parametrize("metric", ["mAP", "AUC", "Hamming"])
    def test_is_the_definition_worked_out_slowly(self, metric):
        labels, probabilities, ids, people = study(np.random.default_rng(3), n=12, gain=1.0)
        labels[np.array(ids) == "s004"] = NAN
        fold = ["a" if int(name[1:]) % 2 else "b" for name in ids]
        rng = np.random.default_rng(0)
        exchange = exchange_stimuli(ids, people, fold=fold, n_permutations=30, rng=rng)
        found = permutation_test(labels, probabilities, exchange, metric=metric)
        pieces = {p: [(np.array(people) == p) & (np.array(fold) == f) for f in "ab"] for p in "01"}
        values = {
            p: [
                np.mean([plain(y[k], probabilities[k], metric) for k in rows])
                for y in arranged(labels, exchange)
            ]
            for p, rows in pieces.items()
        }
        values["group"] = list(np.mean(list(values.values()), axis=0))
        for who, result in {**found.participants, "group": found.group}.items():
            observed, null = values[who][0], np.array(values[who][1:])
            good = null <= observed + 1e-9 if metric == "Hamming" else null >= observed - 1e-9
            assert result.observed == pytest.approx(observed)
            assert result.chance == pytest.approx(null.mean())
            assert result.p_value == (1 + good.sum()) / 31
        assert (found.n_permutations, found.n_units, found.scheme) == (30, 12, "stimuli")

    def test_approaches_the_exact_p_value(self):
        labels = np.array([1, 1, 0, 0, 0, 1.0])[:, None]
        scores = np.array([0.9, 0.5, 0.7, 0.2, 0.1, 0.4])[:, None]
        every = [sk.average_precision_score(labels[list(p), 0], scores[:, 0]) for p in permutations(range(6))]
        observed = sk.average_precision_score(labels[:, 0], scores[:, 0])
        exact = np.mean(np.array(every) >= observed - 1e-12)
        rng = np.random.default_rng(0)
        exchange = exchange_stimuli(list("abcdef"), ["1"] * 6, n_permutations=20_000, rng=rng)
        found = permutation_test(labels, scores, exchange, metric="mAP").group.p_value
        assert 0.1 < exact < 0.9
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))

    @pytest.mark.parametrize("metric", METRICS)
    def test_a_planted_effect_is_found(self, metric):
        rng = np.random.default_rng(5)
        n_classes = 3
        labels = np.eye(n_classes)[np.tile(np.arange(n_classes), 15)]
        probabilities = 0.6 * labels + 0.4 * rng.random(labels.shape)
        exchange = exchange_stimuli([f"{k}" for k in range(45)], ["1"] * 45, n_permutations=99, rng=rng)
        assert permutation_test(labels, probabilities, exchange, metric=metric).group.p_value == 0.01
        turned = permutation_test(labels, 1 - probabilities, exchange, metric=metric)
        assert turned.group.p_value == 1

    def test_predictions_that_are_all_the_same_are_not_significant(self):
        labels, probabilities, ids, people = study(np.random.default_rng(0))
        exchange = exchange_stimuli(ids, people, n_permutations=20, rng=np.random.default_rng(0))
        found = permutation_test(labels, np.full_like(probabilities, 0.2), exchange, metric="mAP")
        assert found.group.p_value == 1

    def test_nothing_to_exchange_or_to_score_has_no_p_value(self):
        labels, probabilities, ids, _ = study(np.random.default_rng(0), n=5, repeats=1, people=1)
        alone = exchange_stimuli(ids, ids, n_permutations=20, rng=np.random.default_rng(0))
        assert alone.moves.sum() == 0
        assert np.isnan(permutation_test(labels, probabilities, alone, metric="top1").group.p_value)
        exchange = exchange_stimuli(ids, ["1"] * 5, n_permutations=20, rng=np.random.default_rng(0))
        result = permutation_test(np.zeros_like(labels), probabilities, exchange, metric="mAP").group
        assert np.isnan([result.observed, result.p_value]).all()

    def test_a_participant_without_scorable_labels_does_not_enter_the_mean(self):
        labels, probabilities, ids, people = study(np.random.default_rng(2), people=2, gain=1.0)
        ids = [name + who for name, who in zip(ids, people, strict=True)]  # nobody shares a stimulus
        labels[np.array(people) == "1"] = 0
        exchange = exchange_stimuli(ids, people, n_permutations=50, rng=np.random.default_rng(0))
        found = permutation_test(labels, probabilities, exchange, metric="AUC")
        assert found.group == found.participants["0"]
        assert np.isnan(found.participants["1"].observed)

    def test_labels_of_a_stimulus_must_agree(self):
        labels, probabilities, ids, people = study(np.random.default_rng(0))
        labels[3, 0] = 1 - labels[3, 0]
        exchange = exchange_stimuli(ids, people, n_permutations=2, rng=np.random.default_rng(0))
        with pytest.raises(DataError, match="1 stimuli have different labels in different trials"):
            permutation_test(labels, probabilities, exchange, metric="mAP")
        with pytest.raises(DataError, match="119 trials for permutations of 120"):
            permutation_test(labels[1:], probabilities[1:], exchange, metric="mAP")
