from __future__ import annotations

import logging
import tomllib
from pathlib import Path

import pytest

from clipmused_bids.config import Config, InputOptions, Selection
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.stages.portable import clip_name, names_only, places_of, shorten, without_places
from clipmused_bids.stages.run_log import early_lines, run_log


def test_a_run_leaves_its_configuration_and_log_without_places(tmp_path: Path) -> None:
    home = tmp_path / "secret"
    config = Config(
        bids_dir=home / "bids",
        output_dir=home / "out",
        level="group",
        actions=("train",),
        selection=Selection(participants=(f"{home}/who.txt", "03")),
        inputs=InputOptions(
            derivatives=(f"prep={home}/fmriprep", f"{home}/other"),
            stimuli_dirs=(f"{home}/pictures",),
            mask=f"{home}/masks/{{participant}}_mask.nii.gz",
            atlas="clusters:8",
            trial_types=("face/left",),
        ),
        overrides={
            "targets": {"clip_model": f"local-dir:{home}/clip", "clip_weights": f"{home}/w.safetensors"}
        },
        split=f"{home}/split.tsv",
        work_dir=home / "work",
        preset="nsd",
    )
    logger = logging.getLogger("clipmused_bids")
    before = list(logger.handlers)
    words = [f"{home}/bids", f"--mask={home}/m.nii", "-t", "x"]

    def broken() -> None:
        with (
            early_lines() as early,
            run_log(OutputTree(config.output_dir), config, command_line=words, early=early),
        ):
            logger.error("%s/sub-01/x.tsv and %s/fmriprep: %s.", config.bids_dir, home, config.output_dir)
            raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        broken()
    assert logger.handlers == before, "the log file was not closed"

    (folder,) = (home / "out" / "logs").iterdir()
    text = (folder / "config.toml").read_text() + (folder / "log.txt").read_text()
    assert "secret" not in text
    assert "bids/sub-01/x.tsv and fmriprep: out." in text
    written = tomllib.loads((folder / "config.toml").read_text())
    assert written["command_line"] == ["bids", "--mask=m.nii", "-t", "x"]
    assert written["selection"]["participants"] == ["who.txt", "03"]
    assert written["inputs"]["derivatives"] == ["prep=fmriprep", "other"]
    assert written["inputs"]["mask"] == "{participant}_mask.nii.gz"
    assert (written["inputs"]["atlas"], written["inputs"]["trial_types"]) == ("clusters:8", ["face/left"])
    assert written["hyperparameters"]["targets"]["clip_model"] == "local-dir:clip"
    assert written["hyperparameters"]["model"]["depth"] == 24, "the preset that was used"
    assert (written["bids_dir"], written["output_dir"], written["split"]) == ("bids", "out", "split.tsv")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/a/b/bids/sub-01", "bids/sub-01"),
        ("read /a/b/bids.", "read bids."),
        ("/a/b/bids2/x", "/a/b/bids2/x"),
        ("/a/b/bids-old", "/a/b/bids-old"),
        ("/z/a/b/bids", "/z/a/b/bids"),
        ("(/a/b/bids/derivatives/prep/sub-01)", "(prep/sub-01)"),
        ("/", "/"),
    ],
)
def test_only_whole_places_are_shortened(text: str, short: str) -> None:
    assert shorten(text, [Path("/a/b/bids"), Path("/a/b/bids/derivatives/prep"), Path("/")]) == short


@pytest.mark.parametrize(
    ("value", "short"),
    [
        ("/a/b/", "b"),
        ("~/x/y", "y"),
        ("../x/y", "y"),
        ("prep=/a/b", "prep=b"),
        ("local-dir:/a/b", "local-dir:b"),
        ("--mask=/a/{participant}.nii", "--mask={participant}.nii"),
        ("face/left", "face/left"),
        ("hf-hub:org/model", "hf-hub:org/model"),
        ("runs:8", "runs:8"),
        (["/a/b", 3, None, {"x": ("/c/d",)}], ["b", 3, None, {"x": ["d"]}]),
    ],
)
def test_names_of_places(value: object, short: object) -> None:
    assert names_only(value) == short


def test_clip_weights_have_a_name_and_no_place() -> None:
    tables = {
        "targets": {"clip_model": "local-dir:/a/clip", "clip_weights": "/a/w", "low": "mean"},
        "fit_on": "train",
    }
    assert without_places(tables) == {
        "targets": {"clip_model": "local-dir:clip", "low": "mean"},
        "fit_on": "train",
    }
    assert places_of(tables) == {"targets": {"clip_model": "local-dir:/a/clip", "clip_weights": "/a/w"}}
    assert without_places({"fit_on": "train"}) == {"fit_on": "train"}
    assert places_of({"targets": {"low": "mean"}}) == {}
    assert [clip_name(name) for name in ("ViT-B-16", "demo", "local-dir:x/y/")] == [
        "ViT-B-16",
        "demo",
        "local-dir:y",
    ]
