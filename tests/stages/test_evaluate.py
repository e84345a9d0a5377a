from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.errors import DataError
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.records import Score, Split
from clipmused_bids.stages.comparing import Rival
from clipmused_bids.stages.contenders import Contender, label_beside
from clipmused_bids.stages.decode import decode_participants
from clipmused_bids.stages.evaluate import compare, participant_table
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.scoring import Scored, score_decoder, scores_by_participant
from clipmused_bids.stages.train import train_group
from tests.stages.conftest import World, make_catalogue, make_run, make_trials

NAMES = [f"s{k:02d}" for k in range(40)]
LABELS = {name: [k % 2, k % 3 == 0, k == 39] for k, name in enumerate(NAMES)}
CATALOGUE = make_catalogue(LABELS, names=("cat", "dog", "cow"))
SETS = {name: ("train", "train", "val", "test")[k // 10] for k, name in enumerate(NAMES)}


def decoded(world: World, method: str, *, split: Split, noise: float = 3.0) -> tuple[Plan, Scored]:
    if not world.runs:
        rng = np.random.default_rng(1)
        truth = np.array([LABELS[name] for name in NAMES], dtype=float)
        weights = rng.normal(size=(3, 12))
        for participant in ("01", "02", "03"):
            world.add(make_run(participant), NAMES, truth @ weights + noise * rng.normal(size=(40, 12)))
    plan = world.plan()
    train_group(
        plan,
        world.tree,
        CATALOGUE,
        split,
        method=method,
        model_label=f"m+{method[:5]}",
        maker=None,
        device="cpu",
    )
    decode_participants(
        plan, world.tree, split, model_label=f"m+{method[:5]}", failures=Failures(), label_names=()
    )
    return plan, score_decoder(plan, world.tree, CATALOGUE, model_label=f"m+{method[:5]}", method=method)


@pytest.fixture
def split(world: World) -> Split:
    for participant in ("01", "02", "03"):
        world.trials[make_run(participant).key] = make_trials(NAMES)
    rows = [(make_run(p).key, name) for p in ("01", "02", "03") for name in NAMES]
    return Split(
        tuple(key for key, _ in rows), tuple(name for _, name in rows), tuple(SETS[name] for _, name in rows),  # type: ignore[arg-type]
        ("by hand",) * len(rows), "file", "unseen stimuli",
    )  # fmt: skip


def test_scores_are_of_the_test_trials_and_the_group_is_the_mean_of_people(
    world: World, split: Split
) -> None:
    """`cow` occurs in no training trial, so no decoder knows it and nothing is scored."""
    _, scored = decoded(world, "ridge", split=split)
    assert scored.label_names == ("cat", "dog")
    assert scored.stimulus_id == tuple(NAMES[30:]) * 3
    truth = np.array([LABELS[name][:2] for name in NAMES[30:]])
    found = {"mAP": average_precision_score, "AUC": roc_auc_score}
    for metric, function in found.items():
        values = []
        for p, participant in enumerate(("01", "02", "03")):
            rows = scored.probabilities[10 * p : 10 * p + 10]
            values.append(np.mean([function(truth[:, c], rows[:, c]) for c in range(2)]))
            one = scored.score_of(metric, participant)
            assert (one.value, one.n_labels, one.n_trials) == (pytest.approx(values[-1]), 2, 10)
        assert scored.score_of(metric, "group").value == pytest.approx(np.mean(values))
    assert scored.score_of("mAP", "01").floor > truth.mean(axis=0).mean()
    assert math.isnan(scored.score_of("top1", "01").value)
    assert set(scores_by_participant(scored.rows, averaging="single trials")) == {"01", "02", "03"}
    assert scores_by_participant(scored.rows, averaging="repeats averaged") == {}


def test_nothing_held_out_for_someone_is_refused(world: World, split: Split) -> None:
    plan, _ = decoded(world, "ridge-pooled", split=split)
    for path in world.tree.root.glob("sub-02/func/*_predictions.tsv"):
        path.unlink()
    with pytest.raises(DataError, match="sub-02: no prediction is of a labelled test trial"):
        score_decoder(plan, world.tree, CATALOGUE, model_label="m+ridge", method="ridge-pooled")


def made(method: str, quality: float, *, seed: int = 0) -> Scored:
    """Probabilities that are the truth plus noise; mAP rows as they would be scored."""
    rng = np.random.default_rng(seed)
    truth = np.tile(np.array([LABELS[name][:2] for name in NAMES]), (3, 1))
    chances = 1 / (1 + np.exp(-(quality * (2 * truth - 1) + rng.normal(size=truth.shape))))
    rows = []
    people = np.repeat(["01", "02", "03"], 40)
    for who in ("01", "02", "03"):
        value = float(
            np.mean(average_precision_score(truth[people == who], chances[people == who], average=None))
        )
        rows.append(MetricRow(who, "test", "single trials", Score("mAP", value, 0.4, 2, 40)))
    mean = float(np.mean([row.score.value for row in rows]))
    rows.append(MetricRow("group", "test", "single trials", Score("mAP", mean, 0.4, 2, 120)))
    return Scored(
        method,
        method,
        ("cat", "dog"),
        tuple(people.tolist()),
        tuple(NAMES) * 3,
        truth.astype(float),
        chances,
        tuple(rows),
        (),
    )


def rivals_of(*scored: Scored) -> list[Rival]:
    return [
        Rival(Contender(VARIANTS[one.method], one.label, main=k == 0, asked=True), one)
        for k, one in enumerate(scored)
    ]


@pytest.mark.parametrize(("quality", "answer"), [(3.0, "yes"), (-1.0, "no")])
def test_the_rival_is_the_better_linear_baseline(quality: float, answer: str) -> None:
    """And never the floor, however well it does here."""
    rivals = {
        "ridge": made("ridge", 0.2, seed=1),
        "ridge-pooled": made("ridge-pooled", 0.6, seed=2),
        "prevalence": made("prevalence", 9.0),
    }
    ours = made("clip-mused", quality)
    verdicts = compare(ours, rivals_of(ours, *rivals.values()), metric="mAP", seed=0)
    assert len(verdicts) == 2
    for interval, text in verdicts:
        assert answer in text
        assert "ridge-pooled" in text
        assert np.sign(interval.mean) == np.sign(quality)
    theirs = rivals["ridge-pooled"]
    differences = [
        ours.score_of("mAP", p).value - theirs.score_of("mAP", p).value for p in ("01", "02", "03")
    ]
    assert verdicts[0][0].mean == pytest.approx(np.mean(differences))


def test_the_best_baseline_is_not_compared_with_itself() -> None:
    good, poor, floor = made("ridge-pooled", 2.0), made("ridge", 0.2), made("prevalence", 2.0)
    assert compare(good, rivals_of(good, poor), metric="mAP", seed=0) == []
    assert [text.split(": ")[1][:2] for _, text in compare(poor, rivals_of(poor, good), metric="mAP", seed=0)] == [
        "no", "no",
    ]  # fmt: skip
    assert compare(floor, rivals_of(floor), metric="mAP", seed=0) == []


def test_the_table_holds_everyone_and_every_rival() -> None:
    ours, rival = made("clip-mused", 1.0), made("ridge", 0.5)
    lines = participant_table(ours, {"ridge": rival}, ceilings={"01": 0.25}, main="mAP").splitlines()
    assert [line.split()[0] for line in lines] == ["participant", "sub-01", "sub-02", "sub-03", "group"]
    first = lines[1].split()
    assert first[1:3] == [f"{ours.score_of('mAP', '01').value:.3f}", "0.400"]
    assert first[-2:] == [f"{rival.score_of('mAP', '01').value:.3f}", "0.250"]
    assert lines[2].split()[-1] == "n/a", "no ceiling is known there"
    assert "top1" in participant_table(ours, {}, ceilings={}, main="top1").splitlines()[0]


def test_names_of_baselines_are_labels() -> None:
    assert label_beside("clipmused", VARIANTS["ridge-pooled"]) == "clipmused+ridgepooled"
