"""CLIP targets of simulated scenes, by the demo CLIP; every scene is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import TargetOptions
from clipmused_bids.records import IntArray, Targets
from clipmused_bids.simulation.scenes import captions
from clipmused_bids.simulation.study import Study
from clipmused_bids.targets.clip import encode_images, encode_texts, load_clip
from clipmused_bids.targets.features import choose_low, high_level, low_level

CLIP_MODEL = "demo"


@dataclass(frozen=True)
class EncodedStimuli:
    """Raw features of stimuli, and of their captions.

    Parameters
    ----------
    stimulus_id : tuple of str, length n
    low : ndarray of shape (n, n_low), float32
    image : ndarray of shape (n, E)
    text : ndarray of shape (n_sentences, E)
    stimulus_of_text : ndarray of int, shape (n_sentences,)
    weights_hash : str
    """

    stimulus_id: tuple[str, ...]
    low: NDArray[np.float32]
    image: NDArray[np.float32]
    text: NDArray[np.float32]
    stimulus_of_text: IntArray
    weights_hash: str

    def targets(self, options: TargetOptions) -> Targets:
        """Join the levels as the options say."""
        high = high_level(
            self.image,
            self.text,
            stimulus_of_text=self.stimulus_of_text,
            n_stimuli=len(self.stimulus_id),
            kind=options.high,
        )
        return Targets(
            stimulus_id=self.stimulus_id,
            low=self.low,
            high=high.values,
            high_source=high.source,
            clip_model=CLIP_MODEL,
            weights_hash=self.weights_hash,
        )


def encode(study: Study, stimulus_id: Sequence[str], *, numbers: Sequence[int]) -> EncodedStimuli:
    """Encode stimuli of a study.

    Parameters
    ----------
    study : Study
    stimulus_id : sequence of str, length n
    numbers : sequence of int, length n
        Which stimuli of the study they are.
    """
    from PIL import Image

    clip = load_clip(CLIP_MODEL)
    scenes = study.stimuli.scene[list(numbers)]
    raw, image = encode_images(clip, (Image.fromarray(study.bank.images[k]) for k in scenes))
    kind = choose_low(len(scenes), n_features=raw.shape[1], wanted=TargetOptions().low)
    low = low_level(raw, kind=kind, n_patches=clip.n_patches)
    # The written dataset says as much in the column description, which is what is read by default.
    sentences = [captions(study.bank.scenes[k], n_captions=1) for k in scenes]
    return EncodedStimuli(
        stimulus_id=tuple(stimulus_id),
        # The cache of features holds the low level in half precision.
        low=low.astype(np.float16).astype(np.float32),
        image=image,
        text=encode_texts(clip, [sentence for several in sentences for sentence in several]),
        stimulus_of_text=np.repeat(np.arange(len(scenes)), [len(several) for several in sentences]),
        weights_hash=clip.weights_hash,
    )
