"""Train the small CLIP that ships with the package.

``python -m clipmused_bids.simulation.train_demo_clip OUT``. Contrastive training on scenes of several objects from
the start stalls: every caption of a batch names several of the same few words. So the text tower first learns to
tell the words of the grammar apart, alone; then pictures of one object come, with a sigmoid loss against the label
prompts; then all scenes, contrastive, both towers, the sigmoid loss beside. The seeds of the scenes are apart from
those of tests and demos.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from clipmused_bids.simulation.scenes import (
    CATEGORIES,
    COLOURS,
    PLACES,
    Scene,
    captions,
    draw_scenes,
    label_matrix,
    render,
)
from clipmused_bids.targets.prompts import label_prompts

_log = logging.getLogger(__name__)
_VOCABULARY = 49408
_CONTEXT = 40
_N_CAPTIONS = 4
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 8,
        "layers": 4,
        "width": 128,
        "head_width": 32,
        "pool_type": "avg",
    },
    "text_cfg": {"context_length": _CONTEXT, "vocab_size": _VOCABULARY, "width": 48, "heads": 4, "layers": 2},
}
_MEAN, _STD = (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)
PREPROCESS = {"mean": list(_MEAN), "std": list(_STD), "interpolation": "bicubic", "resize_mode": "squash"}


@dataclass(frozen=True)
class Recipe:
    """What the shipped weights were made with; ``seed`` and ``seed + 1`` draw the scenes."""

    seed: int = 90_210
    n_single: int = 6_000
    n_mixed: int = 24_000
    text_steps: int = 500
    single_steps: int = 600
    mixed_steps: int = 2_600
    batch_size: int = 48
    learning_rate: float = 1e-3
    text_learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_weight: float = 12.0
    single_contrastive_weight: float = 0.2


class _Words:
    """Tokens of the grammar, renumbered in order.

    The end token stays the largest, as open_clip's pooling needs.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        import open_clip

        self._tokenize = open_clip.SimpleTokenizer(context_length=_CONTEXT)
        self.used = np.unique(self._tokenize(list(sentences)).numpy())

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.used, self._tokenize(list(sentences)).numpy()))


