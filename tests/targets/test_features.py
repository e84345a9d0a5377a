from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipmused_bids.targets.features import (
    choose_low,
    high_level,
    low_level,
    postprocess,
    random_projection,
)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_postprocess_clamps_before_it_scales() -> None:
    raw = np.array([[3.0, -4.0, 0.5], [0.0, 0.0, 0.0]])
    expected = np.array([1.5, -1.5, 0.5]) / np.sqrt(1.5**2 + 1.5**2 + 0.25)
    np.testing.assert_allclose(postprocess(raw), [expected, [0, 0, 0]], rtol=1e-6)


@given(hnp.arrays(np.float32, (4, 6), elements=st.floats(-50, 50, width=32)))
def test_postprocessed_rows_have_length_one_or_zero(raw: np.ndarray) -> None:
    length = np.linalg.norm(postprocess(raw), axis=1)
    expected = np.any(raw != 0, axis=1)
    np.testing.assert_allclose(length, expected, atol=1e-5)


def test_high_level_by_hand() -> None:
    image = np.array([[2.0, 0.0], [0.0, 1.0]])
    text = np.array([[0.0, 3.0], [0.1, 0.0], [0.6, 0.8]])
    result = high_level(image, text, stimulus_of_text=np.array([0, 0, 1]), n_stimuli=2, kind="mean")
    # Captions of stimulus 0 are (0, 1) and (1, 0) once each has length one, whatever their raw length.
    caption = unit(np.array([0.5, 0.5]))
    expected = np.stack([unit(np.array([1.0, 0.0]) + caption), unit(np.array([0.6, 1.8]))])
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)
    assert result.source == "image+text"


def test_concatenation_keeps_both_and_has_length_one() -> None:
    result = high_level(
        np.array([[0.5, 0.0]]),
        np.array([[0.0, 0.7]]),
        stimulus_of_text=np.array([0]),
        n_stimuli=1,
        kind="concat",
    )
    np.testing.assert_allclose(result.values, [[np.sqrt(0.5), 0, 0, np.sqrt(0.5)]], rtol=1e-6)


@pytest.mark.parametrize(
    ("has_image", "has_text", "kind", "source"),
    [
        (True, True, "mean", "image+text"),
        (True, True, "image", "image"),
        (True, True, "text", "text"),
        (True, False, "mean", "image"),
        (False, True, "mean", "text"),
        (True, False, "text", "none"),
        (False, False, "mean", "none"),
        (False, True, "concat", "text"),
    ],
)
def test_source_says_what_was_used(has_image: bool, has_text: bool, kind: str, source: str) -> None:
    image = np.array([[1.0, 0.0], [0.0, 1.0]]) if has_image else None
    text = np.array([[0.0, 1.0]]) if has_text else None
    owner = np.array([1]) if has_text else None
    result = high_level(image, text, stimulus_of_text=owner, n_stimuli=2, kind=kind)
    assert result.source == source
    assert (result.values is None) == (source == "none")


def test_a_stimulus_without_captions_keeps_its_image() -> None:
    image = np.array([[1.0, 0.0], [0.0, 1.0]])
    result = high_level(
        image, np.array([[1.0, 0.0]]), stimulus_of_text=np.array([1]), n_stimuli=2, kind="mean"
    )
    np.testing.assert_allclose(result.values, [[1, 0], np.sqrt([0.5, 0.5])], rtol=1e-6)


def test_low_level_flat_and_mean_by_hand() -> None:
    raw = np.array([[1.0, 2.0, 0.0, -0.5]])  # two patches of width two
    flat = low_level(raw, kind="flat", n_patches=2)
    np.testing.assert_allclose(flat, [unit(np.array([1.0, 1.5, 0.0, -0.5]))], rtol=1e-6)
    mean = low_level(raw, kind="mean", n_patches=2)
    np.testing.assert_allclose(mean, [unit(np.array([0.5, 0.5]))], rtol=1e-6)


def test_projection_keeps_cosines() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=20_000)
    raw = np.concatenate([rng.normal(size=(15, 20_000)), common + rng.normal(scale=0.6, size=(15, 20_000))])
    flat = low_level(raw, kind="flat", n_patches=10).astype(np.float64)
    projected = low_level(raw, kind="projection", n_patches=10, seed=4).astype(np.float64)
    assert projected.shape == (30, 4096)
    pairs = np.triu_indices(30, k=1)
    error = (projected @ projected.T - flat @ flat.T)[pairs]
    assert np.sqrt(np.mean(error**2)) < 0.02
    assert abs(error.mean()) < 0.005  # unbiased
    # Pairs that are alike, as those of CLIP's first block are, keep their cosines better.
    alike = (flat @ flat.T)[pairs] > 0.5
    assert alike.sum() > 50
    assert np.abs(error[alike]).max() < 0.03


def test_projection_is_the_same_whatever_the_portions() -> None:
    raw = np.random.default_rng(1).normal(size=(6, 400))
    whole = low_level(raw, kind="projection", n_patches=4, projection_width=64, seed=2)
    parts = [
        low_level(raw[k : k + 2], kind="projection", n_patches=4, projection_width=64, seed=2)
        for k in (0, 2, 4)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
    other = low_level(raw, kind="projection", n_patches=4, projection_width=64, seed=3)
    assert np.abs(other - whole).max() > 0.01


def test_projection_matrix_is_known_to_the_bit() -> None:
    matrix = random_projection(50, width=32, seed=7)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(np.diff(matrix.indptr), 8)
    assert [len(set(matrix.indices[8 * k : 8 * k + 8])) for k in range(50)] == [8] * 50
    np.testing.assert_allclose(np.abs(matrix.data), 1 / np.sqrt(8))
    # First row, written down once: drawing it anywhere else gives the same.
    assert matrix.indices[:8].tolist() == [3, 5, 10, 14, 17, 20, 24, 28]
    assert np.sign(matrix.data[:8]).astype(int).tolist() == [1, -1, 1, 1, -1, 1, 1, -1]


def test_auto_is_flat_up_to_two_gigabytes() -> None:
    clip = 196 * 768
    assert choose_low(3_000, n_features=clip, wanted="auto") == "flat"
    assert choose_low(73_000, n_features=clip, wanted="auto") == "projection"
    assert choose_low(73_000, n_features=clip, wanted="mean") == "mean"
