"""The official BIDS validator accepts a tree with every kind of file that is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.dataset.files.documents import write_json, write_text
from clipmused_bids.dataset.outputs.description import prepare_tree, write_descriptions
from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.dataset.outputs.metric_files import MetricRow, write_group_metrics, write_run_metrics
from clipmused_bids.dataset.outputs.model_writing import save_model
from clipmused_bids.dataset.outputs.prediction_files import Predictions, write_predictions
from clipmused_bids.dataset.outputs.response_files import read_responses, write_responses
from clipmused_bids.dataset.outputs.split_file import write_split
from clipmused_bids.dataset.outputs.statmaps import write_statmap
from clipmused_bids.dataset.outputs.stimulus_catalogue import write_catalogue
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import write_card
from clipmused_bids.records import Grid, History, Picture, Run, RunResponses, Score, Split, Stimuli, Trials

SCORES = (MetricRow("01", "test", "single trials", Score("mAP", 0.5, 0.1, 2, 2)),)


def make_run(participant: str, session: str | None) -> Run:
    entities = {
        "sub": participant,
        **({"ses": session} if session else {}),
        "task": "x",
        "run": "01",
        "space": "T1w",
    }
    sources = {"image": f"bids:fmriprep:sub-{participant}/func/x_bold.nii.gz"}
    return Run(
        participant, session, "x", 1, entities, events=None, image=None, image_kind="bold", sources=sources
    )


def fill_run(tree: OutputTree, run: Run) -> None:
    trials = Trials(
        np.array([0.0, 4.0]),
        np.ones(2),
        ("a", "b"),
        ("", ""),
        {"rt": ("1", "n/a")},
        np.empty(0),
        np.empty(0),
        (),
        2,
        2,
        {},
    )
    values = np.ones((2, 3), dtype=np.float32)
    responses = RunResponses(values, np.ones(3, dtype=bool), np.arange(2), "lss", "percent signal change", {})
    grid = Grid((3, 3, 3), np.eye(4))
    source = write_responses(
        tree, run, responses, trials, grid=grid, voxels=np.arange(3), config={"hrf": "spm"}
    )
    write_statmap(tree, run, read_responses(source))
    table = Predictions(
        trials.onset,
        trials.duration,
        np.array([1, 2]),
        ("a", "b"),
        ("test", "new"),
        (None, 1),
        ("dog",),
        np.ones((2, 1)),
    )
    made = write_predictions(
        tree, run, table, model_label="clipmused", sources=[tree.uri(source)], details={}
    )
    write_run_metrics(tree, run, SCORES, model_label="clipmused", sources=[tree.uri(made)], details={})


def fill_tree(root: Path, bids_dir: Path) -> OutputTree:
    tree = prepare_tree(
        root, bids_dir=bids_dir, derivatives={"fmriprep": bids_dir / "derivatives" / "f"}, environ={}
    )
    for participant, session in (("01", None), ("02", "pre")):
        fill_run(tree, make_run(participant, session))
    folder = tree.model_folder("clipmused")
    history = History({"loss": (1.0,)}, best_epoch=0, stopped="")
    for owner in (None, "01"):
        save_model(
            folder, participant=owner, tensors={"w": np.ones(2)}, config={"labels": ["dog"]}, history=history
        )
    write_card(folder, "# Decoder\n")
    write_group_metrics(
        tree, SCORES, model_label="clipmused", sources=[], details={"Regime": "unseen stimuli"}
    )
    split = Split(("sub-01_task-x_run-1",), ("a",), ("train",), ("rest",), "stimuli", "unseen stimuli")
    write_split(tree.split, split)
    cache = EmbeddingCache(tree.embeddings("ViT-B-16"), {"ClipModel": "ViT-B-16"})
    cache.add(["0a", "f1"], {"low": np.ones((2, 4)), "high": np.ones((2, 4))})
    stimuli = Stimuli(
        ("a", "b"), (Picture(bids_dir / "stimuli" / "a.png"), None), ((), ()), ("dog",), np.ones((2, 1))
    )
    write_catalogue(tree, stimuli, content_hash=["0a", None], bids_dir=bids_dir)
    fill_rest(tree)
    write_descriptions(tree)
    return tree


def fill_rest(tree: OutputTree) -> None:
    for participant in ("01", None):
        write_text(tree.report(participant), "<html></html>\n")
    write_text(tree.figures("01") / "sub-01_desc-coverage_bold.svg", "<svg/>\n")
    write_text(tree.citation, "Text.\n")
    write_text(tree.log_folder("20260101-1") / "config.toml", "a = 1\n")
    write_text(tree.log_folder("20260101-1") / "log.txt", "line\n")
    (tree.func_folder(make_run("01", None)) / ".left-over.0.tmp").write_bytes(b"part")
    image = tree.statmap(make_run("01", None), model_label="clipmused", kind="Low")
    image.write_bytes(b"stand-in")
    write_json(image.with_name(image.name.replace(".nii.gz", ".json")), {"Sources": []})


def errors_of(root: Path) -> list[dict[str, str]]:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = str(validator) if validator.exists() else shutil.which("bids-validator-deno")
    if found is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run([found, str(root), "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> OutputTree:
    bids_dir = tmp_path_factory.mktemp("raw")
    for participant in ("01", "02", "03"):
        (bids_dir / f"sub-{participant}").mkdir()
    (bids_dir / "dataset_description.json").write_text('{"Name": "Faces", "BIDSVersion": "1.8.0"}')
    (bids_dir / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\tn/a\nsub-03\t31\n")
    return fill_tree(tmp_path_factory.mktemp("derived") / "out", bids_dir)


def test_the_validator_finds_no_error(tree: OutputTree) -> None:
    assert errors_of(tree.root) == []


def test_the_validator_looks_at_all(tree: OutputTree, tmp_path: Path) -> None:
    """Without .bidsignore it must complain, else the test above shows nothing."""
    copy = tmp_path / "copy"
    shutil.copytree(tree.root, copy)
    (copy / ".bidsignore").unlink()
    named = " ".join(error["location"] for error in errors_of(copy))
    for part in (
        "responses.safetensors",
        "predictions.tsv",
        "metrics.tsv",
        "split.tsv",
        "group_desc",
        "models/clipmused",
        "desc-lss_statmap.nii.gz",
        "desc-lss_trials.tsv",
    ):
        assert part in named


def test_data_files_have_a_sidecar_with_sources(tree: OutputTree) -> None:
    data = [
        path
        for path in tree.root.rglob("*")
        if path.suffix in {".safetensors", ".tsv"} and path.name[0] != "."
    ]
    described = {"participants.tsv", "descriptions.tsv"}
    # Parts of shared tables that each job has by itself lie among the logs.
    checked = [
        path for path in data if path.name not in described and not {"models", "logs"} & set(path.parts)
    ]
    assert len(checked) == 2 * 5 + 1 + 1 + 2 + 1
    for path in checked:
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert all(source.startswith("bids:") for source in sidecar["Sources"])


def test_no_path_of_this_machine_is_in_the_tree(tree: OutputTree) -> None:
    for path in tree.root.rglob("*"):
        if path.is_file():
            assert str(tree.root.parent.parent).encode() not in path.read_bytes(), path
