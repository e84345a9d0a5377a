from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nilearn.image import resample_to_img

from clipmused_bids.dataset.atlases.atlas_files import (
    AtlasRequest,
    atlas_label,
    dseg_descs,
    dseg_of,
    parse_atlas,
    refuse_other_space,
)
from clipmused_bids.dataset.atlases.regions import read_atlas
from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.errors import DataError, MissingInputError, UsageError
from clipmused_bids.records import Grid, Run

AFFINE = np.diag([3.0, 3.0, 3.5, 1.0])
GRID = Grid((5, 4, 3), AFFINE)
ALL = np.arange(60)


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


def bold_run(space: str | None = "T1w", *, session: str | None = None, **more: str) -> Run:
    entities = {"sub": "01", "ses": session, "task": "x", "run": "2", "space": space, **more}
    named = {key: label for key, label in entities.items() if label is not None}
    return Run("01", session, "x", 2, named, None, None, "bold", space=space)


@pytest.mark.parametrize(
    ("text", "expected", "label"),
    [
        ("clusters", AtlasRequest("clusters", ""), "clusters:9"),
        ("clusters:40", AtlasRequest("clusters", "40"), "clusters:40"),
        ("grid:8", AtlasRequest("grid", "8"), "grid:8"),
        ("/data/v_dseg.nii.gz", AtlasRequest("file", "/data/v_dseg.nii.gz"), "v_dseg.nii.gz"),
        ("sub-{participant}.nii", AtlasRequest("file", "sub-{participant}.nii"), "sub-{participant}.nii"),
        ("aparcaseg", AtlasRequest("name", "aparcaseg"), "aparcaseg"),
        (
            "Schaefer2018",
            AtlasRequest("name", "Schaefer2018", {"desc": "400Parcels7Networks"}),
            "Schaefer2018:desc-400Parcels7Networks",
        ),
        (
            "Schaefer2018:res-1:desc-100Parcels17Networks:tpl-MNI152NLin6Asym",
            AtlasRequest(
                "name",
                "Schaefer2018",
                {"desc": "100Parcels17Networks", "res": "1", "tpl": "MNI152NLin6Asym"},
            ),
            "Schaefer2018:desc-100Parcels17Networks",
        ),
    ],
)
def test_what_an_atlas_may_be(text: str, expected: AtlasRequest, label: str) -> None:
    assert parse_atlas(text) == expected
    assert atlas_label(text, n_regions=9) == label


@pytest.mark.parametrize("text", ["Schaefer2018:400", "Schaefer2018:desc-", "HOCPA:den-32k"])
def test_details_are_entities(text: str) -> None:
    with pytest.raises(
        UsageError, match=f"--atlas {text}: what follows the name must be entities with labels"
    ):
        parse_atlas(text)


def test_regions_have_names_and_are_renumbered(tmp_path: Path) -> None:
    values = np.zeros(GRID.shape, dtype=np.int16)
    values[0], values[1], values[2] = 1002, 17, -1
    path = save(tmp_path / "sub-01_desc-x_dseg.nii.gz", values)
    regions, names = read_atlas(path, grid=GRID, voxels=ALL)
    assert names == ("region-17", "region-1002")
    assert regions.tolist() == [2] * 12 + [1] * 12 + [0] * 36
    assert read_atlas(path, grid=GRID, voxels=np.array([11, 12, 30]))[0].tolist() == [2, 1, 0]
    # fMRIPrep 20.1 wrote names in quotation marks.
    (tmp_path / "desc-x_dseg.tsv").write_text(
        'index\tname\tcolor\n17\t"V1"\t#0\n1002\tFFA\t#1\n3\tabsent\t#2\n'
    )
    assert read_atlas(path, grid=GRID, voxels=ALL)[1] == ("V1", "FFA")
    (tmp_path / "other.tsv").write_text("index\tname\n17\ta\n1002\tb\n")
    assert read_atlas(path, grid=GRID, voxels=ALL, table=tmp_path / "other.tsv")[1] == ("a", "b")
    save(path, values + np.float32(0.5))
    with pytest.raises(DataError, match="not whole numbers"):
        read_atlas(path, grid=GRID, voxels=ALL)
    save(path, np.zeros_like(values))
    with pytest.raises(DataError, match=r"sub-01_desc-x_dseg\.nii\.gz: no region"):
        read_atlas(path, grid=GRID, voxels=ALL)
    with pytest.raises(MissingInputError, match=r"gone\.nii\.gz"):
        read_atlas(tmp_path / "gone.nii.gz", grid=GRID, voxels=ALL)


