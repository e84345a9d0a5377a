"""Standardisation, choice of voxels, noise ceilings and targets from a file, through the command."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from clipmused_bids.cli import main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset
from tests.end_to_end.conftest import QUICK, Command

RUN = "sub-01_task-scenes_run-{}"


def predictions(out: Path, participant: str, label: str) -> list[pd.DataFrame]:
    files = sorted(out.glob(f"sub-{participant}/func/*_desc-{label}_predictions.tsv"))
    return [pd.read_csv(path, sep="\t", na_values="n/a") for path in files]


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith("prob_")]].to_numpy()


def add_run(bids: Path, *, named: bool) -> None:
    """A fourth run of `sub-01` that no split knows: the images of the third, its events with or without names."""
    for folder in (bids, bids / "derivatives" / "fmriprep"):
        for path in sorted(folder.glob("sub-01/func/*run-03_*")):
            shutil.copy(path, path.with_name(path.name.replace("run-03", "run-04")))
    if not named:
        (events,) = bids.glob("sub-01/func/*run-04_events.tsv")
        pd.read_csv(events, sep="\t")[["onset", "duration"]].to_csv(events, sep="\t", index=False)


# -- standardisation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "scaling"),
    [
        ("run", "zscore"),
        ("run", "minmax"),
        ("session", "zscore"),
        ("participant", "minmax"),
        ("none", "zscore"),
    ],
)
def test_new_runs_are_scaled_as_their_unit_says(
    own_study: Path, trained: Path, command: Command, tmp_path: Path, unit: str, scaling: str
) -> None:
    """By hand, from stored responses and ridge weights: by itself, or by the figures of its session or person."""
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    config = tmp_path / "scaling.toml"
    config.write_text(f'[responses]\nscaling = "{scaling}"\n')
    done = command(
        own_study, out, "group", "--train", "--method", "ridge", "--model-label", "scaled", "--standardize", unit,
        "--config-file", config,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = load_file(out / "models" / "scaled" / "sub-01_model.safetensors")
    stored = json.loads((out / "models" / "scaled" / "sub-01_config.json").read_text())["standardization"]
    assert (stored["unit"], stored["scaling"]) == (unit, scaling)

    add_run(own_study, named=False)
    done = command(
        own_study, out, "participant", "--decode", "--participant-label", "01", "--model-label", "scaled"
    )
    assert done.returncode == 0, done.stderr
    assert ("standardised by its own responses (transductive)" in done.stderr) is (unit == "run")
    files = sorted((out / "sub-01" / "func").glob("*_desc-lss_responses.safetensors"))
    runs = [load_file(path) for path in files]
    values = [run["responses"][:, np.searchsorted(run["voxels"], model["voxels.common"])] for run in runs]
    split = pd.read_csv(out / "split.tsv", sep="\t").set_index(["run", "stimulus_id"])["set"]
    names = [pd.read_csv(path.with_suffix(".tsv"), sep="\t")["stimulus_id"] for path in files[:3]]
    train = [
        rows[[split[(RUN.format(number), name)] == "train" for name in shown]]
        for number, (rows, shown) in enumerate(zip(values, names, strict=False), start=1)
    ]
    for number, table in zip((2, 4), predictions(out, "01", "scaled")[1::2], strict=True):
        figures = (values[3] if number == 4 else train[1]) if unit == "run" else np.concatenate(train)
        scaled = {
            "zscore": lambda x, f=figures: (x - f.mean(axis=0)) / f.std(axis=0),
            "minmax": lambda x, f=figures: (x - f.min(axis=0)) / np.ptp(f, axis=0),
        }[scaling](values[number - 1])
        if unit == "none":
            scaled = values[number - 1]
        expected = np.clip(scaled @ model["decoder.coef.01"] + model["decoder.intercept.01"], 0, 1)
        np.testing.assert_allclose(probabilities(table), expected, atol=2e-4)
    assert set(predictions(out, "01", "scaled")[3]["set"]) == {"new"}


# -- targets from a file and a choice of voxels ------------------------------------------------------------


@pytest.fixture(scope="module")
def features(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features that are the labels, turned at random; ids as in the catalogue, not as in the events."""
    table = pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t").iloc[:-3]
    labels = table[[name for name in table if set(table[name].astype(str)) <= {"0", "1"}]].to_numpy(float)
    rng = np.random.default_rng(2)
    path = tmp_path_factory.mktemp("elsewhere") / "private" / "features.safetensors"
    path.parent.mkdir()
    arrays = {
        "low": rng.normal(size=(len(labels), 20)).astype(np.float16),
        "high": (labels @ rng.normal(size=(labels.shape[1], 8)) + 0.1).astype(np.float32),
    }
    save_file(arrays, path, metadata={"stimulus_id": json.dumps(table["filename"].tolist())})
    return path


