"""Features of CLIP as they lie in the output folder, read without a CLIP model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.stages.stored_features import stored_features
from tests.stages.conftest import World, make_catalogue, make_run

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, size=(3, 4)).astype(np.float32)
LOW = RNG.uniform(-1, 1, size=(3, 6)).astype(np.float32)
TEXTS = RNG.uniform(-1, 1, size=(3, 4)).astype(np.float32)
MODEL = {"clip_model": "m", "weights_sha256": "f" * 64}
CATALOGUE = make_catalogue(
    {name: [1, 0] for name in "abc"},
    paths={name: Path(f"{name}.png") for name in "abc"},
    captions={name: [f"a picture of {name}"] for name in "abc"},
)


def config(high: str = "mean", low: str = "auto") -> dict[str, Any]:
    clip = {"model": MODEL["clip_model"], "weights_sha256": MODEL["weights_sha256"]}
    return {"clip": clip, "hyperparameters": {"targets": {"high": high, "low": low}}}


@pytest.fixture
def study(world: World) -> World:
    """Features of all sentences and two pictures; in another form of one; of all by other weights."""
    world.add(make_run(), "abc", np.ones((3, 2)))
    folder = world.tree.embeddings("m")
    for kind, width, rows in (("flat", 6, [0, 2]), ("mean", 2, [0])):
        cache = EmbeddingCache(folder, {**MODEL, "of": "images", "low": kind})
        cache.add([CATALOGUE.content[k] for k in rows], {"low": LOW[rows, :width], "image": IMAGES[rows]})
    sentences = [digest(f"a picture of {name}") for name in "abc"]
    EmbeddingCache(folder, {**MODEL, "of": "sentences"}).add(sentences, {"text": TEXTS})
    other = {**MODEL, "weights_sha256": "0" * 64}
    EmbeddingCache(folder, {**other, "of": "sentences"}).add(sentences, {"text": -TEXTS})
    images = EmbeddingCache(folder, {**other, "of": "images", "low": "flat"})
    images.add(CATALOGUE.content, {"low": -LOW, "image": -IMAGES})
    return world


def unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def read(study: World, **options: str) -> tuple[Any, str]:
    return stored_features(study.plan(), study.tree, CATALOGUE, ["c", "a"], config=config(**options))


def test_levels_are_joined_as_the_decoder_was_guided(study: World) -> None:
    targets, reason = read(study)
    assert reason == ""
    np.testing.assert_allclose(targets.low, LOW[[2, 0]], atol=1e-6)
    expected = unit(unit(IMAGES) + unit(TEXTS))[[2, 0]]
    np.testing.assert_allclose(targets.high, expected, atol=1e-6)
    np.testing.assert_allclose(read(study, high="text")[0].high, unit(TEXTS)[[2, 0]], atol=1e-6)
    # The form that was asked for, though it knows one picture only.
    low = read(study, low="mean")[0].low
    np.testing.assert_allclose(low, [[0, 0], LOW[0, :2]], atol=1e-6)


def test_features_of_other_weights_are_not_taken(study: World) -> None:
    targets, _ = stored_features(study.plan(), study.tree, CATALOGUE, ["b"], config=config())
    assert targets is not None
    assert targets.low is None
    np.testing.assert_allclose(targets.high, unit(TEXTS)[[1]], atol=1e-6)


def test_what_is_not_stored_is_said(study: World) -> None:
    for path in study.tree.embeddings("m").glob("*"):
        path.unlink()
    targets, reason = read(study)
    assert targets is None
    assert "no features of 2 of 2 stimuli" in reason
    assert stored_features(study.plan(), study.tree, CATALOGUE, ["a"], config={"clip": None}) == (
        None,
        "the decoder was trained without CLIP targets",
    )
