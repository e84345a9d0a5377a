"""Many methods, and cross-validation, through the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.end_to_end.conftest import Command

SAME = ("comparison", "labels")


def table(out: Path, kind: str, label: str = "clipmused") -> pd.DataFrame:
    return pd.read_csv(
        out / f"group_desc-{label}_{kind}.tsv", sep="\t", na_values="n/a", keep_default_na=False
    )


@pytest.fixture(scope="module")
def compared(study: Path, quick: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    done = command(
        study, out, "group", "--clip-model", "demo", "--config-file", quick,
        "--method", "clip-mused", "clip-mused:image-only", "--method", "ridge,prevalence",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("images and") == 1, "an ablation of the targets computes no features again"
    assert "beats the best linear baseline" in done.stderr
    assert done.stderr in (next(out.glob("logs/*/log.txt")).read_text() + done.stderr)
    return out


def test_every_method_has_a_row_beside_its_own_outputs(compared: Path) -> None:
    rows = table(compared, "comparison")
    group = rows[rows["participant_id"] == "group"]
    names = ["clip-mused", "clip-mused:image-only", "ridge", "prevalence", "ridge-pooled", "ridge-stack"]
    assert group["method"].drop_duplicates().tolist() == names
    for label in group["model_label"].unique():
        metrics = table(compared, "metrics", label)
        metrics = metrics[metrics["averaging"] == "single trials"].set_index(["participant_id", "metric"])
        own = rows[rows["model_label"] == label].set_index(["participant_id", "metric"])
        assert len(own) == 9
        pd.testing.assert_series_equal(own["value"], metrics.loc[own.index, "value"])
    best = group[(group["metric"] == "mAP") & group["method"].isin(["ridge", "ridge-pooled", "ridge-stack"])]
    winner = best.loc[best["value"].idxmax(), "method"]
    others = group[(group["method"] != winner) & group["baseline"].notna()]
    assert set(others["baseline"]) == {winner}
    ours = others[(others["method"] == "clip-mused") & (others["metric"] == "mAP")].iloc[0]
    assert ours["difference"] == pytest.approx(ours["value"] - best["value"].max())
    assert ours["people_low"] < ours["difference"] < ours["people_high"]
    assert ours["stimuli_low"] < ours["difference"] < ours["stimuli_high"]
    assert group.loc[group["metric"] == "mAP", "p_value"].between(1 / 1001, 1).sum() == 6
    assert (group[group["method"] == "prevalence"]["p_value"].dropna() == 1).all(), "constants know nothing"


def test_an_ablation_is_what_it_says(compared: Path) -> None:
    whole, ablated = (
        json.loads((compared / "models" / label / "config.json").read_text())
        for label in ("clipmused", "clipmused+clipmused+imageonly")
    )
    assert (whole["variant"], ablated["variant"]) == ("clip-mused", "clip-mused:image-only")
    assert whole["hyperparameters"]["targets"]["high"] == "mean"
    assert ablated["hyperparameters"]["targets"]["high"] == "image"
    assert (whole["guidance"]["high"], ablated["guidance"]["high"]) == ("image+text", "image")
    assert whole["clip"] == ablated["clip"]
    assert whole["split"] == ablated["split"]


def test_labels_are_told_one_by_one(compared: Path) -> None:
    labels = table(compared, "labels")
    metrics = table(compared, "metrics").set_index(["participant_id", "averaging", "metric"])
    own = labels[(labels["method"] == "clip-mused") & (labels["participant_id"] == "sub-01")]
    scorable = own["average_precision"].dropna()
    assert scorable.mean() == pytest.approx(metrics.loc[("sub-01", "single trials", "mAP"), "value"])
    assert own["auc"].mean() == pytest.approx(metrics.loc[("sub-01", "single trials", "AUC"), "value"])
    assert (own["n_positive"] / own["n_trials"]).tolist() == pytest.approx(own["prevalence"].tolist())


def test_sidecars_describe_every_column_and_the_validator_finds_no_error(compared: Path) -> None:
    for path in compared.glob("group_*.tsv"):
        sidecar = json.loads(path.with_suffix(".json").read_text())
        columns = path.read_text().splitlines()[0].split("\t")
        assert [name for name in columns if not sidecar.get(name, {}).get("Description")] == [], path.name
    sidecar = json.loads((compared / "group_desc-clipmused_comparison.json").read_text())
    assert (sidecar["MainMetric"], sidecar["Exchanged"], sidecar["Permutations"]) == ("mAP", "stimuli", 1000)
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, compared, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_times_are_beside_the_scores_and_kept_when_work_is_reused(
    compared: Path, study: Path, quick: Path, command: Command
) -> None:
    before = {kind: (compared / f"group_desc-clipmused_{kind}.tsv").read_bytes() for kind in SAME}
    times = table(compared, "timing").set_index("model_label")
    assert (times[["fit_seconds", "decode_seconds"]] >= 0).all(axis=None)
    assert len(times) == 6
    done = command(
        study, compared, "group", "--evaluate", "--clip-model", "demo", "--config-file", quick,
        "--method", "clip-mused,clip-mused:image-only,ridge,prevalence",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "training clip-mused" not in done.stderr
    again = table(compared, "timing").set_index("model_label")
    pd.testing.assert_series_equal(times["fit_seconds"], again.loc[times.index, "fit_seconds"])
    assert {kind: (compared / f"group_desc-clipmused_{kind}.tsv").read_bytes() for kind in SAME} == before


@pytest.fixture(scope="module")
def folds(study: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds") / "out"
    done = command(study, out, "group", "--cv", "runs", "--method", "ridge,ridge-pooled,prevalence")
    assert done.returncode == 0, done.stderr
    assert "mean of 3 folds" in done.stderr
    return out


def test_every_trial_is_predicted_by_the_decoder_of_its_fold(folds: Path) -> None:
    split = pd.read_csv(folds / "split.tsv", sep="\t")
    assert sorted(split["fold"].unique()) == [1, 2, 3]
    for path in folds.glob("sub-*/func/*_desc-ridge_predictions.tsv"):
        rows = pd.read_csv(path, sep="\t", na_values="n/a")
        run = int(path.name.split("run-")[1].split("_")[0])
        assert set(rows["fold"]) == {run}
        assert set(rows["set"]) == {"test"}
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert list(sidecar["WeightsHashOfFolds"]) == [str(run)]
    by_fold = table(folds, "folds", "ridge")
    assert len(by_fold) == 3 * 3 * 2 * len(by_fold["metric"].unique())
    own = by_fold[(by_fold["method"] == "ridge") & (by_fold["metric"] == "mAP")]
    mean = own.groupby("participant_id")["value"].mean()
    rows = table(folds, "comparison", "ridge")
    rows = rows[(rows["method"] == "ridge") & (rows["metric"] == "mAP")].set_index("participant_id")["value"]
    for who in ("sub-01", "sub-02"):
        assert rows[who] == pytest.approx(mean[who])
    card = (folds / "models" / "ridge" / "README.md").read_text()
    assert "means over 3 decoders of a cross-validation" in card


def test_two_runs_give_the_same_tables(folds: Path, study: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        study, tmp_path / "out", "group", "--cv", "runs", "--method", "ridge,ridge-pooled,prevalence"
    )
    assert done.returncode == 0, done.stderr
    for kind in (*SAME, "folds"):
        name = f"group_desc-ridge_{kind}.tsv"
        assert (folds / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), kind


def test_new_runs_are_decoded_by_the_weights_of_all_folds(folds: Path, study: Path, command: Command) -> None:
    done = command(
        study, folds, "participant", "--decode", "--model-label", "ridge", "--participant-label", "01"
    )
    assert done.returncode == 0, done.stderr
    assert "new runs by the one fitted to all folds" in done.stderr


def test_a_dry_run_lists_methods_and_folds(study: Path, command: Command, tmp_path: Path) -> None:
    words = (study, tmp_path / "out", "group", "--dry-run", "--method", "ridge,clip-mused:no-perp")
    done = command(*words, "--clip-model", "demo", "--cv", "runs")
    assert done.returncode == 0, done.stderr
    assert "3 folds of 64, 64, 64 trials" in done.stderr
    assert "compared with: clip-mused:no-perp" in done.stderr
    assert "baselines of the evaluation: ridge-pooled, ridge-stack, prevalence" in done.stderr
    assert "4 fits each" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_method_that_cannot_run_does_not_stop_the_others(
    study: Path, command: Command, tmp_path: Path
) -> None:
    words = (study, tmp_path / "out", "group", "--split", "participants:02")
    done = command(*words, "--method", "ridge-pooled,ridge")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "out", "comparison", "ridgepooled").set_index(["method", "participant_id"])
    assert set(rows.loc["ridge-pooled"].index) == {"group", "sub-02"}
    assert "an unseen participant has none" in rows.loc[("ridge", "group"), "note"]
    assert np.isnan(rows.loc[("ridge", "group"), "value"])
    alone = command(*words, "--method", "ridge", "--model-label", "alone")
    assert (alone.returncode, "an unseen participant has none" in alone.stderr) == (65, True)
    first = command(*words, "--method", "ridge,ridge-pooled", "--model-label", "first")
    assert first.returncode == 65, "the main method did not run"
    assert (tmp_path / "out" / "group_desc-first_comparison.tsv").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--cv", "runs", "--split", "runs:1"), 64, "folds hold every trial out once"),
        (("--cv", "runs:4"), 64, "3 run(s) that correspond between participants, fewer than folds"),
        (("--cv", "years"), 64, "--cv years: unknown"),
        (("--method", "ridge,rigde"), 64, "did you mean ridge"),
    ],
)
def test_bad_requests_are_refused(
    study: Path, command: Command, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    method = () if "--method" in words else ("--method", "ridge")
    done = command(study, tmp_path / "out", "group", *method, *words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr


def test_how_scores_are_made_changes_no_decoder(
    folds: Path, study: Path, command: Command, tmp_path: Path
) -> None:
    settings = tmp_path / "scores.toml"
    settings.write_text("[evaluation]\npermutations = 19\n")
    words = (study, folds, "group", "--cv", "runs", "--method", "ridge,ridge-pooled,prevalence")
    done = command(*words, "--config-file", settings)
    assert done.returncode == 0, done.stderr
    assert "fitting" not in done.stderr, "every decoder is reused"
    rows = table(folds, "comparison", "ridge")
    assert rows["p_value"].min() == pytest.approx(1 / 20)
    settings.write_text("[evaluation]\ncalibrate = true\n")
    refused = command(*words, "--config-file", settings)
    assert (refused.returncode, 'fit_on = "train" in --config-file' in refused.stderr) == (64, True)


def test_single_participants_are_cross_validated_too(study: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        study, tmp_path / "out", "participant", "--train", "--decode", "--evaluate", "--participant-label", "01",
        "--cv", "runs", "--method", "ridge,ridge-pooled",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ridge-pooled: at level participant it is fitted to one participant at a time" in done.stderr
    assert "Methods on the same trials" in done.stderr
    assert not list((tmp_path / "out").glob("group_*"))
    for label in ("ridge", "ridge+ridgepooled"):
        folder = tmp_path / "out" / "models" / label / "folds"
        assert sorted(path.parent.name for path in folder.rglob("sub-01_model.safetensors")) == [
            "1",
            "2",
            "3",
        ]
