"""Which regions are used: what is asked for, and the default of each space."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from clipmused_bids.config import InputOptions
from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.errors import MissingInputError, UsageError
from clipmused_bids.stages.atlas import atlas_hash, choose_atlas
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.regions import voxel_spaces
from tests.stages.conftest import GRID, World, make_run
from tests.stages.test_regions import two_people, write_atlas

SCHAEFER = "Schaefer2018:desc-400Parcels7Networks"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "tf"))
    return tmp_path / "tf"


def add_schaefer(home: Path, template: str = "MNI152NLin2009cAsym") -> None:
    """The atlas on the grid of the responses, and coarser; regions of other voxels tell the two apart."""
    folder = home / f"tpl-{template}"
    folder.mkdir(parents=True)
    name = f"tpl-{template}_res-{{}}_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
    write_atlas(folder / name.format("02"), {0: 1, 1: 1, 2: 2, 3: 2, 10: 3})
    coarse = nibabel.Nifti1Image(np.full((2, 2, 3), 4, np.int16), np.diag([5.0, 5, 5, 1]))
    coarse.to_filename(folder / name.format("01"))
    table = name.replace("_res-{}", "").replace(".nii.gz", ".tsv")
    (folder / table).write_text("index\tname\n1\tLH_Vis_1\n2\tLH_Vis_2\n3\tRH_Vis_1\n4\tcoarse\n")


def plan_in(
    world: World, space: str | None, *, atlas: str | None = None, cohort: str | None = None, **options: Any
) -> Plan:
    entities: dict[str, str] = {} if cohort is None else {"cohort": cohort}
    for participant in ("01", "02"):
        run = make_run(participant, space=space)
        named = {**run.entities, **entities, **({} if space is None else {"space": space})}
        world.add(replace(run, entities=named), "ab", np.ones((2, 6)))
    common = options.pop("common_space", space is not None and space != "T1w")
    derivatives = options.pop("derivatives", ())
    plan = world.plan(common_space=common, **options)
    return replace(
        plan, derivatives=derivatives, config=replace(plan.config, inputs=InputOptions(atlas=atlas))
    )


def add_dsegs(
    folder: Path, participants: Sequence[str], *, space: str | None = "T1w"
) -> tuple[Derivative, ...]:
    for participant in participants:
        named = "" if space is None else f"_space-{space}"
        path = (
            folder
            / f"sub-{participant}/func/sub-{participant}_task-x_run-1{named}_desc-aparcaseg_dseg.nii.gz"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atlas(path, {0: 1011, 1: 1011, 2: 2011, 3: 2011, 10: 17 if participant == "01" else 18})
    (folder / "desc-aparcaseg_dseg.tsv").write_text(
        'index\tname\n17\t"Left-Hippocampus"\n18\tLeft-Amygdala\n1011\tctx-lh-lateraloccipital\n2011\tctx-rh-lateraloccipital\n'
    )
    return (Derivative("p", folder, True),)


def test_schaefer_is_the_default_in_a_templates_space(
    world: World, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_schaefer(home)
    plan = plan_in(world, "MNI152NLin2009cAsym")
    atlas = choose_atlas(plan)
    assert (atlas.kind, atlas.label) == ("images", SCHAEFER)
    assert atlas_hash(atlas, plan.participants) is None
    with caplog.at_level(logging.INFO):
        first, second = voxel_spaces(two_people(common_space=True), choose_atlas(plan))
    # The resolution of the responses' grid, with the names of the table.
    assert first.region_names == ("LH_Vis_1", "LH_Vis_2", "RH_Vis_1")
    assert first.region.tolist() == second.region.tolist() == [0, 0, 1, 1, 2, -1]
    assert f"Regions: atlas {SCHAEFER} of MNI152NLin2009cAsym, the default where" in caplog.text
    asked = replace(plan, config=replace(plan.config, inputs=InputOptions(atlas="Schaefer2018")))
    assert choose_atlas(asked).label == atlas.label, "asking for the default is no other configuration"


def test_without_the_archive_clusters_are_used_and_the_log_says_how_to_fetch(
    world: World, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_in(world, "MNI152NLin6Asym")
    add_schaefer(home, "MNI152NLin2009cAsym")  # of another template
    atlas = choose_atlas(plan)
    assert (atlas.kind, atlas.label) == ("clusters", "clusters:32")
    with caplog.at_level(logging.INFO):
        data = two_people(common_space=True)
        assert voxel_spaces(data, choose_atlas(plan)) is data.spaces
    assert "Regions: clusters:32, since TemplateFlow's archive on this machine has no" in caplog.text
    assert "templateflow get MNI152NLin6Asym --atlas Schaefer2018 --desc 400Parcels7Networks" in caplog.text


@pytest.mark.parametrize("patches", ["cnn", "aligned"])
def test_patches_that_use_no_regions_get_none_by_default(world: World, home: Path, patches: str) -> None:
    add_schaefer(home)
    plan = plan_in(world, "MNI152NLin2009cAsym", hyperparameters={"model": {"patches": patches}})
    assert (choose_atlas(plan).kind, choose_atlas(plan).label) == ("none", None)


def test_images_that_are_only_called_common_have_no_template(world: World, home: Path) -> None:
    add_schaefer(home)
    assert choose_atlas(plan_in(world, "T1w", common_space=True)).label == "clusters:32"


def test_a_cohort_is_part_of_the_template(world: World, home: Path) -> None:
    plan = plan_in(world, "MNIPediatricAsym", cohort="2", atlas="Schaefer2018")
    with pytest.raises(MissingInputError, match="of MNIPediatricAsym:cohort-2 is not in") as caught:
        choose_atlas(plan)
    assert "templateflow get MNIPediatricAsym --cohort 2 --atlas Schaefer2018" in (caught.value.hint or "")


def test_aparcaseg_is_the_default_in_native_space_where_everyone_has_it(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_in(world, "T1w", derivatives=add_dsegs(tmp_path / "p", ("01", "02")))
    atlas = choose_atlas(plan)
    assert (atlas.kind, atlas.label) == ("images", "aparcaseg")
    with caplog.at_level(logging.INFO):
        first, second = voxel_spaces(two_people(), choose_atlas(plan))
    assert first.region_names == ("ctx-lh-lateraloccipital", "ctx-rh-lateraloccipital")
    assert first.region.tolist() == [0, 0, 1, 1, -1, -1]
    assert second.region.tolist() == [0, 1, 1, -1, -1, -1]
    assert "Regions: desc-aparcaseg_dseg of the derivative, the default in native space" in caplog.text
    one = atlas.images["01"][0].read_bytes(), atlas.images["02"][0].read_bytes()
    digests = "".join(hashlib.sha256(content).hexdigest() for content in one)
    assert atlas_hash(atlas, ("01", "02")) == hashlib.sha256(digests.encode()).hexdigest()
    assert atlas_hash(atlas, ("02", "01")) != atlas_hash(atlas, ("01", "02"))


def test_someone_without_aparcaseg_leaves_native_space_without_regions(world: World, tmp_path: Path) -> None:
    plan = plan_in(world, "T1w", derivatives=add_dsegs(tmp_path / "p", ("01",)))
    atlas = choose_atlas(plan)
    assert (atlas.kind, atlas.label) == ("none", None)
    assert atlas.why == "none (native space, and no desc-aparcaseg_dseg of sub-02)"
    asked = replace(plan, config=replace(plan.config, inputs=InputOptions(atlas="aparcaseg")))
    with pytest.raises(
        MissingInputError, match="--atlas aparcaseg: no desc-aparcaseg_dseg image in T1w of sub-02"
    ):
        choose_atlas(asked)


def test_a_dseg_of_another_space_is_none_of_this_one(world: World, tmp_path: Path) -> None:
    plan = plan_in(
        world, "T1w", derivatives=add_dsegs(tmp_path / "p", ("01", "02"), space="MNI152NLin2009cAsym")
    )
    assert choose_atlas(plan).kind == "none"


@pytest.mark.parametrize(
    ("space", "atlas", "message"),
    [
        ("T1w", "Schaefer2018", r"has desc-Schaefer2018_dseg images \(there are aparcaseg\), .* images in T1w"),
        (None, "HOCPA", "does not fit images in native space"),
        ("MNI152NLin2009cAsym", "Schaefer2018:tpl-MNI152NLin6Asym",
         "the images are in MNI152NLin2009cAsym; an atlas of MNI152NLin6Asym does not fit them"),
        ("MNI152NLin2009cAsym", "/t/tpl-MNI152NLin6Asym_res-02_atlas-HOCPA_dseg.nii.gz",
         "it lies in MNI152NLin6Asym, the images in MNI152NLin2009cAsym"),
    ],
)  # fmt: skip
def test_atlases_of_another_space_are_refused(
    world: World, home: Path, tmp_path: Path, space: str | None, atlas: str, message: str
) -> None:
    add_schaefer(home)
    plan = plan_in(world, space, atlas=atlas, derivatives=add_dsegs(tmp_path / "p", ("01", "02")))
    with pytest.raises(UsageError, match=message):
        choose_atlas(plan)


def test_files_are_named_without_their_folder_and_compared_by_content(world: World, tmp_path: Path) -> None:
    for participant in ("01", "02"):
        write_atlas(tmp_path / f"sub-{participant}_dseg.nii.gz", {0: 1, 1: 2})
    plan = plan_in(world, "T1w", atlas=str(tmp_path / "sub-{participant}_dseg.nii.gz"))
    atlas = choose_atlas(plan)
    assert atlas.label == "sub-{participant}_dseg.nii.gz"
    before = atlas_hash(atlas, plan.participants)
    write_atlas(tmp_path / "sub-02_dseg.nii.gz", {0: 2, 1: 1})
    assert atlas_hash(atlas, plan.participants) != before
    (tmp_path / "sub-02_dseg.nii.gz").unlink()
    with pytest.raises(MissingInputError, match=r"sub-02_dseg\.nii\.gz"):
        choose_atlas(plan)


def test_the_grid_of_the_world_is_the_atlases(home: Path) -> None:
    add_schaefer(home)
    (path,) = home.rglob("*res-02*")
    assert nibabel.load(path).shape == GRID.shape