def test_another_grid_of_the_space_is_brought_to_the_images_by_nearest_neighbours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(4)
    fine = np.array([[-1.3, 0, 0, 14], [0, 1.3, 0, -1], [0, 0, 1.7, -2], [0, 0, 0, 1]])
    path = save(tmp_path / "x_dseg.nii.gz", rng.integers(0, 30, size=(14, 12, 9)).astype(np.int16) * 7, fine)
    with caplog.at_level(logging.INFO):
        regions, names = read_atlas(path, grid=GRID, voxels=ALL)
    target = nibabel.Nifti1Image(np.zeros(GRID.shape), AFFINE)
    expected = resample_to_img(
        nibabel.load(path), target, interpolation="nearest", force_resample=True, copy_header=True
    )
    values = np.array([0, *(int(name.removeprefix("region-")) for name in names)])
    np.testing.assert_array_equal(values[regions], np.asarray(expected.dataobj).reshape(-1))
    assert (regions > 0).mean() > 0.9
    assert "x_dseg.nii.gz: brought to the grid of the images by nearest neighbours" in caplog.text


def test_an_atlas_that_misses_the_mask_is_refused(tmp_path: Path) -> None:
    far = AFFINE.copy()
    far[0, 3] = 9.0  # its first plane is the mask's fourth
    path = save(tmp_path / "far_dseg.nii.gz", np.ones(GRID.shape, dtype=np.int16), far)
    with pytest.raises(
        DataError, match=r"far_dseg\.nii\.gz: only 40% of the voxels in the mask lie in its field"
    ):
        read_atlas(path, grid=GRID, voxels=ALL)
    assert read_atlas(path, grid=GRID, voxels=np.arange(36, 60))[0].tolist() == [1] * 24


@pytest.mark.parametrize(
    ("name", "space", "refused"),
    [
        ("tpl-MNI152NLin6Asym_res-02_atlas-HOCPA_desc-th25_dseg.nii.gz", "MNI152NLin2009cAsym", True),
        ("sub-01_space-MNI152NLin6Asym_dseg.nii.gz", "T1w", True),
        ("sub-01_space-T1w_dseg.nii.gz", "MNI152NLin2009cAsym", True),
        ("sub-01_space-T1w_dseg.nii.gz", "individual", False),
        ("sub-01_space-MNI152NLin6Asym_dseg.nii.gz", "MNI152NLin6Asym", False),
        ("sub-01_space-MNI152NLin6Asym_dseg.nii.gz", None, False),
        ("regions.nii.gz", "T1w", False),
    ],
)
def test_an_atlas_of_another_space_is_refused_by_name(name: str, space: str | None, refused: bool) -> None:
    if refused:
        with pytest.raises(UsageError, match=f"{name}: it lies in .*, the images in {space}"):
            refuse_other_space(Path("/atlases") / name, space)
    else:
        refuse_other_space(Path("/atlases") / name, space)


def test_the_nearest_dseg_of_a_derivative(tmp_path: Path) -> None:
    func, anat = tmp_path / "p/sub-01/ses-b/func", tmp_path / "p/sub-01/anat"
    name = "sub-01_ses-b_task-x_{}_desc-aparcaseg_dseg.nii.gz".format
    for path in (
        func / name("space-T1w"),
        func / name("run-02_space-T1w"),
        func / name("run-3_space-T1w"),
        func / name("space-MNI152NLin6Asym_res-2"),
        anat / "sub-01_desc-aparcaseg_dseg.nii.gz",
        anat / "sub-01_space-MNI152NLin6Asym_res-1_desc-aparcaseg_dseg.nii.gz",
        anat / "sub-01_desc-aseg_dseg.nii.gz",
        tmp_path / "q/sub-01/anat/sub-01_desc-own_dseg.nii.gz",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    both = (Derivative("q", tmp_path / "q", True), Derivative("p", tmp_path / "p", True))

    def found(desc: str, run: Run) -> str | None:
        path = dseg_of(both, run, desc=desc)
        return None if path is None else path.name

    assert found("aparcaseg", bold_run(session="b")) == name("run-02_space-T1w")
    assert found("aparcaseg", bold_run("MNI152NLin6Asym", session="b", res="2")).endswith(
        "res-2_desc-aparcaseg_dseg.nii.gz"
    )
    # Another resolution of the space lies in anat/ only.
    at_res_1 = found("aparcaseg", bold_run("MNI152NLin6Asym", session="b", res="1"))
    assert at_res_1 == "sub-01_space-MNI152NLin6Asym_res-1_desc-aparcaseg_dseg.nii.gz"
    assert found("aseg", bold_run(session="b")) == "sub-01_desc-aseg_dseg.nii.gz"
    assert found("own", bold_run(session="b")) == "sub-01_desc-own_dseg.nii.gz"
    # Native BOLD is not in the space of the T1w image.
    assert found("aseg", bold_run(None, session="b")) is None
    assert found("aseg", bold_run("MNI152NLin2009cAsym", session="b")) is None
    assert dseg_descs(both, ("01",)) == ("aparcaseg", "aseg", "own")