@dataclass(frozen=True)
class _Pool:
    """Rendered scenes with the tokens of their captions."""

    images: NDArray[np.uint8]
    tokens: Tensor
    labels: Tensor

    def batch(self, rows: NDArray[np.int64], *, sentence: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        images = as_input(self.images[rows])
        return images, self.tokens[torch.from_numpy(rows), torch.from_numpy(sentence)], self.labels[rows]


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Scale pictures (n, 64, 64, 3) to the input (n, 3, 64, 64) of the image tower."""
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]


def train(recipe: Recipe) -> dict[str, Tensor]:
    """Train the model and return its weights under open_clip's names, in half precision."""
    from open_clip import CLIP

    rng = np.random.default_rng([recipe.seed, 4])
    single_scenes = draw_scenes(recipe.n_single, seed=recipe.seed, n_objects=1)
    mixed_scenes = draw_scenes(recipe.n_mixed, seed=recipe.seed + 1)
    texts = [captions(scene, n_captions=_N_CAPTIONS) for scene in (*single_scenes, *mixed_scenes)]
    prompts = label_prompts(CATEGORIES)
    sentences = [sentence for several in texts for sentence in several]
    words = _Words([*prompts, *sentences])
    text_config = MODEL_CONFIG["text_cfg"] | {"vocab_size": len(words.used)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = CLIP(**MODEL_CONFIG | {"text_cfg": text_config})
    _train_text(model, words, [*sentences, *prompts * 200], recipe=recipe, rng=rng)
    single = _rendered(single_scenes, texts[: recipe.n_single], words)
    mixed = _rendered(mixed_scenes, texts[recipe.n_single :], words)
    _train_both(model, single, mixed, label_tokens=words(prompts), recipe=recipe, rng=rng)
    return _stored(model.state_dict(), used=words.used)


def _train_text(
    model: Any, words: _Words, sentences: Sequence[str], *, recipe: Recipe, rng: np.random.Generator
) -> None:
    """Let the text tower map a sentence to the sum of orthogonal codes of its content words."""
    names = (*CATEGORIES, *COLOURS, *(place[0] for place in PLACES))
    weights = np.array([1.0] * len(CATEGORIES) + [0.35] * len(COLOURS) + [0.5] * len(PLACES))
    said = np.array([[name in sentence.replace(",", "").split() for name in names] for sentence in sentences])
    codes = np.linalg.qr(rng.normal(size=(MODEL_CONFIG["embed_dim"],) * 2))[0][: len(names)]
    goals = F.normalize(torch.from_numpy((said * weights) @ codes).float(), dim=-1)
    tokens = words(sentences)
    with torch.no_grad():
        model.token_embedding.weight.mul_(5)
    parameters = [value for name, value in model.named_parameters() if not name.startswith("visual")]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.text_learning_rate, weight_decay=0.01)
    for step in range(recipe.text_steps):
        _set_rate(optimizer, recipe.text_learning_rate * _schedule(step, recipe.text_steps))
        rows = torch.from_numpy(rng.integers(len(sentences), size=96))
        said_by_model = F.normalize(model.encode_text(tokens[rows]), dim=-1)
        loss = (1 - (said_by_model * goals[rows]).sum(dim=1)).mean()
        _step(optimizer, loss)
    _log.info("text tower: 1 - cosine %.4f", float(loss.detach()))


def _train_both(
    model: Any, single: _Pool, mixed: _Pool, *, label_tokens: Tensor, recipe: Recipe, rng: np.random.Generator
) -> None:
    # Logits of the labels: exp(sigmoid[0]) * cosine + sigmoid[1].
    sigmoid = torch.nn.Parameter(torch.tensor([np.log(10.0), -2.0], dtype=torch.float32))
    groups: list[dict[str, Any]] = [
        {"params": list(model.parameters())},
        {"params": [sigmoid], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    n_steps = recipe.single_steps + recipe.mixed_steps
    started = time.monotonic()
    for step in range(n_steps):
        _set_rate(optimizer, recipe.learning_rate * _schedule(step, n_steps))
        early = step < recipe.single_steps
        pool = single if early else mixed
        rows = rng.integers(len(pool.images), size=recipe.batch_size)
        batch = pool.batch(rows, sentence=rng.integers(_N_CAPTIONS, size=recipe.batch_size))
        contrastive, label = _losses(model, batch, label_tokens=label_tokens, sigmoid=sigmoid)
        weight = recipe.single_contrastive_weight if early else 1.0
        _step(optimizer, weight * contrastive + recipe.label_weight * label)
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        if step % 100 == 99:
            losses = (float(contrastive.detach()), float(label.detach()))
            _log.info(
                "step %d: contrastive %.3f, labels %.3f, %.0f s",
                step + 1,
                *losses,
                time.monotonic() - started,
            )


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _rendered(scenes: Sequence[Scene], texts: Sequence[Sequence[str]], words: _Words) -> _Pool:
    images = np.stack([render(scene) for scene in scenes])
    columns = [words([several[k] for several in texts]) for k in range(_N_CAPTIONS)]
    tokens = torch.stack(columns, dim=1)
    return _Pool(images, tokens, torch.from_numpy(label_matrix(scenes)).float())


def _losses(
    model: Any, batch: tuple[Tensor, Tensor, Tensor], *, label_tokens: Tensor, sigmoid: Tensor
) -> tuple[Tensor, Tensor]:
    images, tokens, labels = batch
    image = F.normalize(model.encode_image(images), dim=-1)
    text = F.normalize(model.encode_text(torch.cat([tokens, label_tokens])), dim=-1)
    sentence, label = text[: len(tokens)], text[len(tokens) :]
    logits = model.logit_scale.exp() * image @ sentence.T
    same = torch.arange(len(images))
    contrastive = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
    return contrastive, F.binary_cross_entropy_with_logits(
        sigmoid[0].exp() * image @ label.T + sigmoid[1], labels
    )


def _schedule(step: int, n_steps: int) -> float:
    return float(min((step + 1) / 60, 0.5 * (1 + np.cos(np.pi * step / n_steps))))


def _stored(weights: Mapping[str, Tensor], *, used: NDArray[np.int64]) -> dict[str, Tensor]:
    stored = {name: value.detach().half() for name, value in weights.items() if name != "attn_mask"}
    table = torch.zeros(_VOCABULARY, stored["token_embedding.weight"].shape[1], dtype=torch.float16)
    table[torch.from_numpy(used)] = stored["token_embedding.weight"]
    return {name: value.contiguous() for name, value in (stored | {"token_embedding.weight": table}).items()}


def write_clip(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights and configuration in open_clip's local-dir form."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), folder / "open_clip_model.safetensors")
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--threads",
    type=int,
    default=2,
    show_default=True,
    help="CPU threads; another number rounds differently.",
)
def main(out: Path, threads: int) -> None:
    """Train the demo CLIP and write it to OUT."""
    handler = logging.StreamHandler()
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    torch.set_num_threads(threads)
    write_clip(out, train(Recipe()))


if __name__ == "__main__":
    main()
