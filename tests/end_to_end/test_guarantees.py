"""What a user may rely on: test stimuli guide nothing, no place leaves the machine, a split stays with its decoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.end_to_end.conftest import Command

MODEL = Path("models", "clipmused", "model.safetensors")
DEMO_CLIP = Path(__file__).parents[2] / "clipmused_bids" / "data" / "demo_clip"


@pytest.fixture(scope="module")
def private(study: Path, quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine whose folders nobody else should hear of: data, weights, masks and lists in places of their own."""
    root = tmp_path_factory.mktemp("wards") / "of-dr-mabuse"
    shutil.copytree(study, root / "study" / "bids")
    shutil.copytree(DEMO_CLIP, root / "weights" / "demo_clip")
    for name in ("masks", "lists", "pictures"):
        (root / name).mkdir()
    mask = next((study / "derivatives").rglob("sub-02*_run-01*_desc-brain_mask.nii.gz"))
    shutil.copy(mask, root / "masks" / "mask.nii.gz")
    atlas = next((study / "derivatives").rglob("sub-01*_dseg.nii.gz"))
    shutil.copy(atlas, root / "masks" / "atlas_dseg.nii.gz")
    table = pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t", dtype=str)
    labels = table[[name for name in table if set(table[name]) <= {"0", "1"}]]
    labels.insert(0, "stimulus_id", table["filename"])
    labels.to_csv(root / "lists" / "labels.tsv", sep="\t", index=False)
    captions = table[["filename", "description"]].set_axis(["stimulus_id", "caption"], axis=1)
    captions.to_csv(root / "lists" / "captions.tsv", sep="\t", index=False)
    (root / "lists" / "who.txt").write_text("01\nsub-02\n")
    # One by one: the last bits of a feature depend on how many are computed at once, and so on what else is new.
    (root / "lists" / "quick.toml").write_text(f"{quick.read_text()}\n[targets]\nbatch_size = 1\n")
    return root


