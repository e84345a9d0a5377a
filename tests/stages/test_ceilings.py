from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.records import Split
from clipmused_bids.stages.ceilings import measure_ceilings
from clipmused_bids.stages.failures import Failures
from tests.stages.conftest import GRID, World, make_run

SHARE = np.repeat([0.0, 1 / 3, 0.8], 20)


def repeated_world(folder: Path, *, held_scale: float = 1.0, space: str | None = None) -> tuple[World, Split]:
    """`sub-01` saw 50 stimuli twice, 20 of them in the test set; `sub-02` saw nothing twice."""
    world, rng = World(folder), np.random.default_rng(0)
    names = [f"s{k % 50:02d}" for k in range(100)]
    noise = np.sqrt(np.divide(1 - SHARE, SHARE, out=np.ones(60), where=SHARE > 0))
    signal = np.where(SHARE > 0, rng.normal(size=(50, 60)), 0)
    values = np.tile(signal, (2, 1)) + noise * rng.normal(size=(100, 60))
    held = np.array(names) >= "s30"
    values[held] = held_scale * rng.normal(size=(40, 60))
    changes = {} if space is None else {"space": space}
    for number in (1, 2):
        run = make_run("01", number, **changes)
        if space is not None:
            run.entities["space"] = space  # type: ignore[index]
        rows = slice(50 * number - 50, 50 * number)
        world.add(run, names[rows], values[rows])
    world.add(make_run("02"), [f"x{k}" for k in range(100)], values)
    known = {name for trials in world.trials.values() for name in trials.stimulus_id}
    return world, world.split({name: "test" if "s30" <= name < "t" else "train" for name in known})


def test_ceilings_are_told_from_repeats_of_training_stimuli_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the test trials hold; the map, the table and what is returned say the same."""
    found, maps = [], []
    for scale in (0.0, 50.0):
        world, split = repeated_world(tmp_path / str(scale), held_scale=scale)
        with caplog.at_level(logging.INFO):
            found.append(measure_ceilings(world.plan(), world.tree, split, failures=Failures()))
        func = world.tree.root / "sub-01" / "func"
        maps.append(nibabel.load(func / "sub-01_desc-noiseceiling_statmap.nii.gz"))
    assert found[0] == found[1]
    assert set(found[0]) == {"01"}, "the other saw nothing twice"
    assert caplog.text.count("No noise ceiling of sub-02: fewer than 3 training stimuli") == 2
    values = np.asarray(maps[0].dataobj).ravel() / 100
    np.testing.assert_array_equal(values, np.asarray(maps[1].dataobj).ravel() / 100)
    for share in (0.0, 1 / 3, 0.8):
        assert values[:60][share == SHARE].mean() == pytest.approx(share, abs=0.1)
    np.testing.assert_allclose(maps[0].affine, GRID.affine)
    assert found[0]["01"] == pytest.approx(np.median(values), abs=1e-6)
    row = pd.read_csv(func / "sub-01_desc-noiseceiling_metrics.tsv", sep="\t").iloc[0]
    assert (row["participant_id"], row["n_voxels"], row["n_stimuli"], row["n_trials"]) == (
        "sub-01",
        60,
        30,
        60,
    )
    assert row["median_ceiling"] == pytest.approx(100 * np.median(values), abs=1e-4)
    assert row["share_above_10"] == pytest.approx((values > 0.1).mean())
    assert row["share_above_30"] == pytest.approx((values > 0.3).mean())
    reliability = np.asarray(nibabel.load(func / "sub-01_desc-reliability_statmap.nii.gz").dataobj).ravel()
    # Of the mean over two: 2 c / (1 + c).
    assert reliability[:60][SHARE == 0.8].mean() == pytest.approx(1.6 / 1.8, abs=0.05)
    assert row["median_reliability"] == pytest.approx(np.median(reliability), abs=1e-6)


def test_the_sidecar_says_what_the_map_was_made_of(tmp_path: Path) -> None:
    world, split = repeated_world(tmp_path, space="MNI152NLin6Asym")
    measure_ceilings(
        world.plan(hyperparameters={"responses": {"standardize": "participant", "scaling": "minmax"}}),
        world.tree, split, failures=Failures(),
    )  # fmt: skip
    path = world.tree.root / "sub-01" / "func" / "sub-01_space-MNI152NLin6Asym_desc-noiseceiling_statmap.json"
    sidecar = json.loads(path.read_text())
    assert sidecar["Units"] == "percent of variance"
    assert sidecar["Sets"] == ["train"]
    assert (sidecar["NumberOfStimuli"], sidecar["NumberOfTrials"]) == (30, 60)
    assert sidecar["StimuliByPresentations"] == {"2": 30}
    assert sidecar["Standardization"] == {"Unit": "participant", "Scaling": "minmax", "TransductiveUnits": []}
    assert [uri.partition("func/")[2] for uri in sidecar["Sources"]] == [
        f"sub-01_task-x_run-{number}_space-MNI152NLin6Asym_desc-lss_responses.safetensors"
        for number in (1, 2)
    ]
    assert not list(world.tree.root.glob("sub-02/func/*statmap*"))


def test_two_repeated_stimuli_are_too_few_and_one_is_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add(make_run(), "aabbcd", np.random.default_rng(0).normal(size=(6, 4)))
    split = world.split(["train"] * 6)
    with caplog.at_level(logging.INFO):
        assert measure_ceilings(world.plan(), world.tree, split, failures=Failures()) == {}
    assert "No noise ceiling of sub-01" in caplog.text


def test_a_second_time_nothing_is_rewritten(tmp_path: Path) -> None:
    world, split = repeated_world(tmp_path)
    measure_ceilings(world.plan(), world.tree, split, failures=Failures())
    files = sorted(world.tree.root.glob("sub-01/func/*desc-noiseceiling*"))
    before = [path.stat().st_mtime_ns for path in files]
    measure_ceilings(world.plan(), world.tree, split, failures=Failures())
    assert len(files) == 4
    assert [path.stat().st_mtime_ns for path in files] == before
