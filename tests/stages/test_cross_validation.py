"""Cross-validation of stored responses against loops written with scikit-learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from clipmused_bids.dataset.outputs.map_files import read_map_table
from clipmused_bids.dataset.outputs.split_file import read_split, write_split
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.evaluation.calibration import fit_calibration
from clipmused_bids.evaluation.cross_validation import make_folds, parts_of
from clipmused_bids.records import Split
from clipmused_bids.stages.carry_out import Job
from clipmused_bids.stages.decode import decode_participants
from clipmused_bids.stages.failures import Failures, MethodFailures
from clipmused_bids.stages.label_choice import stimuli_in
from clipmused_bids.stages.maps import make_maps
from clipmused_bids.stages.scored import label_scores
from clipmused_bids.stages.scoring import score_decoder
from clipmused_bids.stages.splitting import design_of, split_hash
from clipmused_bids.stages.train import train_group
from clipmused_bids.stages.training_set import training_set
from tests.methods.test_ridge_solver import penalty
from tests.stages.conftest import World, make_catalogue, make_run

CONDITIONS = ("cat", "dog", "face")
CATALOGUE = make_catalogue(
    {name: [float(name == other) for other in CONDITIONS] for name in CONDITIONS},
    names=CONDITIONS, single_label=True,
)  # fmt: skip
ALPHA = 0.1
TABLES = {"fit_on": "train", "linear": {"alphas": [ALPHA]}, "responses": {"standardize": "participant"}}
SHOWN = CONDITIONS * 4
N = len(SHOWN)


@pytest.fixture
def study(world: World) -> World:
    """Two people, four runs of twelve trials; the conditions differ by a direction of each person's voxels."""
    rng = np.random.default_rng(5)
    for participant in ("01", "02"):
        directions = rng.normal(size=(3, 14))
        for number in range(1, 5):
            noise = 1.6 * rng.normal(size=(len(SHOWN), 14))
            world.add(make_run(participant, number), SHOWN, directions[np.arange(N) % 3] + noise + number)
    return world


def folded(study: World, rule: str = "runs") -> Split:
    return make_folds(design_of(study.plan(), CATALOGUE, "auto"), rule=rule, seed=0)


def train(study: World, split: Split, *, method: str = "ridge", label: str = "m", **config: object) -> bool:
    return train_group(
        study.plan(hyperparameters=TABLES, **config), study.tree, CATALOGUE, split, method=method,
        model_label=label, maker=None, device="cpu",
    )  # fmt: skip


def decode(study: World, split: Split, *, label: str = "m") -> None:
    decode_participants(
        study.plan(hyperparameters=TABLES),
        study.tree,
        split,
        model_label=label,
        failures=Failures(),
        label_names=(),
    )


