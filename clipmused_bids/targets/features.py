"""Raw CLIP features to targets: clamp, unit length, captions averaged, image and text joined, width reduced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clipmused_bids.records import FloatArray, IntArray

HighSource = Literal["image+text", "image", "text", "none"]
_SOURCES: dict[tuple[str, ...], HighSource] = {
    ("image", "text"): "image+text",
    ("image",): "image",
    ("text",): "text",
}
_CLAMP = 1.5
_MEMORY_OF_FLAT = 2 * 2**30
# Non-zero entries of the random projection for each feature.
_ENTRIES = 8


@dataclass(frozen=True)
class HighLevel:
    """High-level targets.

    Parameters
    ----------
    values : ndarray of shape (n_stimuli, n_high) or None
        Unit length; zero where a stimulus has neither image nor text. None where no stimulus has any.
    source : {"image+text", "image", "text", "none"}
        What they were made of.
    """

    values: NDArray[np.float32] | None
    source: HighSource


def postprocess(raw: FloatArray) -> NDArray[np.float32]:
    """Clamp raw features to [-1.5, 1.5], then scale each row to unit length; zero rows stay zero.

    Clamping after scaling would do nothing. The order follows the code released with Zhou, Du, Wang, He 2024,
    arXiv 2402.08994.

    Parameters
    ----------
    raw : ndarray of shape (n, d)
    """
    return _unit(np.clip(np.asarray(raw, dtype=np.float32), -_CLAMP, _CLAMP))


def high_level(
    image: FloatArray | None,
    text: FloatArray | None,
    *,
    stimulus_of_text: IntArray | None = None,
    n_stimuli: int,
    kind: Literal["mean", "image", "text", "concat"],
) -> HighLevel:
    """Join image and text embeddings of the last layer.

    f_hlv = unit(unit(image) + unit(mean over captions of unit(caption))), clamped before the first scaling.

    Parameters
    ----------
    image : ndarray of shape (n_stimuli, E) or None
        Raw image embeddings; zero rows where a stimulus has no image.
    text : ndarray of shape (n_sentences, E) or None
        Raw embeddings of all sentences.
    stimulus_of_text : ndarray of int, shape (n_sentences,)
        Stimulus of each sentence; needed where there is text.
    n_stimuli : int
    kind : {"mean", "image", "text", "concat"}
        ``mean`` and ``concat`` use what there is where one of the two is missing.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994, section 3.2.
    """
    parts: dict[str, NDArray[np.float32]] = {}
    if image is not None and kind != "text":
        parts["image"] = postprocess(image)
    if text is not None and stimulus_of_text is not None and kind != "image":
        parts["text"] = _mean_of_captions(text, stimulus=stimulus_of_text, n_stimuli=n_stimuli)
    parts = {name: part for name, part in parts.items() if part.any()}
    if not parts:
        return HighLevel(None, "none")
    both = list(parts.values())
    joined = np.concatenate(both, axis=1) if kind == "concat" else np.sum(both, axis=0)
    return HighLevel(_unit(joined), _SOURCES[tuple(parts)])


def _mean_of_captions(text: FloatArray, *, stimulus: IntArray, n_stimuli: int) -> NDArray[np.float32]:
    total = np.zeros((n_stimuli, text.shape[1]), dtype=np.float32)
    np.add.at(total, np.asarray(stimulus), postprocess(text))
    return _unit(total)


def choose_low(
    n_stimuli: int, *, n_features: int, wanted: Literal["auto", "flat", "projection", "mean"]
) -> Literal["flat", "projection", "mean"]:
    """Resolve ``auto``: everything while all stimuli fit in 2 GB of float32, else a random projection."""
    if wanted != "auto":
        return wanted
    return "flat" if 4 * n_stimuli * n_features <= _MEMORY_OF_FLAT else "projection"


def low_level(
    raw: FloatArray,
    *,
    kind: Literal["flat", "projection", "mean"],
    n_patches: int,
    projection_width: int = 4096,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Post-process the first block's patch tokens and reduce their width; rows may come in portions.

    Parameters
    ----------
    raw : ndarray of shape (n, n_patches * patch_width)
        Patch by patch.
    kind : {"flat", "projection", "mean"}
        All numbers; a random projection of them; their mean over patches (clamped before, unit length after).
    n_patches : int
    projection_width : int
        Numbers that ``projection`` keeps.
    seed : int
        Of the projection; the same on every machine.

    Returns
    -------
    ndarray of shape (n, n_low)
        Unit length.

    References
    ----------
    f_llv of Zhou, Du, Wang, He 2024, arXiv 2402.08994, section 3.2.
    """
    if kind == "mean":
        tokens = np.clip(np.asarray(raw, dtype=np.float32), -_CLAMP, _CLAMP)
        return _unit(tokens.reshape(len(tokens), n_patches, -1).mean(axis=1))
    flat = postprocess(raw)
    if kind == "flat":
        return flat
    projection = random_projection(flat.shape[1], width=projection_width, seed=seed)
    return _unit(np.asarray(flat @ projection))


@lru_cache(maxsize=1)
def random_projection(n_features: int, *, width: int, seed: int) -> sparse.csr_array:
    """Sparse sign matrix that keeps cosines: their error has a standard deviation near (1 - cos^2) / sqrt(width).

    Every feature goes to a few of the outputs with signs +1 or -1. Integers only are drawn, so that the matrix is
    the same on every machine; at CLIP's 150,528 features it holds 1.2 million entries instead of 600 million.

    Returns
    -------
    sparse array of shape (n_features, width), float32

    References
    ----------
    Kane & Nelson 2014, doi:10.1145/2559902.
    """
    rng = np.random.default_rng([seed, n_features, width])
    entries = min(_ENTRIES, width)
    # One output from each of as many equal blocks: no feature meets an output twice.
    edges = np.linspace(0, width, entries + 1).astype(np.int64)
    columns = rng.integers(edges[:-1], edges[1:], size=(n_features, entries))
    signs = (2 * rng.integers(2, size=(n_features, entries)) - 1).astype(np.float32) / np.float32(
        np.sqrt(entries)
    )
    starts = np.arange(0, n_features * entries + 1, entries)
    return sparse.csr_array(
        (signs.astype(np.float32).ravel(), columns.ravel(), starts), shape=(n_features, width)
    )


def _unit(values: FloatArray) -> NDArray[np.float32]:
    rows = np.asarray(values, dtype=np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None]
    unit: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
