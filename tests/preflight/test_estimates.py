from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clipmused_bids.config import InputOptions
from clipmused_bids.dataset.images.headers import SeriesHeader
from clipmused_bids.errors import DataError
from clipmused_bids.preflight.decoder_size import ATLAS_REGIONS, decoder_size
from clipmused_bids.preflight.durations import seconds
from clipmused_bids.preflight.estimates import (
    Estimate,
    Work,
    disk,
    gpu_memory,
    kept_states,
    memory,
    total,
)
from clipmused_bids.preflight.run_sizes import ParticipantSize, RunSize, shared_voxels
from clipmused_bids.stages import rates
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.rates import usable_cores
from clipmused_bids.targets.shapes import ClipShape
from tests.stages.conftest import GRID, World, make_run

VIT_B_16 = ClipShape(196, 768, 512, 150_000_000, 35_000_000_000)


def plan_of(world: World, **options: Any) -> Plan:
    for participant in ("01", "02"):
        for number in (1, 2):
            world.add(make_run(participant, number), "ab", np.eye(2))
    return world.plan(**options)


def work_of(plan: Plan, *, n_scans: int = 100, stored: bool = False, **options: Any) -> Work:
    """Two people with two runs of two trials each; 40 and 30 voxels, of which 30 are common."""
    sizes = tuple(
        ParticipantSize(
            participant=participant,
            runs=tuple(
                RunSize(run, 2, SeriesHeader(GRID, n_scans, 2), stored) for run in plan.runs_of(participant)
            ),
            grid=GRID,
            voxels=np.arange(first, first + n),
            mask="derivative",
        )
        for participant, first, n in (("01", 0, 40), ("02", 10, 30))
    )
    values: dict[str, Any] = {
        "plan": plan, "sizes": sizes, "n_labels": 3, "n_pictures": 0, "n_sentences": 0, "n_stimuli": 2,
        "n_training": 6, "clip": None,
    }  # fmt: skip
    return Work(**{**values, **options})


def by_name(lines: tuple[Estimate, ...]) -> Mapping[str, float]:
    return {line.what: line.amount for line in lines}


def test_features_of_a_large_dataset(world: World) -> None:
    """73,000 images of 196 x 768 numbers are 22 GB in float16; beyond 2 GB a projection to 4096 is kept instead."""
    work = work_of(plan_of(world), n_pictures=73_000, clip=VIT_B_16)
    assert work.n_low == 4096
    assert by_name(disk(work))["CLIP features"] == pytest.approx(73_000 * (4096 * 2 + 512 * 4 + 300))
    work = replace(work, plan=world.plan(hyperparameters={"targets": {"low": "flat"}}))
    assert by_name(disk(work))["CLIP features"] == pytest.approx(22e9, rel=0.02)
    assert replace(work, plan=world.plan(), n_pictures=1000).n_low == 196 * 768


def test_responses_on_disk(world: World) -> None:
    work = work_of(plan_of(world))
    # Values, nine bytes for each voxel of a run (place and validity), a row of a table for each trial, a description.
    values = 4 * (4 * 40 + 4 * 30) + 9 * 2 * (40 + 30)
    assert by_name(disk(work))["responses"] == values + 8 * 80 + 4 * 2500
    half = replace(work, plan=world.plan(hyperparameters={"responses": {"storage": "float16"}}))
    values = 2 * (4 * 40 + 4 * 30) + 13 * 2 * (40 + 30)
    assert by_name(disk(half))["responses"] == values + 8 * 80 + 4 * 2500