@pytest.fixture(scope="module")
def with_features(
    study: Path, features: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("with_features")
    config = folder / "config.toml"
    config.write_text(f"{QUICK}\n[responses]\nreliable_voxels = 150\n")
    # An open_clip model whose weights are not here: it would be an error to look for them.
    done = command(
        study, folder / "out", "group", "--train", "--decode", "--targets", features, "--config-file", config
    )
    assert done.returncode == 0, done.stderr
    assert "high level from file; low level from file for" in done.stderr
    assert "150 of 1520 voxels kept" in done.stderr
    return folder / "out"


def test_a_decoder_remembers_the_file_and_no_place(with_features: Path, features: Path) -> None:
    config = json.loads((with_features / "models" / "clipmused" / "config.json").read_text())
    assert config["clip"] == {
        "model": "targets:features.safetensors",
        "weights_sha256": hashlib.sha256(features.read_bytes()).hexdigest(),
    }
    assert config["guidance"] == {"high": "file", "low": "file"}
    assert config["voxel_choice"]["n_voxels"] == {"01": 150, "02": 150}
    assert not list(with_features.glob("stimuli/desc-*_embeddings"))
    for path in with_features.rglob("*"):
        assert not path.is_file() or str(features.parent).encode() not in path.read_bytes(), path.name


def test_decoding_and_preparing_more_need_no_features(
    own_study: Path, with_features: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(with_features, tmp_path / "out"))
    before = predictions(out, "01", "clipmused")
    add_run(own_study, named=True)
    done = command(own_study, out, "participant", "--participant-label", "01")
    assert done.returncode == 0, done.stderr
    after = predictions(out, "01", "clipmused")
    assert len(after) == 4
    for old, new in zip(before, after, strict=False):
        pd.testing.assert_frame_equal(old, new)


def test_other_features_are_refused(
    study: Path, with_features: Path, features: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    """When decoding and when training again; and a CLIP model beside the file at once."""
    other = tmp_path / "features.safetensors"
    arrays = load_file(features)
    ids = pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t")["filename"].iloc[:-3]
    save_file({"high": arrays["high"]}, other)
    ids.rename("stimulus_id").to_csv(tmp_path / "features.tsv", sep="\t", index=False)
    done = command(study, with_features, "participant", "--decode", "--targets", other)
    assert done.returncode == 65, done.stderr
    assert "clip.weights_sha256" in done.stderr
    done = command(study, with_features, "participant", "--decode", "--targets", features)
    assert done.returncode == 0, done.stderr
    done = command(study, with_features, "participant", "--decode", "--clip-model", "demo")
    assert done.returncode == 65, done.stderr
    assert "targets:features.safetensors" in done.stderr
    done = command(study, tmp_path / "out", "group", "--targets", features, "--clip-model", "demo")
    assert done.returncode == 64, done.stderr
    assert not (tmp_path / "out").exists()


def test_features_of_other_stimuli_are_refused_before_anything_is_written(
    study: Path, features: Path, command: Command, tmp_path: Path
) -> None:
    arrays = load_file(features)
    few = {name: values[:20] for name, values in arrays.items()}
    names = [f"elsewhere-{k}.png" for k in range(20)]
    save_file(few, tmp_path / "few.safetensors", metadata={"stimulus_id": json.dumps(names)})
    done = command(study, tmp_path / "out", "group", "--targets", tmp_path / "few.safetensors")
    assert done.returncode == 65, done.stderr
    assert "rows for 0 of" in done.stderr
    assert not (tmp_path / "out").exists()


def test_voxels_cannot_be_chosen_without_repeats(own_study: Path, command: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[responses]\nreliable_voxels = 150\n")
    split = tmp_path / "split.tsv"
    rows = []
    for path in sorted(own_study.glob("sub-*/func/*_events.tsv")):
        events = pd.read_csv(path, sep="\t")
        participant, run = path.name.split("_")[0], path.name.split("_run-")[1][:2]
        rows += [
            (participant, f"{participant}_task-scenes_run-{int(run)}", name) for name in events["stim_file"]
        ]
    table = pd.DataFrame(rows, columns=["participant_id", "run", "stimulus_id"])
    repeated = table.groupby(["participant_id", "stimulus_id"])["run"].transform("size") > 1
    order = table["stimulus_id"].map({name: k for k, name in enumerate(sorted(set(table["stimulus_id"])))})
    table["set"] = np.where(repeated, "test", np.where(order % 7 == 0, "val", "train"))
    table.drop_duplicates(["run", "stimulus_id"]).to_csv(split, sep="\t", index=False)
    done = command(
        own_study, tmp_path / "out", "group", "--method", "ridge", "--config-file", config, "--split", split
    )
    assert done.returncode == 65, done.stderr
    assert "sub-01: 0 training stimuli were shown more than once" in done.stderr
    assert not (tmp_path / "out").exists()


# -- noise ceilings ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One person who saw most stimuli twice; only noise makes one response to a stimulus differ from another."""
    root = tmp_path_factory.mktemp("repeats")
    parameters = SimulationParameters(
        n_participants=1, n_trials=264, n_runs=6, n_shared=20, n_repeats=2, n_repeated_own=100, n_bank=200, snr=1.0,
        variability=0.0, seed=12,
    )  # fmt: skip
    write_dataset(root / "bids", parameters)
    assert main([str(root / "bids"), str(root / "out"), "group", "--train", "--method", "ridge"]) == 0
    return root / "bids", root / "out"


def test_ceilings_are_those_that_the_simulator_knows(repeats: tuple[Path, Path]) -> None:
    bids, out = repeats
    (path,) = out.glob("sub-01/func/*_desc-noiseceiling_statmap.nii.gz")
    image = nibabel.load(path)
    truth = pd.read_csv(
        bids / "sourcedata" / "simulation" / "sub-01_voxels.tsv", sep="\t", keep_default_na=False
    )
    found = np.asarray(image.dataobj)[truth["i"], truth["j"], truth["k"]] / 100
    assert np.isfinite(np.asarray(image.dataobj)).all()
    responsive = (truth["region"] != "n/a").to_numpy()
    known = truth["noise_ceiling"].to_numpy()
    # The truth is that of the best possible estimates; those by least squares - separate are others.
    assert np.corrcoef(found, known)[0, 1] > 0.9
    assert found[responsive].mean() == pytest.approx(known[responsive].mean(), abs=0.03)
    assert np.median(found[responsive]) == pytest.approx(np.median(known[responsive]), abs=0.06)
    assert np.median(found[~responsive]) < 0.01
    sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["StimuliByPresentations"].keys() == {"2"}
    row = pd.read_csv(next(out.glob("sub-01/func/*_desc-noiseceiling_metrics.tsv")), sep="\t").iloc[0]
    assert row["n_voxels"] == sidecar["NumberOfVoxels"] == np.count_nonzero(truth["i"] >= 0)
