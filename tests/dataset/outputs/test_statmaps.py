from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.events.trial_join import trial_table, volume_of_trial
from clipmused_bids.dataset.images.series import read_bold, read_mask
from clipmused_bids.dataset.outputs.response_files import read_responses, write_responses
from clipmused_bids.dataset.outputs.statmaps import write_statmap
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import Grid, Run, RunResponses, Trials

AFFINE = np.array([[-2.0, 0, 0.1, 60], [0, 2, 0, -70.25], [0.1, 0, 2.5, -40], [0, 0, 0, 1]])
GRID = Grid((3, 4, 5), AFFINE)
VOXELS = np.array([3, 7, 8, 30, 59])
RUN = Run(
    "01", "a", "x", 1, {"sub": "01", "ses": "a", "task": "x", "run": "01", "space": "T1w"}, None, None, "bold",
    sources={"image": "bids:fmriprep:sub-01/ses-a/func/b.nii.gz"},
)  # fmt: skip
TRIALS = Trials(
    np.arange(5) * 4.1 + 0.3, np.full(5, 2.0), ("p", "q", "", "r", "q"), ("",) * 5, {"rt": ("n/a",) * 5},
    np.empty(0), np.empty(0), (), 5, 5, {},
)  # fmt: skip
KEPT = np.array([0, 1, 2, 4])
VALID = np.array([True, True, False, True, True])


@pytest.fixture
def tree(tmp_path: Path) -> OutputTree:
    return OutputTree(tmp_path / "out")


def store(tree: OutputTree, *, kind: str = "lss", seed: int = 0, precision: str = "float32") -> Path:
    values = np.random.default_rng(seed).normal(scale=1e-3, size=(4, 5)).astype(np.float32)
    values[:, ~VALID] = 0
    responses = RunResponses(values, VALID, KEPT, kind, "percent signal change", {"beyond the run": 1})  # type: ignore[arg-type]
    return write_responses(
        tree, RUN, responses, TRIALS, grid=GRID, voxels=VOXELS, config={"hrf": "spm"}, precision=precision
    )  # type: ignore[arg-type]


def test_another_program_finds_each_value_at_its_place(tree: OutputTree) -> None:
    stored = read_responses(store(tree))
    path = write_statmap(tree, RUN, stored)
    assert path.name == "sub-01_ses-a_task-x_run-01_space-T1w_desc-lss_statmap.nii.gz"
    image = nibabel.load(path)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    data = image.get_fdata(dtype=np.float32)
    assert data.shape == (3, 4, 5, 4)
    places = np.unravel_index(VOXELS, GRID.shape)
    np.testing.assert_array_equal(data[places].T, stored.values)
    data[places] = 0
    assert not data.any()
    sidecar = json.loads((path.parent / path.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Units"] == "percent signal change"
    assert sidecar["Sources"] == [tree.uri(stored.path), "bids:fmriprep:sub-01/ses-a/func/b.nii.gz"]
    table = pd.read_csv(path.parent / path.name.replace("_statmap.nii.gz", "_trials.tsv"), sep="\t")
    assert table["trial"].tolist() == [1, 2, 3, 5]
    described = json.loads((path.parent / path.name.replace("_statmap.nii.gz", "_trials.json")).read_text())
    assert set(table.columns) <= set(described)


def test_read_back_it_is_what_was_stored(tree: OutputTree) -> None:
    """Voxels without signal stay in the mask, trials that were left out stay without a volume."""
    stored = read_responses(store(tree))
    path = write_statmap(tree, RUN, stored)
    grid, mask = read_mask(tree.response_mask(RUN))
    np.testing.assert_array_equal(np.flatnonzero(mask), VOXELS)
    series = read_bold(replace(RUN, image=path, image_kind="betas"), mask, grid)
    np.testing.assert_array_equal(series.values, stored.values)
    np.testing.assert_array_equal(series.valid, VALID)
    table = trial_table(path)
    assert table is not None
    assert volume_of_trial(table, TRIALS, n_volumes=4).tolist() == [0, 1, 2, -1, 3]


def test_the_same_responses_are_the_same_bytes(tree: OutputTree) -> None:
    path = write_statmap(tree, RUN, read_responses(store(tree)))
    before = {file: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    write_statmap(tree, RUN, read_responses(store(tree)))
    assert {file: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before
    # Bytes 4 to 8 are the time, and no name is told.
    assert path.read_bytes()[3:8] == bytes(5)
    write_statmap(tree, RUN, read_responses(store(tree, seed=1)))
    assert path.stat().st_mtime_ns != before[path]


def test_half_precision_is_exported_as_it_is_read(tree: OutputTree) -> None:
    stored = read_responses(store(tree, precision="float16"))
    path = write_statmap(tree, RUN, stored)
    raw = gzip.decompress(path.read_bytes())
    last = np.frombuffer(raw[352:], dtype="<f4").reshape(4, *GRID.shape[::-1])[3].T
    np.testing.assert_array_equal(last.ravel()[VOXELS], stored.decoded()[3])