def flags(root: Path) -> list[object]:
    return [
        "--clip-model", f"local-dir:{root}/weights/demo_clip", "--config-file", root / "lists" / "quick.toml",
        "--mask", root / "masks" / "mask.nii.gz", "--atlas", root / "masks" / "atlas_dseg.nii.gz",
        "--labels", root / "lists" / "labels.tsv", "--captions", root / "lists" / "captions.tsv",
        "--stimuli-dir", root / "pictures", "-d", f"prep={root}/study/bids/derivatives/fmriprep",
        f"--participant-label={root}/lists/who.txt", "-w", root / "scratch",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def placed(private: Path, command: Command) -> Path:
    """Output folder after every action, with an input from every place that a flag can name."""
    out = private / "results" / "out"
    done = command(private / "study" / "bids", out, "group", *flags(private))
    assert done.returncode == 0, done.stderr
    # A split file, a weights folder and a second decoder; decoding by another job.
    shutil.copy(out / "split.tsv", private / "lists" / "split.tsv")
    done = command(
        private / "study" / "bids", out, "group", "--train", *flags(private)[2:], "--clip-model", "demo",
        "--clip-weights", private / "weights" / "demo_clip", "--split", private / "lists" / "split.tsv",
        "--model-label", "second",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = command(private / "study" / "bids", out, "participant", "--decode", *flags(private))
    assert done.returncode == 0, done.stderr
    return out


def test_no_place_of_this_machine_is_in_any_output(placed: Path, private: Path) -> None:
    """In no text, no header of an array file, and no file name; and the command line's own words are there."""
    forbidden = [b"mabuse", str(private.parents[1]).encode(), str(Path.home() / "x")[:-1].encode()]
    files = [path for path in placed.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {
        ".tsv",
        ".json",
        ".toml",
        ".txt",
        ".md",
        ".svg",
        ".safetensors",
    }
    for path in files:
        content = path.read_bytes()
        for secret in forbidden:
            assert secret not in content, f"{path.relative_to(placed)} names {secret!r}"
    assert not [path for path in placed.rglob("*") if "mabuse" in str(path.relative_to(placed))]
    logs = "".join(path.read_text() for path in placed.glob("logs/*/log.txt"))
    assert "decoder stored as out/models/clipmused/model.safetensors" in logs


def test_the_scratch_folder_is_empty_afterwards(placed: Path, private: Path) -> None:
    assert list((private / "scratch").iterdir()) == []


def test_other_pictures_and_captions_of_test_stimuli_change_nothing(
    placed: Path, private: Path, command: Command, tmp_path: Path
) -> None:
    """Other ones of training stimuli do, so the pictures do reach what they may reach."""
    split = pd.read_csv(placed / "split.tsv", sep="\t")
    weights = {}
    for which, count in (("test", None), ("train", 8)):
        held = set(split[split["set"] == "test"]["stimulus_id"])
        chosen = sorted(set(split[split["set"] == which]["stimulus_id"]))[:count]
        assert (set(chosen) <= held) is (which == "test")
        root = tmp_path / which
        shutil.copytree(private, root, ignore=shutil.ignore_patterns("results", "scratch"))
        rng = np.random.default_rng(5)
        captions = pd.read_csv(root / "lists" / "captions.tsv", sep="\t")
        captions.loc[captions["stimulus_id"].isin(chosen), "caption"] = "a kite and a kite and a moon"
        captions.to_csv(root / "lists" / "captions.tsv", sep="\t", index=False)
        for name in chosen:
            (path,) = (root / "study" / "bids" / "stimuli").rglob(Path(name).name)
            size = Image.open(path).size
            Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)
        done = command(root / "study" / "bids", root / "out", "group", "--train", "--decode", *flags(root))
        assert done.returncode == 0, done.stderr
        weights[which] = load_file(root / "out" / MODEL)
        if which == "test":
            pd.testing.assert_frame_equal(pd.read_csv(root / "out" / "split.tsv", sep="\t"), split)
            for path in sorted(placed.glob("sub-*/func/*_desc-clipmused_predictions.tsv")):
                again = root / "out" / path.relative_to(placed)
                assert again.read_bytes() == path.read_bytes(), path.name
    first = load_file(placed / MODEL)
    assert weights["test"].keys() == first.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(weights["test"][name], value, err_msg=name)
    assert any(not np.array_equal(weights["train"][name], value) for name, value in first.items())


def test_the_weights_folder_may_move(placed: Path, private: Path, command: Command, tmp_path: Path) -> None:
    """The same weights in another place: the same decoder, so everything is reused."""
    moved = tmp_path / "moved"
    shutil.copytree(private, moved, ignore=shutil.ignore_patterns("scratch"))
    done = command(moved / "study" / "bids", moved / "results" / "out", "group", "--train", *flags(moved))
    assert done.returncode == 0, done.stderr
    assert "decoder clipmused reused" in done.stderr
    assert "0 of 124 images and 0 of" in done.stderr


def test_another_split_is_refused_and_leaves_the_decoders_own(
    placed: Path, private: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(placed, tmp_path / "out"))
    bids = private / "study" / "bids"
    done = command(bids, out, "group", "--train", *flags(private), "--split", "runs:3")
    assert done.returncode == 73, done.stderr
    assert "split.hash" in done.stderr
    assert not (out / "models" / "clipmused" / "split.tsv").exists()
    assert command(bids, out, "participant", "--decode", *flags(private)).returncode == 0

    done = command(
        bids, out, "group", "--train", *flags(private), "--split", "runs:3", "--model-label", "byrun"
    )
    assert done.returncode == 0, done.stderr
    assert (out / "split.tsv").read_bytes() == (placed / "split.tsv").read_bytes()
    assert command(bids, out, "group", "--decode", "--model-label", "byrun").returncode == 0
    path = next(out.glob("sub-01/func/*run-*3*_desc-byrun_predictions.tsv"))
    assert set(pd.read_csv(path, sep="\t")["set"]) == {"test"}


def test_decoding_by_a_split_the_decoder_was_not_trained_with_is_refused(
    placed: Path, private: Path, command: Command, tmp_path: Path
) -> None:
    """Else trials that it was fitted to would be scored as held out."""
    out = Path(shutil.copytree(placed, tmp_path / "out"))
    table = pd.read_csv(out / "split.tsv", sep="\t")
    table.loc[table.index[table["set"] == "train"][:3], "set"] = "test"
    table.to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    bids = private / "study" / "bids"
    done = command(bids, out, "group", "--decode", "--evaluate", "--split", tmp_path / "other.tsv")
    assert done.returncode == 65, done.stderr
    assert "split.hash" in done.stderr
    shutil.copy(tmp_path / "other.tsv", out / "split.tsv")
    assert command(bids, out, "participant", "--decode").returncode == 65


def test_overwrite_estimates_again(study: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (study, out, "participant", "--prepare", "--method", "ridge", "--participant-label", "01")
    assert command(*words).returncode == 0
    (path,) = out.glob("sub-01/func/*run-*1_*_responses.safetensors")
    before = load_file(path)["responses"]
    done = command(*words, "--hrf", "spm")
    assert done.returncode == 73
    assert "hrf: then glover, now spm" in done.stderr
    assert "--overwrite" in done.stderr
    np.testing.assert_array_equal(load_file(path)["responses"], before)
    done = command(*words, "--hrf", "spm", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "3 run(s) estimated, 0 reused" in done.stderr
    assert not np.allclose(load_file(path)["responses"], before)
