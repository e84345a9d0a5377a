from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from clipmused_bids.config import InputOptions
from clipmused_bids.errors import DataError, MissingInputError, UsageError
from clipmused_bids.records import Grid
from clipmused_bids.stages.grids import reference_grid, require_one_grid
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import response_settings
from tests.stages.conftest import World, make_run

SMALL = Grid((3, 4, 5), np.diag([2.0, 2.0, 2.0, 1.0]))
LARGE = Grid((3, 4, 6), np.diag([2.0, 2.0, 2.0, 1.0]))


def save(path: Path, grid: Grid) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(np.zeros((*grid.shape, 2), np.int16), grid.affine).to_filename(path)
    return path


def plan_with(world: World, grids: list[Grid | None], *, space: str | None, **inputs: Any) -> Plan:
    for k, grid in enumerate(grids, start=1):
        image = world.folder / f"sub-{k}_bold.nii.gz"
        if grid is not None:
            save(image, grid)
        run = make_run(str(k), space=space, image=image)
        entities = {**run.entities, **({} if space is None else {"space": space})}
        world.add(replace(run, entities=entities), "ab", np.ones((2, 6)))
    plan = world.plan(common_space=space not in {None, "T1w"})
    return replace(plan, config=replace(plan.config, inputs=InputOptions(**inputs)))


def test_grids_of_a_common_space_must_be_one_before_anything_is_computed(world: World) -> None:
    plan = plan_with(world, [None, SMALL, SMALL, LARGE], space="MNI152NLin2009cAsym")
    # What cannot be opened is reported by the stage that reads it.
    with pytest.raises(
        DataError,
        match=r"sub-4_bold\.nii\.gz: its grid \(shape \(3, 4, 6\), .* is not that of sub-2_bold\.nii\.gz "
        r"\(shape \(3, 4, 5\), .*\n?hint: .*--resample TEMPLATE:res-R",
    ):
        require_one_grid(plan)
    require_one_grid(replace(plan, participants=("1", "2", "3")))


@pytest.mark.parametrize(
    "change",
    [
        {"level": "participant"},
        {"method": "ridge"},
        {"actions": ("prepare",)},
        {"inputs": InputOptions(resample="MNI152NLin2009cAsym:res-2")},
    ],
)
def test_grids_may_differ_where_voxels_are_not_shared_or_are_brought_together(
    world: World, change: dict[str, Any]
) -> None:
    plan = plan_with(world, [SMALL, LARGE], space="MNI152NLin2009cAsym")
    require_one_grid(replace(plan, config=replace(plan.config, **change)))


def test_native_grids_differ(world: World) -> None:
    require_one_grid(plan_with(world, [SMALL, LARGE], space="T1w"))


def test_the_reference_is_the_templates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(world.folder / "tf"))
    folder = world.folder / "tf/tpl-MNI152NLin2009cAsym"
    plan = plan_with(world, [SMALL, LARGE], space="MNI152NLin2009cAsym", resample="MNI152NLin2009cAsym:res-2")
    with pytest.raises(
        MissingInputError, match=r"the grid MNI152NLin2009cAsym:res-2 is not in TemplateFlow's archive"
    ):
        reference_grid(plan)
    save(folder / "tpl-MNI152NLin2009cAsym_res-02_T1w.nii.gz", LARGE)
    found = reference_grid(plan)
    assert found is not None
    assert found.agrees_with(LARGE)
    none = replace(plan, config=replace(plan.config, inputs=InputOptions()))
    assert reference_grid(none) is None
    settings = [response_settings(p, p.runs[0])["resample"] for p in (plan, none)]
    assert settings == ["MNI152NLin2009cAsym:res-2", None]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            None,
            r"is in native space; a grid fits images of its own space only\.\nhint: --space MNI152NLin2009cAsym",
        ),
        ("T1w", r"is in T1w; .*\nhint: --space MNI152NLin2009cAsym"),
        ("MNI152NLin6Asym", r"is in MNI152NLin6Asym; .*\nhint: --resample MNI152NLin6Asym:res-2"),
    ],
)
def test_a_grid_of_another_space_is_refused(world: World, space: str | None, message: str) -> None:
    plan = plan_with(world, [SMALL], space=space, resample="MNI152NLin2009cAsym:res-2")
    with pytest.raises(
        UsageError, match=rf"--resample MNI152NLin2009cAsym:res-2: sub-1 task-x run-1 {message}"
    ):
        reference_grid(plan)


@pytest.mark.parametrize("text", ["MNI152NLin2009cAsym", "MNI152NLin2009cAsym:2", "MNI:res-x", "a/b:res-2"])
def test_a_grid_is_a_template_and_the_number_of_a_resolution(text: str) -> None:
    with pytest.raises(UsageError, match=f"--resample {text}: expected a template"):
        InputOptions(resample=text)
    assert InputOptions(resample="MNIInfant:cohort-2:res-1").resample is not None
