from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from clipmused_bids.config import TargetOptions
from clipmused_bids.dataset.stimuli.picture_contents import content_keys
from clipmused_bids.records import Picture
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import (
    TargetMaker,
    load_target_maker,
    load_targets,
    prepare_targets,
    sentences_of,
)
from clipmused_bids.targets.clip import encode_images, encode_texts
from tests.stages.conftest import World, make_catalogue

DEMO = {"targets": {"clip_model": "demo"}}


@pytest.fixture
def pictures(world: World) -> dict[str, Path]:
    """a, b: pictures; c: a broken file; d and e have none."""
    rng = np.random.default_rng(0)
    paths = {name: world.folder / f"{name}.png" for name in "abc"}
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(paths[name])
    paths["c"].write_bytes(b"no picture")
    return paths


@pytest.fixture
def catalogue(pictures: dict[str, Path]) -> Catalogue:
    """Captions for a and d; labels make the sentence of b; nothing is known of c and e."""
    labels = {"a": [1, 0], "b": [1, 1], "c": [np.nan] * 2, "d": [0, 1], "e": [np.nan] * 2}
    return make_catalogue(labels, paths=pictures, captions={"a": ["a cat", "one cat"], "d": ["a dog"]})


@pytest.fixture
def maker(world: World, catalogue: Catalogue) -> TargetMaker:
    return load_target_maker(world.plan(hyperparameters=DEMO), catalogue, world.tree, device="cpu")


def unit(rows: np.ndarray) -> np.ndarray:
    """Clamped, then of length one; what has that length already is not changed by it."""
    clamped = np.clip(rows, -1.5, 1.5)
    return clamped / np.linalg.norm(clamped, axis=-1, keepdims=True)


def test_stored_targets_are_those_of_the_model_itself(
    world: World, catalogue: Catalogue, maker: TargetMaker, pictures: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO):
        unreadable = prepare_targets(maker, catalogue, list("abcde"), world.tree)
    assert list(unreadable) == ["c"]
    assert "c.png: not a readable image" in str(unreadable["c"])
    assert "2 of 3 images and 4 of 4 sentences encoded, 1 images unreadable" in caplog.text
    targets = load_targets(maker, catalogue, list("edcba"))
    assert targets.stimulus_id == tuple("edcba")

    raw, image = encode_images(maker.clip, [Image.open(pictures[name]) for name in "ba"])
    assert targets.low is not None
    assert targets.high is not None
    np.testing.assert_array_equal(targets.low[:3], 0)
    np.testing.assert_allclose(unit(targets.low[3:]), unit(raw), atol=2e-3)
    (prompt,) = sentences_of(catalogue, 1)
    texts = unit(encode_texts(maker.clip, [prompt, "a cat", "one cat", "a dog"]))
    expected = {
        "e": np.zeros(texts.shape[1]),
        "d": texts[3],
        "c": np.zeros(texts.shape[1]),
        "b": unit(unit(image[0]) + texts[0]),
        "a": unit(unit(image[1]) + unit(texts[1] + texts[2])),
    }
    np.testing.assert_allclose(targets.high, np.stack([expected[name] for name in "edcba"]), atol=1e-4)
    assert (targets.high_source, targets.clip_model) == ("image+text", "demo")


def test_what_is_stored_is_not_encoded_again(
    world: World, catalogue: Catalogue, maker: TargetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    prepare_targets(maker, catalogue, ["a"], world.tree)
    with caplog.at_level(logging.INFO):
        prepare_targets(maker, catalogue, ["a", "b"], world.tree)
    assert "1 of 2 images and 1 of 3 sentences encoded" in caplog.text


def test_a_row_of_a_bank_has_the_features_of_the_same_picture_in_a_file(
    world: World, catalogue: Catalogue, maker: TargetMaker, pictures: dict[str, Path]
) -> None:
    bank = world.folder / "bank.hdf5"
    with h5py.File(bank, "w") as file:
        file["x"] = np.stack([np.asarray(Image.open(pictures[name])) for name in "ba"])
    rows = (Picture(bank, "/x", 1), Picture(bank, "/x", 0))
    stimuli = replace(catalogue.stimuli, picture=(*rows, *catalogue.stimuli.picture[2:]))
    banked = replace(catalogue, stimuli=stimuli, content=(*content_keys(rows), *catalogue.content[2:]))
    for one in (catalogue, banked):
        assert not prepare_targets(maker, one, ["a", "b"], world.tree)
    of_files, of_rows = (load_targets(maker, one, ["a", "b"]) for one in (catalogue, banked))
    np.testing.assert_array_equal(of_rows.low, of_files.low)
    np.testing.assert_array_equal(of_rows.high, of_files.high)


def test_captions_win_over_labels(catalogue: Catalogue) -> None:
    assert sentences_of(catalogue, 0) == ("a cat", "one cat")
    assert "cat" in sentences_of(catalogue, 1)[0]
    assert "dog" in sentences_of(catalogue, 1)[0]
    assert sentences_of(catalogue, 4) == ()


def test_without_pictures_text_guides_the_high_level_only(world: World) -> None:
    catalogue = make_catalogue({"face": [1, 0], "house": [0, 1]}, names=("face", "house"))
    maker = load_target_maker(world.plan(hyperparameters=DEMO), catalogue, world.tree, device="cpu")
    prepare_targets(maker, catalogue, ["face", "house"], world.tree)
    targets = load_targets(maker, catalogue, ["face", "house"])
    assert (targets.low, targets.high_source) == (None, "text")
    assert targets.high is not None
    np.testing.assert_allclose(np.linalg.norm(targets.high, axis=1), 1, atol=1e-5)


def test_projections_of_another_width_are_other_features(world: World, catalogue: Catalogue) -> None:
    makers = []
    for low, width in (("flat", 8), ("projection", 8), ("projection", 16)):
        options = {"targets": {"clip_model": "demo", "low": low, "projection_width": width}}
        maker = load_target_maker(world.plan(hyperparameters=options), catalogue, world.tree, device="cpu")
        prepare_targets(maker, catalogue, ["a", "b"], world.tree)
        makers.append(maker)
    widths = []
    for maker in makers:
        low_level = load_targets(maker, catalogue, ["a"]).low
        assert low_level is not None
        widths.append(low_level.shape[1])
    assert widths == [makers[0].clip.n_patches * makers[0].clip.patch_width, 8, 16]


def test_the_demo_model_warns_of_real_data(
    world: World, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    plan = world.plan(hyperparameters=DEMO)
    load_target_maker(plan, catalogue, world.tree, device="cpu")
    assert "knows simulated scenes only" not in caplog.text
    load_target_maker(plan, replace(catalogue, simulated=False), world.tree, device="cpu")
    assert "knows simulated scenes only" in caplog.text
    assert plan.hyperparameters.targets == TargetOptions(clip_model="demo")
