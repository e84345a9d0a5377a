"""Sizes of a CLIP model by its configuration; no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ClipShape:
    """What a CLIP model costs and gives.

    Parameters
    ----------
    n_patches, patch_width, embedding_width : int
        As of ``ClipModel``.
    n_parameters : int
        Of both towers, without biases and norms.
    flops_per_image : int
        A multiply-add counts two.
    """

    n_patches: int
    patch_width: int
    embedding_width: int
    n_parameters: int
    flops_per_image: int


def clip_shape(name: str) -> ClipShape | None:
    """Sizes of a model that open_clip knows by this name (``ViT-B-16``, ``local-dir:FOLDER``).

    Returns
    -------
    ClipShape or None
        None where the configuration does not say (towers of other libraries).
    """
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(name) or {}
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if not all(isinstance(vision.get(key), int) for key in ("image_size", "patch_size", "width", "layers")):
        return None
    width, layers = vision["width"], vision["layers"]
    n_patches = (vision["image_size"] // vision["patch_size"]) ** 2
    # A block: 4 width^2 of attention and 8 width^2 of its MLP; scores and mixing of n tokens cost n^2 width each.
    per_token = 12 * layers * width**2
    n_tokens = n_patches + 1
    text_width = text.get("width", 0)
    words = text.get("vocab_size", 49408) * text_width
    return ClipShape(
        n_patches=n_patches,
        patch_width=width,
        embedding_width=config["embed_dim"],
        n_parameters=per_token + words + 12 * text.get("layers", 0) * text_width**2,
        flops_per_image=2 * (per_token * n_tokens + 2 * layers * n_tokens**2 * width),
    )
