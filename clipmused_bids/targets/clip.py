"""CLIP models through open_clip: both image levels in one pass, and sentences."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.targets.weights import WeightSource, find_weights

if TYPE_CHECKING:
    from PIL.Image import Image

_log = logging.getLogger(__name__)
# Image towers whose tokens are image patches throughout: open_clip's own, and those it takes from timm.
_VIT_TOWERS = frozenset({"VisionTransformer", "Eva"})

# Pictures or sentences that a processor encodes at once.
ROWS_ON_CPU = 8


@dataclass(frozen=True)
class ClipModel:
    """A CLIP model ready for use.

    Parameters
    ----------
    name : str
        As asked for: ``demo``, ``ViT-B-16``, ...
    network : torch.nn.Module
        In evaluation mode, on ``device``, float32.
    preprocess, tokenize : callable
        Image to tensor (3, height, width); sentences to token ids (n, context).
    device : str
    weights_hash : str
        SHA-256 over names, shapes and values of all weights; the file format does not matter.
    n_patches, patch_width, embedding_width : int
        Shape of the low level (patches x width) and width of the high level.
    """

    name: str
    network: torch.nn.Module
    preprocess: Callable[[Image], torch.Tensor]
    tokenize: Callable[[list[str]], torch.Tensor]
    device: str
    weights_hash: str
    n_patches: int
    patch_width: int
    embedding_width: int


def load_clip(
    model: str, *, weights: str | None = None, device: str = "cpu", offline: bool = True
) -> ClipModel:
    """Load a CLIP model from this machine; its weights are downloaded only where that is allowed.

    Parameters
    ----------
    model : str
        ``demo`` (ships with the package), an open_clip model name, or ``local-dir:FOLDER``.
    weights : str, optional
        A folder in open_clip's local-dir form (its configuration wins over ``model``), a ``.safetensors``
        file, or a pretrained tag that is in the download cache; ``openai`` by default.
    device : str
    offline : bool
        Whether missing weights of an open_clip model may not be downloaded.

    Raises
    ------
    UsageError
        If the model is unknown or its image tower has no patch tokens (ResNet and the like).
    MissingInputError
        If the weights are not here; the hint holds the commands that fetch them.
    DataError
        If the weights cannot be read or do not fit the model.

    References
    ----------
    Radford et al. 2021, arXiv 2103.00020; open_clip, doi:10.5281/zenodo.5143773.
    """
    source = find_tower(model, weights=weights, offline=offline)
    network, preprocess, tokenize = _create(source, device=device)
    n_patches, patch_width, embedding_width = _shape(network, preprocess, device=device)
    _log.info("CLIP %s: %d patches x %d, embedding %d", model, n_patches, patch_width, embedding_width)
    return ClipModel(
        name=model,
        network=network,
        preprocess=preprocess,
        tokenize=tokenize,
        device=device,
        weights_hash=weights_hash(network),
        n_patches=n_patches,
        patch_width=patch_width,
        embedding_width=embedding_width,
    )


def find_tower(model: str, *, weights: str | None, offline: bool = True) -> WeightSource:
    """Find the weights of a model whose image tower can serve; errors as for `load_clip`, nothing is loaded."""
    if ":" not in model:  # names with a scheme may need a file or the network
        _refuse_other_towers(model, name=model)
    source = find_weights(model, weights=weights, offline=offline)
    _refuse_other_towers(model, name=source.name)
    return source


def encode_images(
    model: ClipModel, images: Iterable[Image], *, batch_size: int = 32
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Encode images at both levels, from one pass over each.

    Parameters
    ----------
    model : ClipModel
    images : iterable of PIL images
        Read as they are needed, ``batch_size`` at a time.
    batch_size : int

    Returns
    -------
    low : ndarray of shape (n, n_patches * patch_width)
        Patch tokens after the first transformer block, raw, patch by patch; without the class token.
    high : ndarray of shape (n, embedding_width)
        Image embeddings of the last layer, raw.

    References
    ----------
    f_llv and f_hlv of Zhou, Du, Wang, He 2024, arXiv 2402.08994, section 3.2.
    """
    low: list[NDArray[np.float32]] = [np.zeros((0, model.n_patches * model.patch_width), dtype=np.float32)]
    high: list[NDArray[np.float32]] = [np.zeros((0, model.embedding_width), dtype=np.float32)]
    for batch in _batches(images, size=batch_size):
        pixels = stack_pictures(model, [pixels_of(model, image) for image in batch])
        for rows, found in zip(
            (low, high), start_encoding(model, pixels, batch_size=batch_size).rows(), strict=True
        ):
            rows.append(found)
    return np.concatenate(low), np.concatenate(high)


def pixels_of(model: ClipModel, image: Image) -> torch.Tensor:
    """Transform an image for the model: tensor of shape (3, height, width), float32."""
    return model.preprocess(image.convert("RGB"))


