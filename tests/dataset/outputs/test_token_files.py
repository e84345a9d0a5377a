from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clipmused_bids.dataset.outputs.token_files import (
    StimulusTokens,
    read_stimulus_tokens,
    tokens_are_current,
    write_stimulus_tokens,
)
from clipmused_bids.errors import DataError, MissingInputError

RNG = np.random.default_rng(0)
TOKENS = StimulusTokens(
    stimulus_id=("a.png", "b é.png", "a.png"),
    fold=np.array([1, 1, 2]),
    group=np.array([0, 1, 0]),
    n_trials=np.array([2, 1, 3]),
    group_names=("cat", "dog"),
    low=RNG.normal(size=(3, 4)).astype(np.float32),
    high=RNG.normal(size=(3, 4)).astype(np.float32),
    clip={"high": np.array([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan, np.nan, np.nan]])},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_desc-m_tokens.safetensors"
    write_stimulus_tokens(path, TOKENS, details={"Request": {"a": 1}, "Agreements": []})
    found, sidecar = read_stimulus_tokens(path)
    for name, value in vars(TOKENS).items():
        if name == "clip":
            np.testing.assert_array_equal(found.clip["high"], value["high"])
        else:
            np.testing.assert_array_equal(getattr(found, name), value)
    assert set(found.clip) == {"high"}
    # Without this package: numbers by the library, words by any reader of JSON.
    np.testing.assert_array_equal(load_file(path)["low"], TOKENS.low)
    beside = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert beside["StimulusIds"] == list(TOKENS.stimulus_id)
    assert beside["Request"] == sidecar["Request"] == {"a": 1}


def test_files_of_two_evaluations_are_not_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_desc-m_tokens.safetensors"
    write_stimulus_tokens(path, TOKENS, details={})
    first = path.read_bytes()
    write_stimulus_tokens(path, replace(TOKENS, low=TOKENS.low + 1), details={})
    path.write_bytes(first)
    with pytest.raises(DataError, match="not of one evaluation"):
        read_stimulus_tokens(path)
    path.unlink()
    with pytest.raises(MissingInputError):
        read_stimulus_tokens(path)


def test_tokens_are_current_for_the_same_request_only(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_desc-m_tokens.safetensors"
    assert not tokens_are_current(path, {"a": 1})
    write_stimulus_tokens(path, TOKENS, details={"Request": {"a": 1, "b": [2]}})
    assert tokens_are_current(path, {"b": [2], "a": 1})
    assert not tokens_are_current(path, {"a": 1, "b": [3]})
    write_stimulus_tokens(path, replace(TOKENS, clip={}), details={"Request": {"a": 1}})
    assert not tokens_are_current(path, {"a": 1}), "CLIP's may be known by now"
