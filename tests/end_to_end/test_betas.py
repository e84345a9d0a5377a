"""Responses that exist already, through the command: by a manifest, and written and read back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests import nsd_shaped
from tests.end_to_end.conftest import Command

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
PATTERN = "sub-*/**/*_responses.safetensors"


@pytest.fixture(scope="module")
def decoded(command: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Output folders of one study, stored in three ways."""
    found = {}
    for kind in ("h5", "nii.gz", "npy"):
        root = tmp_path_factory.mktemp("nsd")
        manifest = nsd_shaped.write_study(root / "data", kind)  # type: ignore[arg-type]
        (root / "bids").mkdir()
        done = command(*words(root, manifest))
        assert done.returncode == 0, done.stderr
        assert "native space" in done.stderr
        found[kind] = root / "out"
    return found


def words(root: Path, manifest: Path, *more: object) -> tuple[object, ...]:
    return (
        root / "bids", root / "out", "group", "--method", "ridge", "--betas", manifest,
        "--labels", root / "data" / "labels.tsv", "--mask", root / "data" / "sub-{participant}_mask.nii.gz", *more,
    )  # fmt: skip


def tables(out: Path, pattern: str) -> pd.DataFrame:
    files = sorted(out.glob(pattern))
    assert files
    return pd.concat([pd.read_csv(file, sep="\t", dtype={"stimulus_id": str}) for file in files])


def test_one_study_in_three_formats_gives_the_same_predictions(decoded: dict[str, Path]) -> None:
    first = tables(decoded["h5"], "sub-*/*/func/*_desc-ridge_predictions.tsv")
    assert len(first) == 2 * 3 * 40
    for kind in ("nii.gz", "npy"):
        pd.testing.assert_frame_equal(
            tables(decoded[kind], "sub-*/*/func/*_desc-ridge_predictions.tsv"), first
        )


def test_responses_are_the_stored_numbers_over_their_scale(decoded: dict[str, Path]) -> None:
    root = decoded["npy"].parent
    for participant in nsd_shaped.GRIDS:
        for session in nsd_shaped.SESSIONS:
            stem = f"sub-{participant}_ses-{session}"
            stored = np.load(root / "data" / f"{stem}_betas.npy")
            (file,) = decoded["npy"].glob(f"sub-{participant}/ses-{session}/func/*_responses.safetensors")
            values = load_file(file)["responses"]
            np.testing.assert_array_equal(values, (stored / np.float64(300)).astype(np.float32))
            sidecar = json.loads(file.with_suffix(".json").read_text())
            assert sidecar["Sources"] == [f"bids:betas:{stem}_betas.npy", "bids:manifest:manifest.tsv"]
            assert list(sidecar["SourceSizes"]) == ["betas"]
            assert sidecar["EventsRows"] == sidecar["NumberOfTrials"] == 40


def test_the_decoder_finds_the_labels(decoded: dict[str, Path]) -> None:
    metrics = tables(decoded["h5"], "group_desc-ridge_metrics.tsv")
    chosen = metrics[(metrics["metric"] == "AUC") & (metrics["participant_id"] == "group")]
    assert (chosen["value"] > 0.85).all()
    model = json.loads((decoded["h5"] / "models/ridge/sub-01_config.json").read_text())
    assert model["standardization"]["unit"] == "session"