@pytest.mark.parametrize(
    ("method", "common", "n_bytes"),
    [
        # Places and regions (16 bytes a voxel), mean and SD (8) for each of two runs, weights (8) of three labels.
        ("ridge", True, (40 + 30) * (16 + 8 * 2 + 8 * 3)),
        ("prevalence", True, (40 + 30) * (16 + 8 * 2)),
        ("ridge-pooled", True, 30 * (16 + 2 * 8 * 2 + 8 * 3)),
        ("ridge-pooled", False, (40 + 30) * (16 + 8 * 2 + 8 * 3)),
        ("ridge-stack", True, 30 * (16 + 2 * 8 * 2 + 8 * 3)),
        ("ridge-stack", False, (40 + 30) * (16 + 8 * 2 + 8 * 3)),
        ("logistic", True, (40 + 30) * (16 + 8 * 2 + 8 * 3)),
        # At most 100 shared features and a mean for each voxel.
        ("srm", False, (40 + 30) * (16 + 8 * 2 + 8 * 101)),
    ],
)
def test_decoders_on_disk(world: World, method: str, common: bool, n_bytes: int) -> None:
    plan = plan_of(world, common_space=common, method=method)
    assert by_name(disk(work_of(plan)))["decoders"] == n_bytes + 15_000


def test_memory(world: World) -> None:
    """3.5 times the largest run in float32 while responses are estimated, at most what --mem allows."""
    work = work_of(plan_of(world), n_scans=10_000_000)
    series = 4.0 * 10_000_000 * 40
    assert by_name(memory(work))["responses"] == 1e9 + 3.5 * series
    limited = replace(work, plan=replace(work.plan, config=replace(work.plan.config, memory=2**30)))
    assert by_name(memory(limited))["responses"] == 1e9 + 2**30
    assert "responses" not in by_name(memory(work_of(work.plan, stored=True)))


def test_time_of_what_is_not_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """25 s for each GB of unpacked image; 4 runs of 60 voxels x 2 bytes."""
    work = work_of(replace(plan_of(world)), n_scans=10_000_000, n_training=None)
    assert by_name(seconds(work))["responses"] == pytest.approx(25 * 4 * 60 * 2 * 0.01 + 0.4)
    assert by_name(seconds(work_of(work.plan, stored=True)))["responses"] == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pictures = work_of(work.plan, n_pictures=100, clip=VIT_B_16, n_training=None)
    assert by_name(seconds(pictures))["CLIP features"] == pytest.approx(100 * (35e9 / 5e10 + 0.005))


@pytest.mark.parametrize(
    ("method", "n_ridges"),
    [
        # Of 3,000 trials of each of two people, or of all 6,000 together: pairs of trials, times the measured factor.
        ("ridge", 2 * 3000**2),
        ("ridge-pooled", 6000**2),
        ("ridge-stack", 2 * 6000**2),
        # Three labels; at most 2,000 features are read.
        ("logistic", 0.7 * 3 * 2 * 3000 * 2000),
        ("srm", 1.3 * 3 * 2 * 3000 * 2000),
        ("prevalence", 0),
    ],
)
def test_time_of_linear_fits(world: World, method: str, n_ridges: float) -> None:
    work = work_of(plan_of(world, method=method), n_training=6000)
    assert by_name(seconds(work))["training"] == pytest.approx(1e-9 * 40 * n_ridges)
    folds = replace(work, n_parts=6)
    assert by_name(seconds(folds))["training"] == pytest.approx(6 * 1e-9 * 40 * n_ridges)


