from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipmused_bids.config import InputOptions
from clipmused_bids.dataset.stimuli.target_files import TargetFile, open_target_file
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.target_source import (
    guiding_targets,
    load_target_source,
    source_identity,
    stored_hyperparameters,
)
from tests.stages.conftest import World, make_catalogue, make_run

CATALOGUE = make_catalogue({name: [1, 0] for name in "abcdef"})
SETS = {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "test"}


@pytest.fixture
def study(world: World) -> World:
    world.add(make_run(), "abcdef", np.ones((6, 2)))
    return world


def features(folder: Path, stimuli: str, *, levels: tuple[str, ...] = ("low", "high")) -> Path:
    """Row of stimulus k points along axis k."""
    path = folder / "features.safetensors"
    rows = np.array([np.eye(8)["abcdef".index(name)] * 3 for name in stimuli], dtype=np.float32)
    save_file(dict.fromkeys(levels, rows), path, metadata={"stimulus_id": json.dumps(list(stimuli))})
    return path


def plan_of(study: World, path: Path, **settings: Any) -> Plan:
    return study.plan(inputs=InputOptions(targets=str(path)), **settings)


def load(study: World, plan: Plan) -> Any:
    return load_target_source(plan, CATALOGUE, study.split(SETS), study.tree, device="cpu")


def test_the_file_takes_the_place_of_a_model(study: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("clipmused_bids.stages.target_source.load_target_maker", refused)
    source = load(study, plan_of(study, features(study.folder, "abcdef")))
    assert isinstance(source, TargetFile)
    identity = source_identity(source)
    assert identity == {"model": "targets:features.safetensors", "weights_sha256": source.content_hash}
    assert stored_hyperparameters(study.plan(), source)["targets"] == {"clip_model": identity["model"]}
    assert stored_hyperparameters(study.plan(), None)["targets"]["clip_model"] == "ViT-B-16"


def test_only_training_and_validation_stimuli_are_read(
    study: World, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_target_file(features(study.folder, "fdcba"))
    with caplog.at_level(logging.INFO):
        targets = guiding_targets(source, CATALOGUE, tuple("abcdef"), list(SETS.values()))  # type: ignore[arg-type]
    assert targets is not None
    assert targets.stimulus_id == tuple("abcde")
    expected = np.eye(8)[:5]
    expected[4] = 0  # the file has no row of e
    for level in (targets.low, targets.high):
        assert level is not None
        np.testing.assert_array_equal(level, expected)
    assert (targets.high_source, targets.low_source) == ("file", "file")
    assert "high level from file; low level from file for 4 of 5 stimuli" in caplog.text


def test_a_level_that_the_file_lacks_is_off(study: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        source = load(study, plan_of(study, features(study.folder, "abcdef", levels=("high",))))
        targets = guiding_targets(source, CATALOGUE, ("a",), ("train",))
    assert "the file has no low level" in caplog.text
    assert "low level off (not in the file)" in caplog.text
    assert targets is not None
    assert targets.low is None
    source = open_target_file(features(study.folder, "a", levels=("low",)))
    only_low = guiding_targets(source, CATALOGUE, ("a",), ("train",))
    assert only_low is not None
    assert (only_low.high, only_low.high_source) == (None, "none")


def test_half_of_the_training_stimuli_must_be_known(study: World, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of other stimuli do not count; what is missing is named."""
    with caplog.at_level(logging.WARNING):
        load(study, plan_of(study, features(study.folder, "ab")))
    assert "rows for 2 of 4 training stimuli. Missing: c, d." in caplog.text
    with pytest.raises(DataError, match=r"rows for 1 of 4 training stimuli\. Missing: a, b, d"):
        load(study, plan_of(study, features(study.folder, "cef")))


def test_options_of_a_model_contradict_a_file(study: World) -> None:
    plan = plan_of(study, features(study.folder, "abcdef"), overrides={"targets": {"clip_model": "demo"}})
    with pytest.raises(
        UsageError, match=r"--targets takes the place of a CLIP model, but targets\.clip_model"
    ):
        load(study, plan)


def test_a_stored_decoder_needs_no_more_targets(study: World) -> None:
    """Its model is the file, which need not be here; when it is trained again, the file must be."""
    plan = study.plan(hyperparameters={"targets": {"clip_model": "targets:features.safetensors"}})
    stored = replace(plan, config=replace(plan.config, actions=("prepare", "decode")))
    assert load(study, stored) is None
    with pytest.raises(UsageError, match="targets:features"):
        load(study, plan)