def test_a_second_run_reuses_and_a_changed_manifest_is_named(
    decoded: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    root = decoded["npy"].parent
    manifest = root / "data" / "manifest.tsv"
    again = command(*words(root, manifest, "--prepare"))
    assert "0 run(s) estimated, 6 reused" in again.stderr
    lines = manifest.read_text().splitlines()
    changed = root / "data" / "changed.tsv"
    changed.write_text("\n".join(line.replace("\t300", "\t150") for line in lines) + "\n")
    refused = command(*words(root, changed, "--prepare"))
    assert refused.returncode == 73
    assert "betas.scale: then [300.0], now [150.0]" in refused.stderr
    swapped = [line.split("\t") for line in lines]
    swapped[1][3], swapped[2][3] = swapped[2][3], swapped[1][3]
    changed.write_text("\n".join("\t".join(cells) for cells in swapped) + "\n")
    refused = command(*words(root, changed, "--prepare"))
    assert refused.returncode == 73
    assert "betas.rows: then" in refused.stderr


def test_a_set_column_makes_the_split(command: Command, tmp_path: Path) -> None:
    manifest = nsd_shaped.write_study(tmp_path / "data", "npy")
    (tmp_path / "bids").mkdir()
    header, *lines = manifest.read_text().splitlines()
    sets = ["test" if "\tses-nsd03\t" in line else "train" for line in lines]
    rows = [f"{line}\t{name}" for line, name in zip(lines, sets, strict=True)]
    manifest.write_text("\n".join([f"{header}\tset", *rows]) + "\n")
    done = command(*words(tmp_path, manifest, "--train"))
    assert done.returncode == 0, done.stderr
    split = pd.read_csv(tmp_path / "out" / "split.tsv", sep="\t")
    assert set(split["rule"]) == {"column"}
    test = split["run"].str.contains("nsd03")
    assert (split.loc[test, "set"] == "test").all()
    assert not (split.loc[~test, "set"] == "test").any()


def test_a_new_session_without_names_is_decoded(command: Command, tmp_path: Path) -> None:
    manifest = nsd_shaped.write_study(tmp_path / "data", "h5")
    (tmp_path / "bids").mkdir()
    header, *lines = manifest.read_text().splitlines()
    old = [line for line in lines if "\tses-nsd03\t" not in line]
    manifest.write_text("\n".join([header, *old]) + "\n")
    assert command(*words(tmp_path, manifest, "--train")).returncode == 0
    new = tmp_path / "data" / "new.tsv"
    kept = [
        [*line.split("\t")[:4], line.split("\t")[5]] for line in [header, *lines] if line not in old
    ]  # without stimulus_id
    new.write_text("\n".join("\t".join(cells) for cells in kept) + "\n")
    done = command(
        tmp_path / "bids", tmp_path / "out", "participant", "--decode", "--model-label", "ridge", "--betas", new,
        "--mask", tmp_path / "data" / "sub-{participant}_mask.nii.gz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = tables(tmp_path / "out", "sub-*/ses-nsd03/func/*_desc-ridge_predictions.tsv")
    assert len(table) == 80
    assert set(table["set"]) == {"new"}
    assert table["stimulus_id"].isna().all()
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or str(tmp_path).encode() not in file.read_bytes(), file


def test_a_manifest_goes_with_nothing_that_it_replaces(command: Command, tmp_path: Path) -> None:
    manifest = nsd_shaped.write_study(tmp_path / "data", "npy")
    (tmp_path / "bids").mkdir()
    for options, message in (
        (("--response", "lss"), "--betas with --response lss"),
        (("--trial-type", "face"), "--betas with --trial-type"),
        (("-d", "x"), "--betas with --derivatives"),
        (("--write-betas",), "--write-betas: these responses are not estimated here"),
    ):
        done = command(*words(tmp_path, manifest, *options))
        assert (done.returncode, message in done.stderr) == (64, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_one_broken_person_does_not_stop_the_other(command: Command, tmp_path: Path) -> None:
    manifest = nsd_shaped.write_study(tmp_path / "data", "h5")
    (tmp_path / "bids").mkdir()
    (tmp_path / "data" / "sub-02_ses-nsd02_betas.h5").write_bytes(b"cut")
    done = command(*words(tmp_path, manifest, "--prepare"))
    assert done.returncode == 65
    assert "sub-02_ses-nsd02_betas.h5: not a readable HDF5 file, truncated or damaged" in done.stderr
    assert len(list((tmp_path / "out").glob(PATTERN))) == 3, "nothing of sub-02 was begun"


@pytest.mark.parametrize("kind", ["lss", "window"])
def test_exported_responses_are_read_back_equal(
    study: Path, command: Command, tmp_path: Path, kind: str
) -> None:
    options = ("participant", "--prepare", "--method", "ridge")
    first, second = tmp_path / "first", tmp_path / "second"
    done = command(study, first, *options, "--response", kind)
    assert done.returncode == 0, done.stderr
    done = command(study, first, *options, "--response", kind, "--write-betas")
    assert "0 run(s) estimated, 6 reused" in done.stderr
    done = command(study, second, *options, "--response", "betas", "-d", first)
    assert done.returncode == 0, done.stderr
    files = sorted(first.glob(PATTERN))
    assert len(files) == 6
    for file in files:
        ours = load_file(file)
        back_file = Path(str(file).replace(str(first), str(second)).replace(f"desc-{kind}", "desc-betas"))
        back = load_file(back_file)
        assert ours.keys() - {"tsnr"} == back.keys(), (
            "given responses say nothing of the series they come from"
        )
        for name in back:
            np.testing.assert_array_equal(back[name], ours[name])
        sidecar = json.loads(back_file.with_suffix(".json").read_text())
        assert sidecar["Units"] == "percent signal change"
        assert any(source.endswith(f"desc-{kind}_trials.tsv") for source in sidecar["Sources"])


def manifest_of_derivative(dataset: Path, manifest: Path) -> None:
    """The volumes of ``derivatives/betas`` as rows, each with what the events say of it."""
    lines = ["participant_id\ttask\trun\tfile\tindex\tonset\tduration\ttrial_type"]
    for image in sorted(dataset.glob("derivatives/betas/sub-*/func/*_statmap.nii.gz")):
        participant, task, run = image.name.split("_")[:3]
        events = dataset / participant / "func" / f"{participant}_{task}_{run}_events.tsv"
        where = f"{participant}\t{task}\t{run}\t{os.path.relpath(image, manifest.parent)}"
        lines += [f"{where}\t{k}\t{line}" for k, line in enumerate(events.read_text().splitlines()[1:])]
    manifest.write_text("\n".join(lines) + "\n")


@pytest.mark.real_data
@pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set")
def test_a_derivative_and_a_manifest_of_it_decode_alike(command: Command, tmp_path: Path) -> None:
    dataset = Path(str(DATA)) / "raider5"
    manifest_of_derivative(dataset, tmp_path / "manifest.tsv")
    (tmp_path / "bids").mkdir()
    options = ("group", "--method", "ridge", "--split", "runs:8")
    done = command(dataset, tmp_path / "one", *options, "--response", "betas")
    assert done.returncode == 0, done.stderr
    done = command(tmp_path / "bids", tmp_path / "two", *options, "--betas", tmp_path / "manifest.tsv")
    assert done.returncode == 0, done.stderr
    for folder in ("one", "two"):
        assert len(list((tmp_path / folder).glob("sub-*/func/*_desc-ridge_predictions.tsv"))) == 40
    pattern = "sub-*/func/*_desc-ridge_predictions.tsv"
    pd.testing.assert_frame_equal(tables(tmp_path / "one", pattern), tables(tmp_path / "two", pattern))


@pytest.mark.real_data
@pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set")
def test_responses_to_real_blocks_are_read_back_equal(command: Command, tmp_path: Path) -> None:
    dataset, first, second = Path(str(DATA)) / "haxby1", tmp_path / "first", tmp_path / "second"
    options = ("participant", "--prepare", "--method", "ridge")
    assert command(dataset, first, *options, "--write-betas").returncode == 0
    assert command(dataset, second, *options, "--response", "betas", "-d", first).returncode == 0
    files = sorted(first.glob(PATTERN))
    assert len(files) == 12
    for file in files:
        back = load_file(second / file.parent.relative_to(first) / file.name.replace("window", "betas"))
        np.testing.assert_array_equal(back["responses"], load_file(file)["responses"])
