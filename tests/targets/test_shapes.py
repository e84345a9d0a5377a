from __future__ import annotations

from importlib.resources import files

import pytest

from clipmused_bids.targets.clip import load_clip
from clipmused_bids.targets.shapes import clip_shape

DEMO = f"local-dir:{files('clipmused_bids') / 'data' / 'demo_clip'}"


def test_as_the_loaded_model_says() -> None:
    clip, shape = load_clip("demo"), clip_shape(DEMO)
    assert shape is not None
    assert (shape.n_patches, shape.patch_width, shape.embedding_width) == (
        clip.n_patches, clip.patch_width, clip.embedding_width,
    )  # fmt: skip
    n_parameters = sum(parameter.numel() for parameter in clip.network.parameters())
    assert shape.n_parameters == pytest.approx(n_parameters, rel=0.05)


def test_the_default_model() -> None:
    """ViT-B/16: 196 patches of 768; 150 million parameters; 17.6 G multiply-adds an image (Dosovitskiy et al. 2021)."""
    shape = clip_shape("ViT-B-16")
    assert shape is not None
    assert (shape.n_patches, shape.patch_width, shape.embedding_width) == (196, 768, 512)
    assert shape.n_parameters == pytest.approx(150e6, rel=0.02)
    assert shape.flops_per_image == pytest.approx(2 * 17.6e9, rel=0.02)


def test_towers_that_do_not_say() -> None:
    assert clip_shape("RN50") is None
    assert clip_shape("no such model") is None
