"""CLIP targets of the stimuli: each content is encoded once, stored by its hash, and read back for training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import TargetOptions
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.outputs.description import write_descriptions
from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.stimuli.image_count import count_images
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.long_work import long_work
from clipmused_bids.records import Targets
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.picture_features import encode_pictures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.portable import clip_name
from clipmused_bids.stages.rates import picture_seconds
from clipmused_bids.stages.terminal import time_text
from clipmused_bids.targets.clip import ClipModel, encode_texts, load_clip
from clipmused_bids.targets.features import choose_low, high_level, low_level
from clipmused_bids.training.device_memory import forward_memory

logger = logging.getLogger(__name__)

# Recorded with the features: another seed is another projection, and other numbers.
PROJECTION_SEED = 0
SHARD_ROWS = 256


@dataclass(frozen=True)
class TargetMaker:
    """A loaded CLIP model and where its features are kept.

    Parameters
    ----------
    clip : ClipModel
    options : TargetOptions
    images, texts : EmbeddingCache
        Features of image contents and of sentences.
    low_kind : {"flat", "projection", "mean"}
    """

    clip: ClipModel
    options: TargetOptions
    images: EmbeddingCache
    texts: EmbeddingCache
    low_kind: Any


def load_target_maker(plan: Plan, catalogue: Catalogue, tree: OutputTree, *, device: str) -> TargetMaker:
    """Load the CLIP model that was asked for; missing weights are downloaded with ``--no-offline`` only."""
    options = plan.hyperparameters.targets
    if options.clip_model == "demo" and not catalogue.simulated:
        logger.warning(
            "WARNING: --clip-model demo knows simulated scenes only. Its features of other images and words "
            "carry next to no meaning; use it to try the command, never for a result."
        )
    clip = load_clip(
        options.clip_model, weights=options.clip_weights, device=device, offline=plan.config.offline
    )
    clip = replace(clip, name=clip_name(clip.name))
    # Not the stimuli of this job's events: jobs of one participant and the group's must store features of one kind.
    n_images = count_images(plan.config.bids_dir, plan.config.inputs.stimuli_dirs)
    low_kind = choose_low(n_images, n_features=clip.n_patches * clip.patch_width, wanted=options.low)
    model = {"clip_model": clip.name, "weights_sha256": clip.weights_hash}
    low: dict[str, Any] = {"low": low_kind}
    if low_kind == "projection":
        low |= {"projection_width": options.projection_width, "projection_seed": PROJECTION_SEED}
    folder = tree.embeddings(clip.name)
    return TargetMaker(
        clip=clip,
        options=options,
        images=EmbeddingCache(folder, {**model, "of": "images", **low}, sources=("bids:raw:stimuli",)),
        texts=EmbeddingCache(folder, {**model, "of": "sentences"}),
        low_kind=low_kind,
    )


def prepare_targets(
    maker: TargetMaker, catalogue: Catalogue, stimulus_ids: Sequence[str], tree: OutputTree
) -> dict[str, ClipMusedError]:
    """Encode what is not stored yet.

    Returns
    -------
    dict of str to ClipMusedError
        Stimuli whose picture cannot be read, and why.
    """
    rows = catalogue.rows_of(stimulus_ids)
    contents = {
        catalogue.content[k]: picture for k in rows if (picture := catalogue.stimuli.picture[k]) is not None
    }
    sentences = {digest(text): text for k in rows for text in sentences_of(catalogue, k)}
    n_images, n_sentences = (
        len(maker.images.missing(list(contents))),
        len(maker.texts.missing(list(sentences))),
    )
    if n_images + n_sentences:
        _announce(maker, n_images=n_images, n_sentences=n_sentences)
    groups = [
        {key: contents[key] for key in keys} for keys in maker.images.plan(list(contents), rows=SHARD_ROWS)
    ]
    with _memory(maker):
        broken = encode_pictures(
            maker.clip,
            groups,
            batch_size=maker.options.batch_size,
            finish=partial(_finish, maker),
            store=maker.images.add,
        )
    with long_work("CLIP features of sentences", n_sentences, "sentence", announced=True) as work:
        for keys in maker.texts.plan(list(sentences)):
            with _memory(maker):
                texts = encode_texts(
                    maker.clip, [sentences[key] for key in keys], batch_size=maker.options.batch_size
                )
            maker.texts.add(keys, {"text": texts})
            work.advance(len(keys))
    write_descriptions(tree)
    logger.info(
        "CLIP targets (%s): %d of %d images and %d of %d sentences encoded, %d images unreadable, the others reused.",
        maker.clip.name, n_images - len(broken), len(contents), n_sentences, len(sentences), len(broken),
    )  # fmt: skip
    content = catalogue.content
    return {catalogue.stimuli.stimulus_id[k]: broken[content[k]] for k in rows if content[k] in broken}


def load_targets(maker: TargetMaker, catalogue: Catalogue, stimulus_ids: Sequence[str]) -> Targets:
    """Read the stored features of stimuli and join both levels; as :func:`join_features`."""
    return join_features(
        maker.images,
        maker.texts,
        catalogue,
        stimulus_ids,
        kind=maker.options.high,
        clip_model=maker.clip.name,
        weights_hash=maker.clip.weights_hash,
    )


def join_features(
    images: EmbeddingCache,
    texts: EmbeddingCache,
    catalogue: Catalogue,
    stimulus_ids: Sequence[str],
    *,
    kind: Literal["mean", "image", "text", "concat"],
    clip_model: str,
    weights_hash: str,
) -> Targets:
    """Read the stored features of stimuli and join both levels; no CLIP model is needed.

    Parameters
    ----------
    images, texts : EmbeddingCache
    catalogue : Catalogue
    stimulus_ids : sequence of str
    kind : {"mean", "image", "text", "concat"}
        How image and text are joined.
    clip_model, weights_hash : str
        What the features were made by.

    Returns
    -------
    Targets
        Rows in the order of ``stimulus_ids``; zero rows where a stimulus has no image (low), or neither image nor
        text (high).
    """
    rows = catalogue.rows_of(stimulus_ids)
    missing = set(
        images.missing([catalogue.content[k] for k in rows if catalogue.stimuli.picture[k] is not None])
    )
    with_image = [
        n
        for n, k in enumerate(rows)
        if catalogue.stimuli.picture[k] is not None and catalogue.content[k] not in missing
    ]
    low = image = None
    if with_image:
        found = images.read([catalogue.content[rows[n]] for n in with_image])
        low = _spread(found["low"], with_image, n=len(rows))
        image = _spread(found["image"], with_image, n=len(rows))
    sentences = [(n, text) for n, k in enumerate(rows) for text in sentences_of(catalogue, k)]
    text = texts.read([digest(sentence) for _, sentence in sentences])["text"] if sentences else None
    high = high_level(
        image,
        text,
        stimulus_of_text=np.array([n for n, _ in sentences]) if sentences else None,
        n_stimuli=len(rows),
        kind=kind,
    )
    return Targets(
        stimulus_id=tuple(stimulus_ids),
        low=low,
        high=high.values,
        high_source=high.source,
        clip_model=clip_model,
        weights_hash=weights_hash,
    )


def sentences_of(catalogue: Catalogue, row: int) -> tuple[str, ...]:
    """Captions of a stimulus, else a prompt made of its labels, else nothing."""
    return catalogue.stimuli.captions[row] or catalogue.prompts[row]


def _finish(
    maker: TargetMaker, raw: NDArray[np.float32], image: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """Raw features of pictures to what is stored of them."""
    low = low_level(
        raw,
        kind=maker.low_kind,
        n_patches=maker.clip.n_patches,
        projection_width=maker.options.projection_width,
        seed=PROJECTION_SEED,
    )
    return {"low": low.astype(np.float16), "image": image}


def _memory(maker: TargetMaker) -> AbstractContextManager[None]:
    """Say what helps where a device has too little memory for a batch of CLIP."""
    size = maker.options.batch_size
    return forward_memory(
        f"CLIP: {size} pictures or sentences at once",
        device=maker.clip.device,
        hint=f"[targets] batch_size = {size // 2} gives the same features" if size > 1 else "--device cpu",
    )


def _announce(maker: TargetMaker, *, n_images: int, n_sentences: int) -> None:
    """Say how many pictures and sentences CLIP will read, and about how long it takes."""
    weights = sum(parameter.numel() for parameter in maker.clip.network.parameters())
    each = picture_seconds(2 * weights * maker.clip.n_patches, device=maker.clip.device)
    logger.info(
        "CLIP targets (%s, %s): %d pictures and %d sentences to encode, about %s.",
        maker.clip.name, maker.clip.device, n_images, n_sentences, time_text(n_images * each),
    )  # fmt: skip


def _spread(values: NDArray[Any], places: Sequence[int], *, n: int) -> NDArray[np.float32]:
    whole = np.zeros((n, values.shape[1]), dtype=np.float32)
    whole[list(places)] = values
    return whole
