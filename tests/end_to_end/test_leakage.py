"""Leaks planted in data, in splits and in the product itself: the command finds each, or names it everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipmused_bids.methods import ridge
from clipmused_bids.records import History, SetName, TrialData
from clipmused_bids.simulation.movie_writer import write_movie_dataset
from clipmused_bids.simulation.movies import MovieParameters
from clipmused_bids.simulation.writer import write_dataset
from clipmused_bids.stages import label_choice, training_set
from tests.end_to_end.conftest import SMALL, Command

pytestmark = pytest.mark.slow
LEAK = "LEAKAGE, allowed by --allow-leakage"


def shown(bids: Path) -> pd.DataFrame:
    """All trials: run, onset, stimulus."""
    tables = []
    for path in sorted(bids.glob("sub-*/func/*_events.tsv")):
        participant, task, run = path.name.split("_")[:3]
        table = pd.read_csv(path, sep="\t")
        table["run"] = f"{participant}_{task}_run-{int(run.removeprefix('run-'))}"
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def write_split(path: Path, trials: pd.DataFrame, set_of: Callable[[str], str], **columns: str) -> Path:
    """A split by stimulus; ``columns`` are the same in all rows."""
    table = trials[["run", "stim_file"]].rename(columns={"stim_file": "stimulus_id"}).drop_duplicates()
    table["set"] = [set_of(name) for name in table["stimulus_id"]]
    table.assign(**columns).to_csv(path, sep="\t", index=False)
    return path


def by_name(trials: pd.DataFrame) -> Callable[[str], str]:
    """What both people see is tested; a tenth of the others validates."""
    people = trials.groupby("stim_file")["run"].agg(lambda runs: len({run[:6] for run in runs}))
    shared = set(people.index[people > 1])
    return lambda name: "test" if name in shared else "val" if int(name[5:9]) % 10 == 0 else "train"


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study in which ten shared pictures come back under other names, and a split by name."""
    root = tmp_path_factory.mktemp("copies")
    write_dataset(root / "bids", replace(SMALL, leak="copies"))
    trials = shown(root / "bids")
    return root / "bids", write_split(root / "by_name.tsv", trials, by_name(trials))


@pytest.fixture
def prepared(trained: Path, tmp_path: Path) -> Path:
    """Outputs with responses and features, without a decoder."""
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    shutil.rmtree(out / "models")
    return out


# -- in the data and in the split --------------------------------------------------------------------------


def test_copies_under_other_names_are_found_by_content(
    copies: tuple[Path, Path], command: Command, tmp_path: Path
) -> None:
    bids, split = copies
    done = command(bids, tmp_path / "out", "group", "--method", "ridge", "--split", split)
    assert done.returncode == 65
    assert "the split leaks (regime: unseen stimuli)" in done.stderr
    assert "10 stimuli, by content, are in two sets" in done.stderr
    assert "--allow-leakage" in done.stderr
    assert not (tmp_path / "out").exists(), "found before anything is computed"


def test_an_allowed_leak_is_named_in_every_output(
    copies: tuple[Path, Path], command: Command, tmp_path: Path
) -> None:
    bids, split = copies
    out = tmp_path / "out"
    done = command(bids, out, "group", "--method", "ridge", "--split", split, "--allow-leakage")
    assert done.returncode == 0, done.stderr
    words = "10 stimuli, by content, are in two sets"
    assert done.stderr.count(f"{LEAK}: {words}") == 2, "when it is found, and beside the scores"
    configs = sorted(out.glob("models/*/*config.json"))
    assert len(configs) == 6, "ridge and prevalence of two people, one pooled ridge, one stack of ridges"
    for path in configs:
        (leak,) = json.loads(path.read_text())["leakage"]["leaks"]
        assert leak.startswith(words)
    sidecars = [
        *out.glob("sub-*/func/*_predictions.json"), *out.glob("group_*_metrics.json"),
        *(p for p in out.glob("sub-*/func/*_metrics.json") if "noiseceiling" not in p.name),
    ]  # fmt: skip
    assert {p.name.rsplit("_", 1)[1] for p in sidecars} == {"predictions.json", "metrics.json"}
    assert len(sidecars) == 4 * (6 + 6) + 4 + 2, "four methods' runs, four groups, two tables of maps"
    for path in sidecars:
        (leak,) = json.loads(path.read_text())["Leakage"]
        assert leak.startswith(words), path
    for path in (*out.glob("models/*/README.md"), out / "logs" / "CITATION.md"):
        assert f"{LEAK}: {words}" in path.read_text(), path
    later = command(bids, out, "group", "--evaluate", "--model-label", "ridge", "--split", split)
    assert later.returncode == 0, later.stderr
    assert f"{LEAK}: {words}" in later.stderr, "without the option: the decoder knows"


