"""Atlases of templates and derivatives, grids that differ, and filters, through the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.outputs.response_files import read_responses
from tests.end_to_end.conftest import Command

SPACE = "MNI152NLin2009cAsym"


def derivative(study: Path) -> Path:
    return study / "derivatives" / "fmriprep"


@pytest.fixture
def home(study: Path, tmp_path: Path) -> Path:
    """An archive whose Schaefer atlas is that of the simulated brains, with a coarse grid of the template beside it."""
    folder = tmp_path / "tf" / f"tpl-{SPACE}"
    folder.mkdir(parents=True)
    name = f"tpl-{SPACE}_{{}}atlas-Schaefer2018_desc-400Parcels7Networks_dseg"
    source = next(derivative(study).rglob("sub-01*_dseg.nii.gz"))
    shutil.copy(source, folder / f"{name.format('res-02_')}.nii.gz")
    values = np.unique(np.asarray(nibabel.load(source).dataobj))
    rows = "".join(f"{value}\tparcel {value}\n" for value in values if value)
    (folder / f"{name.format('')}.tsv").write_text(f"index\tname\n{rows}")
    image = nibabel.load(source)
    affine = image.affine.copy()
    affine[:3, :3] *= 1.25
    shape = tuple(int(np.ceil(n / 1.25)) for n in image.shape)
    nibabel.Nifti1Image(np.ones(shape, np.int16), affine).to_filename(
        folder / f"tpl-{SPACE}_res-04_T1w.nii.gz"
    )
    return tmp_path / "tf"


def crop(path: Path) -> None:
    """Take the first plane from an image: another grid of the same space."""
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 0]
    cropped = nibabel.Nifti1Image(np.asarray(image.dataobj)[1:], affine, image.header)
    cropped.to_filename(path)


def test_the_default_atlas_is_recorded_and_decoding_needs_no_archive(
    study: Path, quick: Path, home: Path, command: Command, tmp_path: Path
) -> None:
    out, words = tmp_path / "out", ("--clip-model", "demo", "--config-file", quick)
    done = command(study, out, "group", "--train", *words, TEMPLATEFLOW_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert f"Regions: atlas Schaefer2018:desc-400Parcels7Networks of {SPACE}, the default" in done.stderr
    config = json.loads((out / "models/clipmused/config.json").read_text())
    assert config["inputs"]["atlas"] == "Schaefer2018:desc-400Parcels7Networks"
    assert config["region_names"][0].startswith("parcel ")
    assert config["atlas_images"] == [
        f"tpl-{SPACE}_res-02_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
    ]
    assert str(home) not in (out / "models/clipmused/config.json").read_text()
    decoded = command(study, out, "participant", "--decode", "--atlas", "Schaefer2018")
    assert decoded.returncode == 0, decoded.stderr
    other = command(study, out, "participant", "--decode", "--atlas", "clusters:8")
    assert other.returncode == 65
    assert "Schaefer2018:desc-400Parcels7Networks" in other.stderr
    # What happens to be in an archive never changes a decoder in silence.
    again = command(study, out, "group", "--train", *words)
    assert again.returncode == 73
    assert "inputs.atlas: then Schaefer2018:desc-400Parcels7Networks, now clusters:32" in again.stderr


def test_regions_of_a_derivative_by_their_desc(
    study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    words = ("--clip-model", "demo", "--config-file", quick)
    done = command(study, tmp_path / "a", "group", "--train", "--atlas", "regions", *words)
    assert done.returncode == 0, done.stderr
    assert "Regions: desc-regions_dseg of the derivative." in done.stderr
    pattern = (
        derivative(study)
        / f"sub-{{participant}}/anat/sub-{{participant}}_space-{SPACE}_desc-regions_dseg.nii.gz"
    )
    same = command(study, tmp_path / "b", "group", "--train", "--atlas", pattern, *words)
    assert same.returncode == 0, same.stderr
    first, second = (tmp_path / run / "models/clipmused/model.safetensors" for run in "ab")
    from clipmused_bids.dataset.files.tensors import map_tensors

    one, other = map_tensors(first)[0], map_tensors(second)[0]
    for name, values in one.items():
        np.testing.assert_array_equal(other[name], values, err_msg=name)
    unknown = command(study, tmp_path / "c", "group", "--train", "--atlas", "region", *words)
    assert unknown.returncode == 66
    assert f"atlas region of {SPACE} is not in TemplateFlow's archive" in unknown.stderr


def test_grids_that_differ_are_refused_and_brought_to_the_templates(
    own_study: Path, quick: Path, home: Path, command: Command, tmp_path: Path
) -> None:
    for path in (
        *derivative(own_study).glob("sub-02/func/*_bold.nii.gz"),
        *derivative(own_study).glob("sub-02/func/*_mask.nii.gz"),
    ):
        crop(path)
    words = ("group", "--train", "--method", "ridge-pooled", "--config-file", quick)
    refused = command(own_study, tmp_path / "out", *words)
    assert refused.returncode == 65
    assert "its grid (shape" in refused.stderr
    assert "--resample TEMPLATE:res-R" in refused.stderr
    assert not (tmp_path / "out").exists(), "refused before anything is computed"
    resample = ("--resample", f"{SPACE}:res-4")
    dry = command(own_study, tmp_path / "dry", *words, *resample, "--dry-run", TEMPLATEFLOW_HOME=str(home))
    assert dry.returncode == 0, dry.stderr
    assert not (tmp_path / "dry").exists()
    done = command(own_study, tmp_path / "out", *words, *resample, TEMPLATEFLOW_HOME=str(home))
    assert done.returncode == 0, done.stderr
    (reference,) = home.rglob("*_T1w.nii.gz")
    for path in (tmp_path / "out").rglob("*_responses.safetensors"):
        stored = read_responses(path)
        assert stored.grid.shape == nibabel.load(reference).shape
        np.testing.assert_allclose(stored.grid.affine, nibabel.load(reference).affine)
        assert stored.config["resample"] == f"{SPACE}:res-4"
        assert stored.valid.mean() > 0.9
    config = json.loads((tmp_path / "out/models/ridgepooled/config.json").read_text())
    assert config["inputs"]["resample"] == f"{SPACE}:res-4"
    changed = command(own_study, tmp_path / "out", *words, "--participant-label", "01")
    assert changed.returncode == 73
    assert "resample" in changed.stderr


def test_filters_choose_runs_and_leave_the_rest_out_of_the_split(
    study: Path, command: Command, tmp_path: Path
) -> None:
    filters = tmp_path / "filters.json"
    filters.write_text('{"bold": {"run": [1, 2]}}')
    words = ("group", "--train", "--method", "prevalence", "--bids-filter-file", filters)
    done = command(study, tmp_path / "out", *words, "--split", "runs:2")
    assert done.returncode == 0, done.stderr
    assert "--bids-filter-file filters.json leaves out" in done.stderr
    table = pd.read_csv(tmp_path / "out" / "split.tsv", sep="\t")
    assert {run.split("_run-")[1] for run in table["run"]} == {"1", "2"}
    filters.write_text('{"bold": {"run": 9}}')
    nothing = command(study, tmp_path / "none", *words)
    assert nothing.returncode == 18
    assert "leaves nothing" in nothing.stderr
    filters.write_text('{"bold": {"rum": 9}}')
    assert command(study, tmp_path / "none", *words).returncode == 64
