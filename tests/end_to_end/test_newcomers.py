"""New participants of a decoder that others trained, by the command."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from clipmused_bids.dataset.files.tensors import read_tensors, write_tensors
from clipmused_bids.simulation.writer import write_dataset
from tests.end_to_end.conftest import SMALL, Command

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
ADAPT = ("participant", "--base-model", "clipmused", "--participant-label", "03")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "bids"
    write_dataset(folder, replace(SMALL, n_participants=3, n_bank=190))
    return folder


@pytest.fixture(scope="module")
def base(three: Path, quick: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder with a decoder of sub-01 and sub-02, and one ridge of each."""
    out = tmp_path_factory.mktemp("base") / "out"
    words = ("group", "--train", "--exclude-participant-label", "03")
    done = command(three, out, *words, "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    assert command(three, out, *words, "--method", "ridge").returncode == 0
    return out


@pytest.fixture(scope="module")
def adapted(three: Path, base: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a decoder of sub-03, fitted to all his training trials."""
    out = Path(shutil.copytree(base, tmp_path_factory.mktemp("adapted") / "out"))
    done = command(three, out, *ADAPT)
    assert done.returncode == 0, done.stderr
    assert "scores speak of: unseen stimuli" in done.stderr
    return out


def config_of(out: Path, label: str = "clipmused+new", who: str = "sub-03_") -> dict:
    return json.loads((out / "models" / label / f"{who}config.json").read_text())


def predictions(out: Path, label: str) -> list[Path]:
    found = sorted(out.glob(f"sub-03/func/*_desc-{label}_predictions.tsv"))
    assert len(found) == 3
    return found


def test_the_base_stays_and_is_named(base: Path, adapted: Path) -> None:
    before = (base / "models" / "clipmused" / "model.safetensors").read_bytes()
    assert (adapted / "models" / "clipmused" / "model.safetensors").read_bytes() == before
    assert (adapted / "split.tsv").read_bytes() == (base / "split.tsv").read_bytes()
    config = config_of(adapted)
    known = config_of(adapted, "clipmused", "")
    assert config["base"] == {"label": "clipmused", "weights_sha256": known["weights_sha256"]}
    assert config["participants"] == ["03"]
    assert known["participants"] == ["01", "02"]
    assert config["calibration_trials"] is None
    assert set(config["leakage"]["fitted_on"]["adaptation"]) == {"purpose", "train", "val"}
    assert config["label_names"] == known["label_names"]
    assert config["variant"] == known["variant"] == "clip-mused"
    history = pd.read_csv(adapted / "models" / "clipmused+new" / "sub-03_history.tsv", sep="\t")
    assert history["kept"].sum() == 1
    assert history["epoch"][history["kept"]].item() == config["best_epoch"]
    assert (adapted / "models" / "clipmused+new" / "sub-03_history.svg").exists()
    assert config["split"]["hash"] == known["split"]["hash"]
    split = pd.read_csv(adapted / "split.tsv", sep="\t")
    mine = split[split["participant_id"] == "sub-03"]
    assert set(mine["set"]) == {"train", "val", "test"}
    adaptation = config["decoder"]["adaptation"]
    assert adaptation["fitted_values"] == {"tokens": 32, "maps": 0, "readout": 0}
    weights, theirs = (
        load_file(adapted / "models" / name)
        for name in ("clipmused+new/sub-03_model.safetensors", "clipmused/model.safetensors")
    )
    shared = [name for name in theirs if name.startswith("decoder.member.") and "subject" not in name]
    assert len(shared) > 15
    for name in shared:
        np.testing.assert_array_equal(weights[name], theirs[name], err_msg=name)


def test_it_decodes_the_same_elsewhere_without_the_base(
    three: Path, adapted: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(adapted, tmp_path / "moved"))
    shutil.rmtree(out / "models" / "clipmused")
    expected = [path.read_bytes() for path in predictions(adapted, "clipmused+new")]
    for path in predictions(out, "clipmused+new"):
        path.unlink()
    words = ("participant", "--decode", "--participant-label", "03", "--model-label", "clipmused+new")
    done = command(three, out, *words)
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in predictions(out, "clipmused+new")] == expected
    done = command(three, out, *ADAPT[:1], "--decode", "--participant-label", "02", *words[-2:])
    assert done.returncode == 66, done.stderr
    assert "sub-02: no decoder clipmused+new for this participant; it knows sub-03" in done.stderr


def test_without_trials_the_regime_is_an_unseen_participant(
    three: Path, adapted: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(adapted, tmp_path / "out"))
    label = ("--model-label", "zero")
    stale = [out / "models" / "zero" / f"sub-03_history.{ending}" for ending in ("tsv", "svg")]
    stale[0].parent.mkdir()
    for path in stale:
        path.write_text("of an earlier adaptation")
    done = command(
        three, out, *ADAPT, "--train", "--decode", "--evaluate", "--calibration-trials", "0", *label
    )
    assert done.returncode == 0, done.stderr
    assert "0 values fitted to 0 trials on the frozen decoder clipmused" in done.stderr
    assert "regime: unseen participant and unseen stimuli" in done.stderr
    config = config_of(out, "zero")
    assert config["calibration_trials"] == 0
    assert not any(path.exists() for path in stale)
    sources = set(config["standardization"]["sources"].values())
    assert sources == {"transductive"}
    sidecar = json.loads(predictions(out, "zero")[0].with_suffix(".json").read_text())
    assert sidecar["Regime"] == "unseen participant and unseen stimuli"
    # Told by the decoder, when only the evaluation runs again.
    done = command(three, out, "participant", "--evaluate", "--participant-label", "03", *label)
    assert done.returncode == 0, done.stderr
    assert "regime: unseen participant and unseen stimuli" in done.stderr


def test_other_trials_than_the_first_n_change_nothing(
    three: Path, base: Path, command: Command, tmp_path: Path
) -> None:
    """Neither their responses nor their labels are looked at: a decoder of 8 trials is one of the first run."""
    weights = []
    for name in ("whole", "cut"):
        out = Path(shutil.copytree(base, tmp_path / name / "out"))
        bids = three
        if name == "cut":
            bids = Path(shutil.copytree(three, tmp_path / name / "bids"))
            table = pd.read_csv(out / "split.tsv", sep="\t")
            mine = table[(table["participant_id"] == "sub-03") & (table["set"] == "train")]
            late = sorted(set(mine["stimulus_id"][mine["run"].str.contains("run-3")]))
            catalogue = bids / "stimuli" / "stimuli.tsv"
            stimuli = pd.read_csv(catalogue, sep="\t", dtype=str)
            others = table[table["participant_id"] != "sub-03"]["stimulus_id"]
            first = mine[~mine["run"].str.contains("run-3")]["stimulus_id"]
            own = [s for s in late if s not in set(others) and s not in set(first)]
            labels = [c for c in stimuli if set(stimuli[c]) <= {"0", "1"}]
            rows = stimuli.iloc[:, 0].isin(own) | stimuli["filename"].isin(own)
            assert rows.sum() >= 5
            stimuli.loc[rows, labels] = stimuli.loc[rows, labels].replace({"0": "1", "1": "0"})
            stimuli.to_csv(catalogue, sep="\t", index=False)
        done = command(bids, out, *ADAPT, "--train", "--calibration-trials", "8")
        assert done.returncode == 0, done.stderr
        config = config_of(out)
        assert config["n_training_trials"] == 8
        assert config["n_validation_trials"] == 0
        weights.append(load_file(out / "models" / "clipmused+new" / "sub-03_model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][key], value, err_msg=key)


def test_what_cannot_be_done_is_refused(three: Path, adapted: Path, command: Command, tmp_path: Path) -> None:
    out = Path(shutil.copytree(adapted, tmp_path / "out"))
    mask = next((three / "derivatives").rglob("sub-02*_run-01*_desc-brain_mask.nii.gz"))
    new = ("--participant-label", "03")
    folded = Path(shutil.copytree(out / "models" / "clipmused", out / "models" / "folded"))
    tensors, config, _ = read_tensors(folded / "model.safetensors")
    config["split"] |= {"folds": 3, "held_out": "none: fitted to all folds"}
    write_tensors(folded / "model.safetensors", tensors, metadata=config)
    (folded / "config.json").unlink()
    refusals = [
        (("--base-model", "nobody", *new), 66, "--base-model nobody: .* there is clipmused"),
        (("--base-model", "ridge", *new), 64, "decoders of one participant each"),
        (("--base-model", "clipmused", "--participant-label", "02"), 65, "it knows sub-02 already"),
        (("--base-model", "clipmused", *new, "--calibration-trials", "5000"), 73, "calibration_trials"),
        (
            ("--base-model", "clipmused", *new, "--calibration-trials", "5000", "--model-label", "x"),
            65,
            "--calibration-trials 5000: there are [0-9]+ labelled training trials",
        ),
        (("--base-model", "clipmused", *new, "--mask", mask, "--model-label", "x"), 65, "mask"),
        (("--base-model", "clipmused", *new, "--split", "runs:3"), 64, "divided as the base's are"),
        (("--base-model", "clipmused", *new, "--cv", "runs"), 64, "--cv runs: new participants are divided"),
        (
            ("--base-model", "clipmused", *new, "--method", "ms-emb"),
            64,
            "--method ms-emb: .* of --base-model",
        ),
        (("--base-model", "clipmused", *new, "--method", "all"), 64, "--method all: .* of --base-model"),
        (("--base-model", "folded", *new), 64, "folded: trained with --cv"),
        (("--base-model", "clipmused", *new, "--decode"), 64, "nothing is fitted without --train"),
        (("--base-model", "clipmused", *new, "--model-label", "clipmused"), 64, "the base's own label"),
        (("--base-model", "clipmused", *new, "--preset", "nsd"), 64, "hyper-parameters stand"),
        (("--calibration-trials", "8", *new), 64, "--base-model"),
    ]
    for words, code, message in refusals:
        done = command(three, out, "participant", *words)
        assert done.returncode == code, (words, done.stderr)
        assert pd.Series([done.stderr]).str.contains(message).all(), (words, done.stderr)
    done = command(three, out, "group", "--base-model", "clipmused")
    assert done.returncode == 64
    assert "one by one" in done.stderr


def test_an_ablation_that_is_adapted_stays_the_ablation(
    three: Path, base: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(base, tmp_path / "out"))
    words = ("group", "--train", "--exclude-participant-label", "03", "--method", "clip-mused:no-perp")
    label = ("--model-label", "ablated")
    done = command(three, out, *words, *label, "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    done = command(three, out, "participant", "--base-model", "ablated", "--participant-label", "03")
    assert done.returncode == 0, done.stderr
    config = config_of(out, "ablated+new")
    assert config["variant"] == "clip-mused:no-perp"
    assert config["hyperparameters"]["training"]["lambda_perp"] == 0
    assert len(predictions(out, "ablated+new")) == 3


def test_a_dry_run_says_what_would_be_fitted(three: Path, base: Path, command: Command) -> None:
    done = command(three, base, *ADAPT, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "clipmused+new" in done.stderr
    assert not (base / "models" / "clipmused+new").exists()


def test_somebody_who_came_later_is_divided_as_the_others_were(
    three: Path, base: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    bids = Path(shutil.copytree(three, tmp_path / "bids"))
    for folder in bids.rglob("sub-03"):
        shutil.rmtree(folder)
    table = pd.read_csv(bids / "participants.tsv", sep="\t", dtype=str)
    table[table["participant_id"] != "sub-03"].to_csv(bids / "participants.tsv", sep="\t", index=False)
    out = Path(shutil.copytree(base, tmp_path / "out", ignore=shutil.ignore_patterns("models", "split.*")))
    done = command(bids, out, "group", "--train", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    before = pd.read_csv(out / "split.tsv", sep="\t")
    assert "sub-03" not in set(before["participant_id"])

    done = command(three, out, *ADAPT)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_csv(out / "split.tsv", sep="\t"), before)
    split = pd.read_csv(out / "models" / "clipmused+new" / "split.tsv", sep="\t")
    theirs, mine = split[split["participant_id"] != "sub-03"], split[split["participant_id"] == "sub-03"]
    assert len(theirs) == len(before)
    sets = dict(zip(before["stimulus_id"], before["set"], strict=True))
    assert (mine["set"] == "test").any()
    for name, found in zip(mine["stimulus_id"], mine["set"], strict=True):
        assert found == sets.get(name, "train")
    done = command(three, out, "participant", "--decode", "--evaluate", "--participant-label", "03",
                   "--model-label", "clipmused+new")  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.real_data
@pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set")
def test_a_fifth_person_in_native_space(quick: Path, command: Command, tmp_path: Path) -> None:
    raider = Path(str(DATA)) / "raider5"
    words = ("--clip-model", "demo", "--response", "betas")
    done = command(
        raider, tmp_path, "group", "--train", *words, "--split", "runs:8", "--config-file", quick,
        "--exclude-participant-label", "05",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    new = ("participant", "--base-model", "clipmused", "--participant-label", "05")
    done = command(raider, tmp_path, *new, "--calibration-trials", "0")
    assert done.returncode == 64, done.stderr
    assert "sub-05: without calibration trials nothing links his voxels" in done.stderr
    done = command(raider, tmp_path, *new, "--train", "--decode", "--evaluate")
    assert done.returncode == 0, done.stderr
    assert "regime: unseen trials of seen stimuli" in done.stderr
    decoder = config_of(tmp_path, who="sub-05_")["decoder"]
    found = decoder["adaptation"]
    assert found["fitted_values"] == {"tokens": 32, "maps": 1000 * 32, "readout": 1001 * 7}
    # The default decoder of trials with one label each.
    assert decoder["label_loss"] == "softmax"
    assert list(found["readout_weights"]) == ["own", "own, weighted", "shared"]