def test_the_rules_keep_copies_together_and_no_output_names_a_leak(
    copies: tuple[Path, Path], command: Command, tmp_path: Path
) -> None:
    done = command(copies[0], tmp_path / "out", "group", "--train", "--method", "prevalence")
    assert done.returncode == 0, done.stderr
    assert "LEAKAGE" not in done.stderr
    config = json.loads((tmp_path / "out/models/prevalence/sub-01_config.json").read_text())
    assert config["leakage"]["leaks"] == []


def test_one_stimulus_in_two_sets(study: Path, command: Command, tmp_path: Path) -> None:
    """An error where the table claims unseen stimuli; else the regime says what the trials are, with a warning."""
    trials = shown(study)
    rule = by_name(trials)
    path = write_split(tmp_path / "split.tsv", trials, rule, regime="unseen stimuli")
    table = pd.read_csv(path, sep="\t")
    double = table.index[table["set"] == "test"][0]
    table.loc[double, "set"] = "train"
    table.to_csv(path, sep="\t", index=False)
    words = ("group", "--train", "--method", "prevalence", "--split", path)
    done = command(study, tmp_path / "out", *words)
    assert done.returncode == 65
    assert f"1 stimuli, by name, are in two sets: {table['stimulus_id'][double]} (train, test)" in done.stderr
    table.drop(columns="regime").to_csv(path, sep="\t", index=False)
    done = command(study, tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    assert "1 of 20 test stimuli are in another set too" in done.stderr
    config = json.loads((tmp_path / "out/models/prevalence/sub-01_config.json").read_text())
    assert config["split"]["regime"] == "unseen trials of seen stimuli"
    assert len(config["leakage"]["warnings"]) == 1


def test_samples_of_a_movie_five_seconds_apart(command: Command, tmp_path: Path) -> None:
    bids = tmp_path / "bids"
    write_movie_dataset(bids, MovieParameters(n_movies=3, n_shots=8, n_repeated_shots=0, snr=3.0, seed=5))
    words = ("group", "--train", "--method", "prevalence", "--labels", bids / "stimuli" / "annotations.tsv")
    assert command(bids, tmp_path / "good", *words).returncode == 0
    split = pd.read_csv(tmp_path / "good" / "split.tsv", sep="\t")
    second = split["stimulus_id"].str.partition("@")[2].astype(float)
    last = split["set"] == "test"
    split.loc[last & (second < 10), "set"] = "train"
    split.loc[last & (second >= 10) & (second < 14.5), "set"] = "none"
    split.to_csv(tmp_path / "close.tsv", sep="\t", index=False)
    done = command(bids, tmp_path / "bad", *words, "--split", tmp_path / "close.tsv")
    assert done.returncode == 65
    assert "pairs of samples of one run in different sets are closer than 15 s" in done.stderr
    assert not (tmp_path / "bad").exists()


def in_blocks(bids: Path, table: Path, *, blocked: bool) -> None:
    """One category for each picture, and the pictures of each run in order of it, or as they were."""
    stimuli = pd.read_csv(bids / "stimuli" / "stimuli.tsv", sep="\t")
    names = stimuli["filename"].to_numpy()
    category = np.random.default_rng(4).integers(0, 4, len(names))
    labels = pd.DataFrame(np.eye(4, dtype=int)[category], columns=["a", "b", "c", "d"])
    labels.insert(0, "stimulus_id", names)
    labels.to_csv(table, sep="\t", index=False)
    of_name = dict(zip(names, category, strict=True))
    for path in bids.glob("sub-*/func/*_events.tsv"):
        events = pd.read_csv(path, sep="\t")
        if blocked:
            order = np.argsort([of_name[name] for name in events["stim_file"]], kind="stable")
            for column in ("stim_file", "stim_id"):
                events[column] = events[column].to_numpy()[order]
        events.to_csv(path, sep="\t", index=False)


@pytest.mark.parametrize("blocked", [True, False])
def test_blocks_of_one_category_that_sets_divide(
    own_study: Path, command: Command, tmp_path: Path, blocked: bool
) -> None:
    in_blocks(own_study, tmp_path / "labels.tsv", blocked=blocked)
    trials = shown(own_study)
    split = write_split(tmp_path / "split.tsv", trials, by_name(trials))
    words = ("group", "--train", "--method", "prevalence", "--labels", tmp_path / "labels.tsv")
    done = command(own_study, tmp_path / "out", *words, "--split", split)
    assert done.returncode == (65 if blocked else 0), done.stderr
    assert ("labels of neighbouring trials are alike" in done.stderr) is blocked
    assert ("the noise that neighbours share decodes them" in done.stderr) is blocked


def test_the_same_picture_encoded_again_is_a_near_duplicate(
    own_study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    """1 % of noise: another content, nearly the same embedding."""
    trials = shown(own_study)
    rule = by_name(trials)
    names = sorted(set(trials["stim_file"]))
    test, train = (next(n for n in names if rule(n) == wanted) for wanted in ("test", "train"))
    pixels = np.asarray(Image.open(own_study / "stimuli" / test).convert("RGB"), dtype=float)
    noisy = pixels + np.random.default_rng(0).normal(scale=2.55, size=pixels.shape)
    Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8)).save(own_study / "stimuli" / train)
    out = tmp_path / "out"
    done = command(
        own_study, out, "group", "--train", "--clip-model", "demo", "--config-file", quick,
        "--split", write_split(tmp_path / "split.tsv", trials, rule),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 pair(s) of a test picture and one of another set are nearly equal" in done.stderr
    found = json.loads((out / "models/clipmused/config.json").read_text())["leakage"]
    assert found["leaks"] == []
    ((one, other, where, cosine),) = found["near_duplicates"]["pairs"]
    assert (one, other, where) == (test, train, "train")
    assert 0.98 < cosine < 1
    # A method without CLIP reads the features that are there, and makes none where none are.
    for folder, pairs in ((out, 1), (tmp_path / "none", None)):
        done = command(
            own_study, folder, "group", "--train", "--method", "prevalence", "--split", tmp_path / "split.tsv"
        )
        assert done.returncode == 0, done.stderr
        stored = json.loads((folder / "models/prevalence/sub-01_config.json").read_text())["leakage"]
        near = stored["near_duplicates"]
        assert (None if near is None else near["n_pairs"]) == pairs
    assert not list((tmp_path / "none" / "stimuli").glob("desc-*"))


# -- in the product itself ---------------------------------------------------------------------------------


def train(command: Command, study: Path, out: Path, *more: object) -> Any:
    return command(study, out, "group", "--train", "--method", "ridge", "--model-label", "planted", *more)


def test_a_label_choice_that_looks_at_all_sets(
    study: Path, prepared: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = label_choice.trials_in

    def everywhere(plan: Any, split: Any, *_wanted: SetName) -> Any:
        return honest(plan, split, "train", "val", "test")

    monkeypatch.setattr(label_choice, "trials_in", everywhere)
    done = train(command, study, prepared)
    assert done.returncode == 65
    assert (
        "what is fitted leaks:\n  label choice was fitted on trials of set val, test (92; first: sub-"
        in done.stderr
    )
    assert not list((prepared / "models").glob("planted/*model*")), "nothing that leaks is stored"
    done = train(command, study, prepared, "--allow-leakage")
    assert done.returncode == 0, done.stderr
    (leak,) = json.loads((prepared / "models/planted/sub-01_config.json").read_text())["leakage"]["leaks"]
    assert leak.startswith("label choice was fitted on trials of set val, test")


def test_a_label_choice_that_goes_behind_the_record(
    study: Path, prepared: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It reads the catalogue and notes nothing; without the labels of test stimuli it would choose otherwise."""
    trials = shown(study)
    rule = by_name(trials)
    names = sorted(set(trials["stim_file"]))
    labels = pd.DataFrame({
        "stimulus_id": names,
        "often": [k % 2 for k in range(len(names))],
        "held": [int(rule(name) == "test" and k % 3 == 0) for k, name in enumerate(names)],
    })  # fmt: skip
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    options = (
        "--labels", tmp_path / "labels.tsv", "--split", write_split(tmp_path / "split.tsv", trials, rule),
    )  # fmt: skip
    assert train(command, study, prepared, *options).returncode == 0, "an honest choice passes"
    shutil.rmtree(prepared / "models")

    def all_that_occur(_plan: Any, catalogue: Any, _split: Any, **_: Any) -> tuple[str, ...]:
        return tuple(catalogue.stimuli.label_names)

    monkeypatch.setattr(training_set, "training_labels", all_that_occur)
    done = train(command, study, prepared, *options)
    assert done.returncode == 65
    assert (
        "label choice: 2 labels were chosen, 1 without looking at the labels of stimuli outside"
        in done.stderr
    )


def test_a_method_that_reads_responses_it_was_not_given(
    study: Path, prepared: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PCA on all rows of the table behind the trials: nothing it says of itself gives it away."""
    honest = ridge.Ridge.fit

    def with_pca(self: Any, data: TrialData, validation: TrialData, **more: Any) -> History:
        table = data.responses[0]
        np.linalg.svd(table.read(np.arange(table.n_rows))[:, :20])
        return honest(self, data, validation, **more)

    monkeypatch.setattr(ridge.Ridge, "fit", with_pca)
    done = train(command, study, prepared)
    assert done.returncode == 65
    assert "training was fitted on trials of set test (40; first: sub-01_task-scenes_run-" in done.stderr
    assert not list((prepared / "models").glob("planted/*model*"))


def test_test_trials_handed_over_as_training_trials(
    study: Path, prepared: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The auditor asks the split itself, and before anything is fitted."""
    honest = training_set.row_sets

    def all_train(*arguments: Any) -> tuple[str, ...]:
        return tuple("train" if name == "test" else name for name in honest(*arguments))

    def never(*_: Any, **__: Any) -> History:
        raise AssertionError("nothing is fitted")

    monkeypatch.setattr(training_set, "row_sets", all_train)
    monkeypatch.setattr(ridge.Ridge, "fit", never)
    done = train(command, study, prepared)
    assert done.returncode == 65
    assert "the training trials handed to the method hold 40 of set test" in done.stderr


# -- what is allowed, and named ----------------------------------------------------------------------------


def test_units_scaled_by_all_their_trials_are_named_in_every_output(
    study: Path, command: Command, tmp_path: Path
) -> None:
    """A run that is held out as a whole has no training trials to be scaled by."""
    done = command(study, tmp_path, "group", "--method", "prevalence", "--split", "runs:3")
    assert done.returncode == 0, done.stderr
    units = [f"sub-{p}_task-scenes_run-{r}" for p in ("01", "02") for r in (2, 3)]
    group = json.loads((tmp_path / "group_desc-prevalence_metrics.json").read_text())
    assert sorted(group["TransductiveUnits"]) == units
    assert group["Leakage"] == []
    for run, expected in ((1, []), (3, ["sub-01_task-scenes_run-3"])):
        (path,) = tmp_path.glob(f"sub-01/func/*run-{run:02d}_*_desc-prevalence_predictions.json")
        assert json.loads(path.read_text())["TransductiveUnits"] == expected
    config = json.loads((tmp_path / "models/prevalence/sub-01_config.json").read_text())
    assert config["standardization"]["sources"]["sub-01_task-scenes_run-3"] == "transductive"
    assert (
        "Transductive: the responses of 4 unit(s)" in (tmp_path / "models/prevalence/README.md").read_text()
    )
    assert "(transductive)" in (tmp_path / "logs" / "CITATION.md").read_text()
    assert "Transductive: the responses of 4 unit(s)" in done.stderr


# -- bad splits --------------------------------------------------------------------------------------------


def test_splits_that_cannot_serve(study: Path, command: Command, tmp_path: Path) -> None:
    trials = shown(study)
    path = write_split(tmp_path / "split.tsv", trials, by_name(trials))
    table = pd.read_csv(path, sep="\t")

    def run(changed: pd.DataFrame, *words: object) -> Any:
        changed.to_csv(path, sep="\t", index=False)
        return command(study, tmp_path / "out", "group", "--method", "prevalence", "--split", path, *words)

    done = run(table.iloc[1:])
    assert done.returncode == 65
    assert (
        f"the split names no set for 1 of 192 trials: {table['run'][0]} {table['stimulus_id'][0]}"
        in done.stderr
    )
    misspelt = table.replace({"stimulus_id": {table["stimulus_id"][0]: "stim-9999_image.png"}})
    done = run(misspelt)
    assert done.returncode == 65
    assert "the split names no set for" in done.stderr
    done = run(table[table["set"] != "test"].assign(set="train"))
    assert done.returncode == 65
    done = run(table.replace({"set": {"test": "train"}}))
    assert (done.returncode, "the split has no trials in test" in done.stderr) == (65, True)
    done = run(table.replace({"set": {"test": "none"}}), "--train")
    assert done.returncode == 0, "nothing is scored, so nothing need be held out"
    extra = pd.DataFrame({"run": [table["run"][0]], "stimulus_id": ["stim-9999_image.png"], "set": ["train"]})
    done = run(pd.concat([table, extra]), "--train", "--model-label", "more")
    assert done.returncode == 0, done.stderr
    assert (
        "the split names 1 stimuli that their runs do not show: sub-01_task-scenes_run-1 stim-9999"
        in done.stderr
    )


def test_labels_that_cannot_be_scored(study: Path, command: Command, tmp_path: Path) -> None:
    trials = shown(study)
    rule = by_name(trials)
    names = sorted(set(trials["stim_file"]))
    path = write_split(tmp_path / "split.tsv", trials, rule)
    labels = pd.DataFrame({"stimulus_id": names, "always": 1})

    def run(out: str, *words: object) -> Any:
        labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
        return command(
            study,
            tmp_path / out,
            "group",
            "--method",
            "prevalence",
            "--labels",
            tmp_path / "labels.tsv",
            *words,
        )

    done = run("constant", "--split", path)
    assert done.returncode == 65
    assert (
        "the test set has no label with a positive and a negative trial (80 trials, 1 labels)" in done.stderr
    )
    done = run("constant")
    assert done.returncode == 65
    assert "no label has both a positive and a negative test trial" in done.stderr
    assert not (tmp_path / "constant").exists()
    labels["even"] = [k % 2 for k in range(len(names))]
    labels["trained"] = [int(rule(name) != "test" and k % 3 == 0) for k, name in enumerate(names)]
    done = run("some", "--split", path)
    assert done.returncode == 0, done.stderr
    assert (
        "2 of 3 labels have no positive or no negative test trial and are not scored: always, trained"
        in done.stderr
    )
    metrics = pd.read_csv(tmp_path / "some" / "group_desc-prevalence_metrics.tsv", sep="\t")
    assert set(metrics.loc[metrics["metric"] == "mAP", "n_labels"]) == {1}