def test_cores_are_those_the_libraries_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates.os, "sched_getaffinity", lambda _: set(range(8)))
    for threads, cores in (("", 8), ("2", 2), ("64", 8), ("0", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert usable_cores() == cores


def test_gpu_memory_of_a_decoder(world: World) -> None:
    """Weights, gradients and moments are 16 bytes a parameter; mixed precision halves what the forward pass keeps."""
    plan = plan_of(world, method="clip-mused")
    decoder = decoder_size(plan, work_of(plan).sizes, label_names="abc")
    assert decoder.state_bytes == 16 * decoder.n_parameters
    assert decoder.own == 2 * 2 * plan.hyperparameters.model.width
    work = work_of(plan, decoders={"clip-mused": decoder})
    full = by_name(gpu_memory(work))["training"]
    half = replace(work, plan=world.plan(hyperparameters={"training": {"precision": "bf16-mixed"}}))
    assert full - by_name(gpu_memory(half))["training"] == pytest.approx(decoder.activation_bytes / 2)


@pytest.mark.parametrize(
    ("method", "common", "patches", "own", "n_decoders"),
    [
        ("clip-mused", True, "roi", 2 * 2 * 64, 1),
        ("ms-emb", True, "roi", 2 * 64, 1),
        ("ms-smodel-vit", True, "roi", 0, 1),
        ("ms-smodel-mlp", True, "voxels", 0, 1),
        ("ms-smodel-mlp", False, "features", (40 + 30) * 32, 1),
        ("ss-mlp", False, "voxels", 0, 2),
        ("ss-vit", True, "roi", 0, 2),
    ],
)
def test_sizes_of_every_deep_method(
    world: World, method: str, common: bool, patches: str, own: int, n_decoders: int
) -> None:
    plan = plan_of(world, method=method, common_space=common, hyperparameters={"model": {"width": 64}})
    size = decoder_size(plan, work_of(plan).sizes, label_names="abc")
    assert (size.patches, size.own, size.n_decoders) == (patches, own, n_decoders)
    work = work_of(plan, decoders={method: size})
    n_seeds = plan.hyperparameters.training.n_seeds
    weights = by_name(disk(work))["decoders"] - by_name(disk(work_of(plan)))["decoders"]
    assert weights == 4 * size.n_parameters * n_decoders * n_seeds
    refits = 2 if plan.hyperparameters.fit_on == "train+validation" else 1
    kept = by_name(kept_states(work))["training state"]
    assert kept == size.n_parameters * (2 * 5 * 4 + (n_seeds * refits - 1) * 2 * 4)
    assert kept_states(work_of(plan)) == ()
    assert by_name(seconds(work))["training"] > by_name(seconds(work_of(plan)))["training"]
    assert by_name(gpu_memory(work))["training"] > size.state_bytes


def test_the_perceptron_of_a_participant_is_that_of_the_largest(world: World) -> None:
    """Weights by hand: 40 voxels to W, bias and norm, then three labels."""
    options = {"hidden_width": 16, "hidden_layers": 1}
    plan = plan_of(world, method="ss-mlp", common_space=False, hyperparameters={"model": options})
    size = decoder_size(plan, work_of(plan).sizes, label_names="abc")
    assert size.n_parameters == 40 * 16 + 16 + 2 * 16 + 16 * 3 + 3


def test_patches_follow_from_space_and_atlas(world: World) -> None:
    def patches(**options: Any) -> tuple[str, int]:
        plan = world.plan(method="clip-mused", **options)
        size = decoder_size(plan, work_of(plan).sizes, label_names="abc")
        return size.patches, size.n_patches

    plan = plan_of(world)
    assert patches() == ("roi", 30)
    assert patches(hyperparameters={"model": {"n_regions": 7}}) == ("roi", 7)
    assert patches(common_space=False) == ("aligned", plan.hyperparameters.model.n_patches)
    assert patches(hyperparameters={"model": {"patches": "cnn"}})[0] == "cnn"
    # The atlas itself is not read; with more regions than voxels, each voxel is one.
    atlas = InputOptions(atlas="/no/such/atlas.nii.gz")
    assert patches(inputs=atlas, hyperparameters={"model": {"n_regions": 7}}) == (
        "roi",
        min(ATLAS_REGIONS, 30),
    )
    assert patches(inputs=atlas, common_space=False) == ("own-roi", 30)


def test_voxels_of_all(world: World) -> None:
    first, second = work_of(plan_of(world)).sizes
    np.testing.assert_array_equal(shared_voxels([first, second]), np.arange(10, 40))
    moved = replace(second, grid=replace(GRID, affine=GRID.affine * 1.1))
    with pytest.raises(DataError, match="sub-01 and sub-02: grids differ"):
        shared_voxels([first, moved])
    with pytest.raises(DataError, match="no voxel"):
        shared_voxels([first, replace(second, voxels=np.array([55]))])


def test_total() -> None:
    assert total([Estimate("a", 1.5, ""), Estimate("b", 2.0, "")]) == 3.5
