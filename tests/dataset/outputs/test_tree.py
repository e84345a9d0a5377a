from __future__ import annotations

from pathlib import Path

import pytest

from clipmused_bids.dataset.outputs.tree import OutputTree, bids_label
from clipmused_bids.records import Run

TREE = OutputTree(Path("/out"))


def run(*, session: str | None = None, entities: dict[str, str] | None = None) -> Run:
    named = entities or {"sub": "01", "task": "x", "run": "02", "space": "MNI152NLin6Asym"}
    return Run("01", session, "x", 2, named, events=None, image=None, image_kind="bold")


def test_names_of_a_runs_files() -> None:
    stem = "/out/sub-01/func/sub-01_task-x_run-02_space-MNI152NLin6Asym_desc"
    assert str(TREE.responses(run(), kind="lss")) == f"{stem}-lss_responses.safetensors"
    assert str(TREE.predictions(run(), model_label="clipmused")) == f"{stem}-clipmused_predictions.tsv"
    assert str(TREE.run_metrics(run(), model_label="clipmused")) == f"{stem}-clipmused_metrics.tsv"


def test_sessions_have_a_folder() -> None:
    entities = {"sub": "01", "ses": "a", "task": "x"}
    path = TREE.responses(run(session="a", entities=entities), kind="betas")
    assert str(path) == "/out/sub-01/ses-a/func/sub-01_ses-a_task-x_desc-betas_responses.safetensors"


def test_names_of_other_files() -> None:
    names = {
        TREE.group_metrics(model_label="m"): "group_desc-m_metrics.tsv",
        TREE.statmap(
            run(entities={"sub": "01", "task": "x", "run": "1", "space": "T1w"}), model_label="m", kind="Low"
        ): "sub-01/func/sub-01_space-T1w_desc-mLow_statmap.nii.gz",
        TREE.statmap(
            run(entities={"sub": "01", "task": "x"}), model_label="m", kind="HighRollout"
        ): "sub-01/func/sub-01_desc-mHighRollout_statmap.nii.gz",
        TREE.map_table(
            run(entities={"sub": "01", "res": "2"}), model_label="m"
        ): "sub-01/func/sub-01_res-2_desc-mOcclusion_metrics.tsv",
        TREE.figures("01"): "sub-01/figures",
        TREE.report("01"): "sub-01.html",
        TREE.report(None): "group.html",
        TREE.split: "split.tsv",
        TREE.stimuli: "stimuli/stimuli.tsv",
        TREE.embeddings("ViT-B-16"): "stimuli/desc-ViTB16_embeddings",
        TREE.model_folder("m"): "models/m",
        TREE.log_folder("1-2"): "logs/1-2",
        TREE.citation: "logs/CITATION.md",
    }
    for path, name in names.items():
        assert path == TREE.root / name
        assert TREE.uri(path) == f"bids::{name}"


@pytest.mark.parametrize(
    ("text", "label"), [("ViT-B-16", "ViTB16"), ("hf-hub:a/b_c", "hfhubabc"), ("a+1", "a+1"), ("ä", "")]
)
def test_labels_hold_letters_digits_and_plus(text: str, label: str) -> None:
    assert bids_label(text) == label