def arrays(study: World, participant: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses, labels and run of each trial of a participant."""
    values = [study.values[make_run(participant, number).key] for number in range(1, 5)]
    truth = np.tile(np.eye(3)[np.arange(N) % 3], (4, 1))
    return np.concatenate(values).astype(np.float64), truth, np.repeat([1, 2, 3, 4], N)


def by_hand(study: World, participant: str) -> np.ndarray:
    """Out-of-fold predictions: everything is told from the training runs, which are all but two."""
    x, y, run = arrays(study, participant)
    out = np.empty_like(y)
    for held in (1, 2, 3, 4):
        rows = (run != held) & (run != held % 4 + 1)
        scaled = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)
        peer = Ridge(penalty(scaled[rows], ALPHA)).fit(scaled[rows], y[rows])
        out[run == held] = np.clip(peer.predict(scaled[run == held]), 0, 1)
    return out


def predicted(study: World, participant: str, label: str = "m") -> pd.DataFrame:
    files = sorted(study.tree.root.glob(f"sub-{participant}/func/*_desc-{label}_predictions.tsv"))
    return pd.concat([pd.read_csv(path, sep="\t", na_values="n/a") for path in files], ignore_index=True)


def test_predictions_of_each_fold_are_those_of_a_loop_by_hand(study: World) -> None:
    split = folded(study)
    train(study, split)
    decode(study, split)
    for participant in ("01", "02"):
        table = predicted(study, participant)
        assert table["fold"].tolist() == np.repeat([1, 2, 3, 4], N).tolist()
        assert set(table["set"]) == {"test"}
        found = table[[f"prob_{name}" for name in CONDITIONS]].to_numpy()
        np.testing.assert_allclose(found, by_hand(study, participant), atol=2e-5)


def test_scores_are_means_over_folds_and_accuracy_is_that_of_all_trials(study: World) -> None:
    split = folded(study)
    train(study, split)
    decode(study, split)
    scored = score_decoder(
        study.plan(hyperparameters=TABLES), study.tree, CATALOGUE, model_label="m", method="ridge"
    )
    for participant in ("01", "02"):
        _, truth, run = arrays(study, participant)
        guess = by_hand(study, participant)
        precisions = [
            [average_precision_score(truth[run == k, c], guess[run == k, c]) for c in range(3)]
            for k in (1, 2, 3, 4)
        ]
        assert scored.score_of("mAP", participant).value == pytest.approx(np.mean(precisions), abs=1e-6)
        hits = guess.argmax(axis=1) == truth.argmax(axis=1)
        top1 = scored.score_of("top1", participant)
        assert (top1.value, top1.n_trials) == (pytest.approx(hits.mean()), 4 * N)
        labels = label_scores(scored, participant)
        np.testing.assert_allclose(
            [one.average_precision for one in labels], np.mean(precisions, axis=0), atol=1e-6
        )
        assert [one.n_positive for one in labels] == [4 * N / 3] * 3
        for k in (1, 2, 3, 4):
            row = next(
                one
                for one in scored.fold_rows[k]
                if (one.participant, one.score.metric) == (participant, "mAP")
            )
            assert row.score.value == pytest.approx(np.mean(precisions[k - 1]), abs=1e-6)


def test_each_fold_is_calibrated_on_the_fold_that_validated_it(study: World) -> None:
    """Slope and intercept by hand: the fold's own decoder on the next fold, one map for all labels."""
    split = folded(study)
    train(study, split)
    decode(study, split)
    before = predicted(study, "01")
    tables = {**TABLES, "evaluation": {"calibrate": True}}
    plan = study.plan(hyperparameters=tables)
    scored = score_decoder(plan, study.tree, CATALOGUE, model_label="m", method="ridge")
    x, y, run = arrays(study, "01")
    found = scored.probabilities[np.array(scored.participant) == "01"]
    for held in (1, 2, 3, 4):
        following = held % 4 + 1
        rows = (run != held) & (run != following)
        scaled = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)
        peer = Ridge(penalty(scaled[rows], ALPHA)).fit(scaled[rows], y[rows])
        guess = np.clip(peer.predict(scaled), 0, 1)
        calibration = fit_calibration(y[run == following], guess[run == following], scope="pooled")
        np.testing.assert_allclose(found[run == held], calibration.apply(guess[run == held]), atol=2e-4)
    assert not np.allclose(found, by_hand(study, "01"), atol=1e-3)
    pd.testing.assert_frame_equal(predicted(study, "01"), before)


def test_the_kept_weights_are_a_fit_to_all_trials(study: World) -> None:
    train(study, folded(study))
    model = load_file(study.tree.model_folder("m") / "sub-01_model.safetensors")
    config = json.loads((study.tree.model_folder("m") / "sub-01_config.json").read_text())
    x, y, _ = arrays(study, "01")
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    peer = Ridge(penalty(scaled, ALPHA)).fit(scaled, y)
    np.testing.assert_allclose(model["mean.01"][0], x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model["decoder.coef.01"], peer.coef_.T, atol=1e-5)
    assert config["split"]["held_out"] == "none: fitted to all folds"
    assert (config["split"]["folds"], config["hyperparameters"]["fit_on"]) == (4, "train+validation")


def test_new_runs_are_decoded_by_the_weights_of_all_folds(study: World) -> None:
    split = folded(study)
    train(study, split)
    values = study.values[make_run("01", 2).key]
    study.add(make_run("01", 5), SHOWN, values)
    decode(study, split)
    new = predicted(study, "01").iloc[-N:]
    assert set(new["set"]) == {"new"}
    assert new["fold"].isna().all()
    x, y, _ = arrays(study, "01")
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    peer = Ridge(penalty(scaled, ALPHA)).fit(scaled, y)
    expected = np.clip(peer.predict((values - x.mean(axis=0)) / x.std(axis=0)), 0, 1)
    np.testing.assert_allclose(new[[f"prob_{name}" for name in CONDITIONS]].to_numpy(), expected, atol=2e-5)


def test_an_interrupted_cross_validation_goes_on_where_it_stopped(
    study: World, caplog: pytest.LogCaptureFixture
) -> None:
    split = folded(study)
    assert train(study, split) is True
    folder = study.tree.model_folder("m")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*_model.safetensors")}
    lost = [folder / "folds" / "3" / "sub-02_model.safetensors", folder / "sub-01_model.safetensors"]
    content = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    assert train(study, split) is False
    assert [path.read_bytes() for path in lost] == content
    assert {path: path.stat().st_mtime_ns for path in before if path not in lost} == {
        path: time for path, time in before.items() if path not in lost
    }


