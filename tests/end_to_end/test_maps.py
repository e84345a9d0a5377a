"""Maps of the command: attention and occlusion of each participant, on the page and valid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.dataset.test_output_tree_valid import errors_of
from tests.end_to_end.conftest import Command

KINDS = ("Occlusion", "OcclusionLabels", "Regions", "Low", "LowRollout", "High", "HighRollout")


def stem(kind: str) -> str:
    return f"sub-01_space-MNI152NLin2009cAsym_desc-clipmused{kind}_statmap"


def test_every_map_has_its_reliability(trained: Path) -> None:
    func = trained / "sub-01" / "func"
    for kind in KINDS:
        image = nibabel.load(func / f"{stem(kind)}.nii.gz")
        sidecar = json.loads((func / f"{stem(kind)}.json").read_text())
        assert all(source.startswith("bids:") for source in sidecar["Sources"])
        assert np.isfinite(image.get_fdata()).all()
        if kind != "Regions":
            assert {"SplitHalfReliability", "RandomisedWeightsCorrelation"} <= sidecar.keys()
    low = json.loads((func / f"{stem('Low')}.json").read_text())
    assert low["PatchesAreLocal"] is True
    assert image.shape == nibabel.load(func / f"{stem('Regions')}.nii.gz").shape


def test_one_block_of_rollout_is_half_of_the_attention(trained: Path) -> None:
    func = trained / "sub-01" / "func"
    low, rolled = (nibabel.load(func / f"{stem(kind)}.nii.gz").get_fdata() for kind in ("Low", "LowRollout"))
    assert low.max() > 0
    np.testing.assert_allclose(rolled, low / 2, atol=1e-6)


def test_the_page_says_where_it_looks(trained: Path) -> None:
    page = (trained / "sub-01.html").read_text()
    assert 'id="maps"' in page
    assert "Where it looks" in page
    assert "split-half reliability" in page


def test_outputs_with_maps_are_valid(trained: Path) -> None:
    assert errors_of(trained) == []


@pytest.mark.parametrize("level", ["participant"])
def test_a_second_evaluation_reuses_them(
    study: Path, trained: Path, command: Command, tmp_path: Path, level: str
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    done = command(study, out, level, "--evaluate", "--participant-label", "01")
    assert done.returncode == 0, done.stderr
    assert "of 0 participant(s) made, of 1 reused" in done.stderr
