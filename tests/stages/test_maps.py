"""Maps through the stages: stored with their reliability, reused, and of the right decoder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from clipmused_bids.dataset.outputs.map_files import read_map_table
from clipmused_bids.errors import DataError
from clipmused_bids.responses.regions import grid_regions
from clipmused_bids.stages.assemble import open_responses
from clipmused_bids.stages.carry_out import Job
from clipmused_bids.stages.decoder_choice import decoder_of
from clipmused_bids.stages.failures import Failures, MethodFailures
from clipmused_bids.stages.maps import make_maps
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import predict
from clipmused_bids.stages.reporting.maps import maps_of_participant
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.train import train_group
from tests.stages.conftest import GRID, World, make_catalogue, make_run

NAMES = [f"s{k:02d}" for k in range(60)]
CATALOGUE = make_catalogue({name: [k % 2, (k // 2) % 2] for k, name in enumerate(NAMES)})
TRUTH = CATALOGUE.labels_of(NAMES)
SETS = {name: "train" if k < 32 else "val" if k < 36 else "test" for k, name in enumerate(NAMES)}
BOX = grid_regions(np.ones(GRID.shape, dtype=bool), n_regions=6, voxel_size=(2.0, 2.0, 2.5))
FUNC = Path("sub-01", "func")


@pytest.fixture
def study(world: World) -> World:
    """Labels speak in the ten voxels of the third of six boxes alone; the others are noise."""
    rng = np.random.default_rng(4)
    for participant in ("01", "02"):
        values = rng.normal(size=(60, 60))
        values[:, BOX == 2] += 0.9 * TRUTH @ np.repeat([[1.0, -1], [1, 1]], 5, axis=1)
        world.add(make_run(participant), NAMES, values)
    return world


def job_of(study: World, method: str = "ridge", maps: Mapping[str, Any] | None = None) -> Job:
    plan = study.plan(
        method=method, model_label="m", hyperparameters={"maps": {"regions": 6, **(maps or {})}}
    )
    split = study.split(SETS)
    failures = Failures()
    return Job(plan, study.tree, CATALOGUE, split, None, "cpu", failures, MethodFailures(alone=True))


def train(job: Job, method: str = "ridge") -> None:
    train_group(
        job.plan, job.tree, CATALOGUE, job.split, method=method, model_label="m", maker=None, device="cpu"  # type: ignore[arg-type]
    )  # fmt: skip


def text_of(section: Any) -> str:
    return " ".join(str(getattr(block, "text", getattr(block, "caption", ""))) for block in section.blocks)


def test_the_planted_voxels_are_what_the_decoder_needs(study: World) -> None:
    job = job_of(study)
    train(job)
    make_maps(job)
    table, about = read_map_table(study.tree.root / FUNC / "sub-01_desc-mOcclusion_metrics.tsv")
    regions = np.asarray(
        nibabel.load(study.tree.root / FUNC / "sub-01_desc-mRegions_statmap.nii.gz").dataobj
    ).ravel()
    drops = np.asarray(
        nibabel.load(study.tree.root / FUNC / "sub-01_desc-mOcclusion_statmap.nii.gz").dataobj
    ).ravel()
    labels = np.asarray(
        nibabel.load(study.tree.root / FUNC / "sub-01_desc-mOcclusionLabels_statmap.nii.gz").dataobj
    )
    assert len(table.names) == 6
    assert np.bincount(regions)[1:].tolist() == table.n_voxels.tolist()
    np.testing.assert_allclose(drops, table.drop[regions - 1], rtol=1e-6)
    np.testing.assert_allclose(labels.reshape(60, 2), table.of_label[regions - 1], rtol=1e-6)
    assert (regions - 1).tolist() == BOX.tolist()
    assert np.flatnonzero(table.drop > 0.1).tolist() == [2]
    sidecar = json.loads((study.tree.root / FUNC / "sub-01_desc-mOcclusion_statmap.json").read_text())
    assert sidecar["SplitHalfReliability"] > 0.8
    assert abs(sidecar["RandomisedWeightsCorrelation"]) < 0.8
    assert len(sidecar["RandomisedWeightsCorrelations"]) == 3
    person = open_responses(study.tree, "01", job.plan.runs_of("01"), kind="lss")
    probabilities = predict(decoder_of(study.tree, "01", model_label="m"), person)[36:]
    scores = [average_precision_score(y, p) for y, p in zip(TRUTH[36:].T, probabilities.T, strict=True)]
    assert sidecar["IntactMeanAveragePrecision"] == pytest.approx(np.mean(scores))
    assert about["NumberOfTrials"] == about["NumberOfTestTrials"] == 24
    assert "bids::models/m/sub-01_model.safetensors" in sidecar["Sources"]
    assert "desc-mOcclusion\t" in (study.tree.root / "descriptions.tsv").read_text()


def test_maps_are_made_once_and_again_when_something_changed(
    study: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    job = job_of(study)
    train(job)
    image = study.tree.root / FUNC / "sub-01_desc-mOcclusion_statmap.nii.gz"

    def made(again: Job) -> str:
        caplog.clear()
        make_maps(again)
        return caplog.text

    assert "of 2 participant(s) made, of 0 reused" in made(job)
    assert "of 0 participant(s) made, of 2 reused" in made(job)
    whole = image.read_bytes()
    image.write_bytes(whole[:-9])
    assert "of 1 participant(s) made, of 1 reused" in made(job)
    assert image.read_bytes() == whole
    other = make_catalogue({name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)})
    assert "of 2 participant(s) made, of 0 reused" in made(replace(job, catalogue=other))
    fewer = job_of(study, maps={"trials": 10})
    assert "of 2 participant(s) made, of 0 reused" in made(fewer)
    assert (
        json.loads(image.with_name("sub-01_desc-mOcclusion_statmap.json").read_text())["NumberOfTrials"] == 10
    )


def test_what_makes_no_map_is_said_and_others_go_on(study: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = job_of(study)
    train(job)
    tested = ["none" if key == "sub-01_task-x_run-1" and s == "test" else s
              for key, s in zip(job.split.run_key, job.split.set_name, strict=True)]  # type: ignore[union-attr]  # fmt: skip
    without = replace(job, split=replace(job.split, set_name=tuple(tested)))  # type: ignore[type-var,arg-type]
    make_maps(without)
    assert "sub-01: no map by m: no labelled test trial was decoded" in caplog.text
    assert "of 1 participant(s) made" in caplog.text
    assert not (study.tree.root / FUNC / "sub-01_desc-mOcclusion_statmap.nii.gz").exists()
    caplog.clear()
    make_maps(job_of(study, maps={"enabled": False}))
    assert "maps.enabled is false" in caplog.text


def test_what_a_processor_takes_too_long_for_is_not_begun(
    study: World, caplog: pytest.LogCaptureFixture
) -> None:
    """60 voxels x 2 labels x 2 operations, for 24 trials, 6 regions and the whole, by the decoder and 3 draws."""
    needed = 60 * 2 * 2 * 24 * 7 * 4
    just, short = ({"processor_operations": float(needed + more)} for more in (0, -1))
    train(job_of(study, maps=short))
    make_maps(job_of(study, maps=short))
    assert "sub-01: regions are not knocked out: 1.6e+05 operations" in caplog.text
    path = study.tree.root / FUNC / "sub-01_desc-mOcclusion_statmap.nii.gz"
    assert not path.exists()
    page = maps_of_participant(view_of(job_of(study)), "01")
    assert "No maps are stored" in text_of(page)
    make_maps(job_of(study, maps=just))
    assert path.exists()


def test_a_participant_that_fails_does_not_stop_the_others(study: World) -> None:
    job = job_of(study)
    train(job)
    study.tree.responses(make_run("01"), kind="lss").write_bytes(b"broken")
    make_maps(job)
    assert list(job.failures.errors) == ["01"]
    assert isinstance(job.failures.errors["01"], DataError)
    assert (study.tree.root / "sub-02" / "func" / "sub-02_desc-mOcclusion_statmap.nii.gz").exists()


def view_of(job: Job, plan: Plan | None = None) -> ReportView:
    return ReportView(plan or job.plan, job.tree, job.catalogue, job.split, {})


def test_the_page_shows_maps_with_their_reliability(study: World) -> None:
    job = job_of(study)
    assert maps_of_participant(view_of(job), "01") is None
    train(job)
    missing = maps_of_participant(view_of(job), "01")
    assert "No maps are stored" in text_of(missing)
    make_maps(job)
    section = maps_of_participant(view_of(job), "01")
    assert section is not None
    assert section.anchor == "maps"
    text = text_of(section)
    assert "6 regions are knocked out one by one" in text
    assert "It repeats itself in the other half of the test stimuli (split-half reliability" in text
    assert "random ranking: 0.5" in text
    figure = study.tree.figures("01") / "sub-01_desc-m_occlusion.png"
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert figure.stat().st_size < 150_000


def test_the_page_does_not_show_maps_of_an_earlier_decoder(study: World) -> None:
    job = job_of(study)
    train(job)
    make_maps(job)
    path = study.tree.root / FUNC / "sub-01_desc-mOcclusion_statmap.json"
    path.write_text(path.read_text().replace('"WeightsHash": "', '"WeightsHash": "0'))
    assert "of an earlier decoder" in text_of(maps_of_participant(view_of(job), "01"))