def test_another_configuration_of_one_fold_is_refused(study: World) -> None:
    split = folded(study)
    train(study, split)
    with pytest.raises(CannotCreateError, match="random_seed"):
        train(study, split, random_seed=3)
    with pytest.raises(CannotCreateError, match="split"):
        train(study, folded(study, "runs:3"))


def test_a_fold_that_reads_what_it_holds_out_is_found(study: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted leak: the training trials of each fold hold its own test trials."""
    split = folded(study)

    def leaking(plan, tree, catalogue, part, **more):  # type: ignore[no-untyped-def]
        names = tuple("train" if name == "test" else name for name in part.set_name)
        leaky = Split(part.run_key, part.stimulus_id, names, part.reason, part.rule, part.regime)  # type: ignore[arg-type]
        more["described"] = leaky
        return training_set(plan, tree, catalogue, leaky, **more)

    monkeypatch.setattr("clipmused_bids.stages.train.training_set", leaking)
    with pytest.raises(DataError, match=r"what is fitted leaks[\s\S]*of set test"):
        train(study, split)


def test_a_participant_without_some_runs_is_scored_in_the_others(world: World) -> None:
    rng = np.random.default_rng(2)
    for participant, n_runs in (("01", 4), ("02", 3)):
        directions = rng.normal(size=(3, 14))
        for number in range(1, n_runs + 1):
            world.add(
                make_run(participant, number), SHOWN, directions[np.arange(N) % 3] + rng.normal(size=(N, 14))
            )
    split = folded(world)
    for method, label in (("ridge", "m"), ("ridge-pooled", "pooled")):
        train(world, split, method=method, label=label)
        decode(world, split, label=label)
        scored = score_decoder(
            world.plan(hyperparameters=TABLES), world.tree, CATALOGUE, model_label=label, method=method
        )
        assert {p: scored.score_of("top1", p).n_trials for p in ("01", "02")} == {"01": 4 * N, "02": 3 * N}
        assert [len({row.participant for row in rows}) for rows in scored.fold_rows.values()] == [2, 2, 2, 1]


def test_the_split_file_keeps_folds(study: World, tmp_path: Path) -> None:
    split = folded(study)
    write_split(tmp_path / "split.tsv", split)
    again = read_split(tmp_path / "split.tsv")
    assert again == split
    assert split_hash(again) == split_hash(split) != split_hash(parts_of(split)[0].split)
    table = pd.read_csv(tmp_path / "split.tsv", sep="\t")
    assert table.columns[3:5].tolist() == ["set", "fold"]
    table["fold"] = table["fold"].replace(2, 7)
    table.to_csv(tmp_path / "split.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match="folds 1, 3, 4, 7; expected 1, 2"):
        read_split(tmp_path / "split.tsv")


def test_all_stimuli_of_all_folds_describe_the_last_decoder(study: World) -> None:
    split = folded(study)
    assert len(stimuli_in(study.plan(), parts_of(split)[-1].described, "train")) == 8 * N
    assert len(stimuli_in(study.plan(), parts_of(split)[0].described, "train")) == 4 * N


def test_maps_knock_out_in_each_folds_decoder_as_a_loop_by_hand(study: World) -> None:
    """Drop of each voxel by the mean over folds, where the decoder of a fold has not seen its trials."""
    split = folded(study)
    train(study, split)
    plan = study.plan(hyperparameters={**TABLES, "maps": {"regions": 2, "draws": 1}})
    failures = Failures()
    plan = replace(plan, config=replace(plan.config, model_label="m"))
    make_maps(Job(plan, study.tree, CATALOGUE, split, None, "cpu", failures, MethodFailures(alone=True)))
    assert not failures.errors
    table, about = read_map_table(study.tree.root / "sub-01" / "func" / "sub-01_desc-mOcclusion_metrics.tsv")
    regions = np.asarray(
        nibabel.load(study.tree.root / "sub-01" / "func" / "sub-01_desc-mRegions_statmap.nii.gz").dataobj
    ).ravel()[:14]
    x, y, run = arrays(study, "01")
    drops = []
    for held in (1, 2, 3, 4):
        rows, test = (run != held) & (run != held % 4 + 1), run == held
        scaled = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)
        peer = Ridge(penalty(scaled[rows], ALPHA)).fit(scaled[rows], y[rows])
        precision = [
            average_precision_score(y[test], np.clip(peer.predict(scaled[test] * (regions != r)), 0, 1))
            for r in (0, 1, 2)
        ]
        drops.append([precision[0] - precision[1], precision[0] - precision[2]])
    assert table.drop == pytest.approx(np.mean(drops, axis=0), abs=1e-3)
    assert about["DecodedBy"] == "each trial by the decoder of the fold that holds it out"
    assert len(about["WeightsHashOfFolds"]) == 4