def stack_pictures(model: ClipModel, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Make a batch of transformed images; for a GPU in memory that it can fetch from by itself (pinned)."""
    batch = torch.stack(list(pixels))
    return batch.pin_memory() if _on_gpu(model) else batch


@dataclass(frozen=True)
class Encoding:
    """Features of a batch, perhaps still on their way from the GPU.

    Parameters
    ----------
    low : tensor of shape (n, n_patches * patch_width)
    high : tensor of shape (n, embedding_width)
        Both float32, in main memory.
    arrived : torch.cuda.Event or None
        When they can be read; None where that is now.
    """

    low: torch.Tensor
    high: torch.Tensor
    arrived: Any

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both levels as arrays; waits until they are there. From any thread."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.low.numpy(), self.high.numpy()


def start_encoding(model: ClipModel, pixels: torch.Tensor, *, batch_size: int) -> Encoding:
    """Encode a batch at both levels in one pass; on a GPU this returns before it is done.

    Parameters
    ----------
    model : ClipModel
    pixels : tensor of shape (n, 3, height, width)
        See `stack_pictures`.
    batch_size : int
        Of whole batches; the last one may be smaller.
    """
    passes = [
        _both_levels(model.network, rows)
        for rows in _passes(model, pixels.to(model.device, non_blocking=True), batch_size=batch_size)
    ]
    low, high = (torch.cat(values)[: len(pixels)].float() for values in zip(*passes, strict=True))
    low, high = (values.to("cpu", non_blocking=True) for values in (low.flatten(1), high))
    arrived = None
    if _on_gpu(model):
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
    return Encoding(low, high, arrived)


@contextmanager
def torch_in_threads() -> Iterator[Callable[[], None]]:
    """For threads beside the model: gives what they must call first, so that torch starts no threads in them.

    Each thread would otherwise get as many as the machine has cores, for every picture's transform. Torch keeps the
    number for each thread that computes, and another one for threads to come, which is set back at the end.
    """
    own = torch.get_num_threads()
    try:
        yield partial(torch.set_num_threads, 1)
    finally:
        torch.set_num_threads(own)


def encode_texts(model: ClipModel, texts: Sequence[str], *, batch_size: int = 256) -> NDArray[np.float32]:
    """Encode sentences.

    Returns
    -------
    ndarray of shape (n, embedding_width)
        Text embeddings of the last layer, raw.
    """
    encoded: list[NDArray[np.float32]] = [np.zeros((0, model.embedding_width), dtype=np.float32)]
    network: Any = model.network
    for batch in _batches(texts, size=batch_size):
        tokens = model.tokenize(list(batch)).to(model.device)
        with torch.inference_mode():
            embedding = torch.cat(
                [network.encode_text(rows) for rows in _passes(model, tokens, batch_size=batch_size)]
            )
        encoded.append(embedding.float().cpu().numpy()[: len(batch)])
    return np.concatenate(encoded)


def _passes(model: ClipModel, batch: torch.Tensor, *, batch_size: int) -> Iterator[torch.Tensor]:
    """Divide a batch into passes of one size, the last one filled by repeating its last row.

    The last bits of a feature depend on how many are computed at once. With passes of one size they do not depend on
    what else was to be encoded, so jobs that meet the same stimulus among others store the same feature.
    """
    # A processor is as fast with few rows, and little is computed in vain where few are left.
    size = batch_size if _on_gpu(model) else min(batch_size, ROWS_ON_CPU)
    for rows in torch.split(batch, size):
        missing = size - len(rows)
        yield torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


def weights_hash(network: torch.nn.Module) -> str:
    """SHA-256 over all weights, one tensor at a time, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _both_levels(network: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        out = network.visual.forward_intermediates(pixels, indices=[0], output_fmt="NLC")
    return out["image_intermediates"][0], out["image_features"]


def _on_gpu(model: ClipModel) -> bool:
    return model.device.startswith("cuda")


def _create(source: WeightSource, *, device: str) -> tuple[torch.nn.Module, Any, Any]:
    import open_clip

    file = None if source.file is None else str(source.file)
    try:
        network, preprocess = open_clip.create_model_from_pretrained(
            source.name, pretrained=file, device=device, **source.options
        )
        tokenize = open_clip.get_tokenizer(source.name)
    except Exception as error:  # open_clip passes on whatever the readers of a damaged file raise
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"CLIP weights {file or source.name}: cannot be loaded ({reason}).",
            hint="fetch them again, or name the model they belong to with --clip-model",
        ) from error
    return network.eval().requires_grad_(False), preprocess, tokenize


def _refuse_other_towers(model: str, *, name: str) -> None:
    import open_clip

    vision = (open_clip.get_model_config(name) or {}).get("vision_cfg", {})
    tower = vision.get("timm_model_name") or ("ResNet" if isinstance(vision.get("layers"), list) else "")
    if tower and not tower.startswith(("vit", "eva", "naflexvit")):
        raise UsageError(
            f"--clip-model {model}: its image tower ({tower}) is not a vision transformer; the low-level "
            "targets are the patch tokens of a transformer's first block.",
            hint="for example --clip-model ViT-B-16",
        )


def _shape(network: Any, preprocess: Any, *, device: str) -> tuple[int, int, int]:
    from PIL import Image

    tower = getattr(network.visual, "trunk", network.visual)
    if type(tower).__name__ not in _VIT_TOWERS:
        raise UsageError(
            f"the image tower {type(tower).__name__} has no patch tokens.",
            hint="for example --clip-model ViT-B-16",
        )
    pixels = preprocess(Image.new("RGB", (64, 64)))[None].to(device)
    tokens, embedding = _both_levels(network, pixels)
    return int(tokens.shape[1]), int(tokens.shape[2]), int(embedding.shape[1])


def _batches(items: Iterable[Any], *, size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
