"""CLIP targets of real images with real captions and labels: each content is encoded once, ever."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from clipmused_bids.targets import clip
from tests import coco_study
from tests.end_to_end.conftest import Command

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set"),
]
COCO = Path(str(DATA)) / "coco_tiny"


class Passes:
    """Images and sentences that go through the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = self.sentences = 0
        towers, texts = clip._both_levels, clip.encode_texts

        def of_images(network: Any, pixels: Any) -> Any:
            # A pass is filled by repeating its last picture.
            self.images += len(torch.unique(pixels, dim=0))
            return towers(network, pixels)

        def of_texts(model: Any, sentences: Any, **more: Any) -> Any:
            self.sentences += len(sentences)
            return texts(model, sentences, **more)

        monkeypatch.setattr(clip, "_both_levels", of_images)
        monkeypatch.setattr("clipmused_bids.stages.clip_targets.encode_texts", of_texts)

    def taken(self) -> tuple[int, int]:
        """Counts since the last call; loading a model measures the tower by one empty image, which is not counted."""
        found = (max(self.images - 1, 0), self.sentences)
        self.images = self.sentences = 0
        return found


def stored(out: Path, name: str) -> int:
    """Rows of an array over all shards."""
    tensors = [load_file(path) for path in out.glob("stimuli/desc-demo_embeddings/*.safetensors")]
    return sum(len(one[name]) for one in tensors if name in one)


@pytest.mark.slow
def test_real_images_are_encoded_once_whatever_they_are_called(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Passes(monkeypatch)
    names = [path.name for path in coco_study.image_files(COCO)]
    assert len(names) == 100
    coco_study.write_study(tmp_path, names)
    prepare = ("--prepare", "--clip-model", "demo")
    done = command(*coco_study.command_words(tmp_path, COCO, *prepare))
    assert done.returncode == 0, done.stderr
    captions = {
        entry["caption"].strip()
        for path in coco_study.annotations(COCO, "captions")
        for entry in json.loads(path.read_text())["annotations"]
    }
    assert passes.taken() == (100, stored(tmp_path / "out", "text"))
    assert abs(stored(tmp_path / "out", "text") - len(captions)) <= 2, "sentences that differ in blanks only"
    assert stored(tmp_path / "out", "low") == stored(tmp_path / "out", "image") == 100
    again = command(*coco_study.command_words(tmp_path, COCO, *prepare))
    assert again.returncode == 0
    assert passes.taken() == (0, 0)
    # A copy under another name: another stimulus, the same content.
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(coco_study.image_files(COCO)[0], more / "renamed.jpg")
    coco_study.write_study(tmp_path / "renamed", [*names, "renamed.jpg"])
    shutil.copytree(tmp_path / "out" / "stimuli", tmp_path / "renamed" / "out" / "stimuli")
    words = coco_study.command_words(tmp_path / "renamed", COCO, *prepare, "--stimuli-dir", more)
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert passes.taken() == (0, 0)
    assert "0 of 100 images" in done.stderr, "101 stimuli, 100 contents"
    # Other pixels under the old name are another content.
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(more / "renamed.jpg")
    assert command(*words).returncode == 0
    assert passes.taken() == (1, 0)


def test_labels_of_real_images_are_those_of_their_annotations(command: Command, tmp_path: Path) -> None:
    names = [path.name for path in coco_study.image_files(COCO)]
    coco_study.write_study(tmp_path, names)
    done = command(*coco_study.command_words(tmp_path, COCO, "--prepare", "--clip-model", "demo"))
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "stimuli" / "stimuli.tsv", sep="\t").set_index("stimulus_id")
    columns = [column for column in table if column.startswith("label_")]
    truth = coco_study.categories_of(COCO)
    for name in names:
        found = {column.removeprefix("label_") for column in columns if table.loc[name, column] == 1}
        assert found == truth[name]
    assert (table.loc[names, "n_captions"] >= 5).all()
