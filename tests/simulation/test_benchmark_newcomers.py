"""A newcomer's decoder learns from the others and from his own trials, and is scored on his alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.ridge import Ridge
from clipmused_bids.methods.variants import find_variant
from clipmused_bids.records import History, TrialData
from clipmused_bids.simulation.benchmark.fits import guided, variant_hyperparameters
from clipmused_bids.simulation.benchmark.newcomers import Newcomer, first_trials, of_participants
from clipmused_bids.simulation.benchmark.prepared import PreparedStudy, prepare_study
from tests.simulation.conftest import TINY


@pytest.fixture(scope="module")
def prepared() -> PreparedStudy:
    return prepare_study(replace(TINY, seed=1000))


def test_the_newcomers_trials_are_his_and_never_test_trials(prepared: PreparedStudy) -> None:
    assert prepared.split.rule == "repeats"
    sets = prepared.together
    seen = np.zeros(sets.trials.n_trials, dtype=bool)
    for trials, n in (("0", 0), ("10", 10), ("all", 40)):
        chosen = first_trials(sets, trials, seed=1000)
        assert chosen.sum() == n
        assert (sets.trials.participant[chosen] == 2).all()
        assert not (sets.set_name[chosen] == "test").any()
        assert chosen[seen].all()
        seen = chosen
    assert (first_trials(sets, "10", seed=1) != first_trials(sets, "10", seed=2)).any()


QUICK = {"model": {"width": 16, "depth": 1, "heads": 2}, "training": {"max_epochs": 2, "n_seeds": 1}}


def test_a_network_meets_the_newcomer_as_it_is(
    prepared: PreparedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[str, ...]] = []
    genuine = NetworkMethod.fit

    def watched(self: NetworkMethod, train: TrialData, validation: TrialData, **named: Any) -> History:
        fitted.append(train.participants)
        assert not set(train.stimulus_id) & set(prepared.together.of("test").stimulus_id)
        return genuine(self, train, validation, **named)

    monkeypatch.setattr(NetworkMethod, "fit", watched)
    newcomer = Newcomer(find_variant("clip-mused"), prepared, seed=1000, over_preset=QUICK)
    results = [newcomer.fit_and_score(trials) for trials in ("0", "10", "all")]
    assert fitted == [("01", "02")]
    assert [result["how"] for result in results] == ["adapted"] * 3
    assert [list(result["metrics"]) for result in results] == [["03"]] * 3
    assert results[0]["metrics"]["03"]["mAP"] > results[0]["floors"]["03"]["mAP"]
    # A network of one participant knows the newcomer only.
    own = Newcomer(find_variant("ss-mlp"), prepared, seed=1000, over_preset=QUICK).fit_and_score("all")
    assert own["how"] == "newcomer alone"
    assert fitted[1:] == [("03",)]


def test_only_methods_that_are_guided_see_targets(prepared: PreparedStudy) -> None:
    seen: dict[str, bool] = {}
    for variant in map(find_variant, ("clip-mused", "clip-mused:image-only", "ms-emb", "ridge-pooled")):
        sets = guided(prepared.together, variant, variant_hyperparameters(variant, over_preset={}))
        seen[variant.name] = sets.trials.targets is not None
        assert (sets.of("test").stimulus == -1).all()
    assert seen == {"clip-mused": True, "clip-mused:image-only": True, "ms-emb": False, "ridge-pooled": False}


def test_only_the_newcomer_is_scored_and_nobody_else_changes_his_own_decoder(prepared: PreparedStudy) -> None:
    own = Newcomer(find_variant("ridge"), prepared, seed=1000, over_preset={}).fit_and_score("all")
    pooled = Newcomer(find_variant("ridge-pooled"), prepared, seed=1000, over_preset={})
    results = {trials: pooled.fit_and_score(trials) for trials in ("0", "10", "all")}
    for result in (own, *results.values()):
        assert list(result["metrics"]) == ["03"]
    others = of_participants(prepared.together.trials, ("01", "02"))
    assert others.n_trials == 160
    assert set(others.participant.tolist()) == {0, 1}
    assert results["0"]["how"] == "decoder of the others"
    assert results["0"]["metrics"] != results["all"]["metrics"]
    # Without the newcomer's trials it is the decoder of a study that he was never in.
    alone = replace(prepared.together, trials=others, set_name=prepared.together.set_name[:160])
    ridge = Ridge(scope="pooled", alphas=(1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3), fit_on="train+validation")
    ridge.fit(alone.of("train"), alone.of("val"))
    test = prepared.together.of("test").of_participant("03")
    scorable = (test.labels == 1).any(axis=0) & (test.labels == 0).any(axis=0)
    expected = average_precision_score(test.labels[:, scorable], ridge.predict_proba(test)[:, scorable])
    assert results["0"]["metrics"]["03"]["mAP"] == pytest.approx(expected)
