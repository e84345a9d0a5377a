from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from clipmused_bids.dataset.images.series import read_bold
from clipmused_bids.errors import DataError
from clipmused_bids.records import BetaRows, Grid, Run, RunResponses, Trials
from clipmused_bids.stages.betas import (
    betas_settings,
    responses_of_image,
    responses_of_manifest,
    stated_unit,
    with_trial_table,
)
from tests.stages.conftest import make_run, make_trials

SHAPE = (3, 4, 2)
GRID = Grid(SHAPE, np.eye(4))
MASK = np.arange(24).reshape(SHAPE) % 3 == 0
VALUES = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "sub-01_task-x_run-1_desc-lss_statmap.nii.gz"
    nibabel.Nifti1Image(np.moveaxis(VALUES, 0, 3), np.eye(4)).to_filename(path)
    return make_run(image=path, image_kind="betas", sources={"image": f"bids:d:sub-01/func/{path.name}"})


def table(run: Run, text: str) -> Run:
    assert run.image is not None
    run.image.with_name("sub-01_task-x_run-1_desc-lss_trials.tsv").write_text(text)
    return with_trial_table(run)


def responses_of(run: Run, trials: Trials) -> RunResponses:
    return responses_of_image(run, read_bold(run, MASK, GRID), trials)


def test_without_a_table_volumes_are_trials_in_order(run: Run) -> None:
    assert with_trial_table(run) == run
    found = responses_of(run, make_trials("abc"))
    np.testing.assert_array_equal(found.values, VALUES[:, MASK])
    with pytest.raises(DataError, match="run-1: 3 volumes of responses for 4 trials") as error:
        responses_of(run, make_trials("abcd"))
    assert "_trials.tsv" in str(error.value.hint)


def test_a_table_joins_and_what_is_left_is_said(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    joined = table(run, "onset\n12\n99\n0\n")
    assert joined.sources["trial_table"] == "bids:d:sub-01/func/sub-01_task-x_run-1_desc-lss_trials.tsv"
    with caplog.at_level(logging.WARNING):
        found = responses_of(joined, make_trials("abcd"))
    np.testing.assert_array_equal(found.values, VALUES[[2, 0]][:, MASK])
    assert found.kept.tolist() == [0, 3]
    assert found.dropped == {"without a volume": 2}
    assert "run-1: 1 of 3 volumes have no event, 2 of 4 trials have no volume" in caplog.text
    with pytest.raises(DataError, match=r"sub-01 task-x run-1: .*has 1 rows for 3 volumes"):
        responses_of(table(run, "onset\n0\n"), make_trials("abc"))


def test_the_sidecar_states_unit_and_scale(run: Run) -> None:
    assert stated_unit(run) == ("arbitrary", 1.0)
    scaled = make_run(
        image=run.image, image_kind="betas", metadata={"Scale": 300, "Units": "percent signal change"}
    )
    found = responses_of(scaled, make_trials("abc"))
    assert found.unit == "percent signal change"
    np.testing.assert_allclose(found.values, VALUES[:, MASK] / 300, rtol=1e-6)
    for bad in (0, -1, "300", True, float("inf")):
        with pytest.raises(DataError, match=r"Scale .* in the sidecar"):
            stated_unit(make_run(metadata={"Scale": bad}))


def test_settings_of_an_image_follow_its_sidecar_and_table(run: Run) -> None:
    plain = betas_settings(run)
    joined = betas_settings(table(run, "onset\n0\n4\n8\n"))
    moved = betas_settings(table(run, "onset\n0\n4\n9\n"))
    scaled = betas_settings(make_run(image=run.image, metadata={"Scale": 300}))
    assert len({str(each) for each in (plain, joined, moved, scaled)}) == 4


def manifest_run(path: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {
        "dataset": None, "axes": None, "index": (2, 0), "trial": (0, 1), "scale": (300.0, 300.0), "line": (1, 2),
    }  # fmt: skip
    return make_run(image_kind="betas", betas=(BetaRows(path=path, **(options | changes)),))


def test_settings_of_a_manifest_change_with_its_rows_not_with_their_place(tmp_path: Path) -> None:
    base = betas_settings(manifest_run(tmp_path / "x.npy"))
    assert betas_settings(manifest_run(tmp_path / "elsewhere" / "x.npy", line=(8, 9))) == base
    for change in (
        {"index": (0, 2)},
        {"trial": (1, 0)},
        {"scale": (300.0, 1.0)},
        {"axes": "nzyx"},
        {"dataset": "/b"},
    ):
        assert betas_settings(manifest_run(tmp_path / "x.npy", **change)) != base
    assert betas_settings(manifest_run(tmp_path / "y.npy")) != base
    assert str(tmp_path) not in str(base)


def test_voxels_without_signal_are_told_run_by_run(tmp_path: Path) -> None:
    values = VALUES[:, MASK].copy()
    values[:, 1] = 5
    np.save(tmp_path / "x.npy", values)
    ((_, found),) = responses_of_manifest([manifest_run(tmp_path / "x.npy")], grid=GRID, mask=MASK)
    assert (found.kind, found.unit, found.kept.tolist()) == ("betas", "arbitrary", [0, 1])
    assert np.flatnonzero(~found.valid).tolist() == [1]
    expected = values[[2, 0]] / np.float32(300)
    expected[:, 1] = 0
    np.testing.assert_array_equal(found.values, expected)
    values[0] = np.nan
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(DataError, match=r"x\.npy: 100\.0% of the voxels"):
        list(responses_of_manifest([manifest_run(tmp_path / "x.npy")], grid=GRID, mask=MASK))


def test_all_files_are_looked_at_before_one_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES[:, MASK])
    good, bad = manifest_run(tmp_path / "x.npy"), manifest_run(tmp_path / "x.npy", index=(1, 3))
    with pytest.raises(DataError, match="--betas row 2: index 3"):
        next(responses_of_manifest([good, bad], grid=GRID, mask=MASK))
