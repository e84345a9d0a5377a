"""What was shown: pictures, stimuli with their labels, and their CLIP features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipmused_bids.records.arrays import FloatArray


@dataclass(frozen=True)
class Picture:
    """Where the picture of one stimulus lies; nothing of it has been read.

    Parameters
    ----------
    path : Path
        Image file, bank of images (HDF5), or movie.
    dataset, row : str and int, or None
        Dataset of the bank and row in it, from 0; None for a file of its own.
    seconds : float or None
        Time of the frame in the movie, in s; None where the file is no movie.
    """

    path: Path
    dataset: str | None = None
    row: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Stimuli:
    """All stimuli of a dataset, one entry each, sorted by id.

    Parameters
    ----------
    stimulus_id : tuple of str
    picture : tuple of (Picture or None)
        None where none was found or the stimulus is a category name.
    captions : tuple of tuple of str
        Sentences of each stimulus; empty where there are none.
    label_names : tuple of str
        Names of the semantic labels, C of them.
    labels : ndarray of shape (n_stimuli, C)
        1, 0, or NaN where unknown.
    single_label : bool
        Whether every labelled stimulus has exactly one label by construction (``trial_type``).
    """

    stimulus_id: tuple[str, ...]
    picture: tuple[Picture | None, ...]
    captions: tuple[tuple[str, ...], ...]
    label_names: tuple[str, ...]
    labels: FloatArray
    single_label: bool = False


@dataclass(frozen=True)
class Targets:
    """CLIP features of stimuli, row k belongs to ``stimulus_id[k]``; unit length, or zero where unknown.

    Parameters
    ----------
    stimulus_id : tuple of str
    low : ndarray of shape (n_stimuli, n_low) or None
        First transformer block of the image tower; None where the dataset has no images.
    high : ndarray of shape (n_stimuli, n_high) or None
        Joint embedding of image and text at the last layer.
    high_source : {"image+text", "image", "text", "file", "none"}
        What the high level was made of; ``file``: elsewhere.
    clip_model, weights_hash : str
        open_clip name of the model and SHA-256 of its weights; or name and SHA-256 of the file the features are from.
    low_source : {"images", "file"}
        What the low level was made of.
    """

    stimulus_id: tuple[str, ...]
    low: FloatArray | None
    high: FloatArray | None
    high_source: Literal["image+text", "image", "text", "file", "none"]
    clip_model: str
    weights_hash: str
    low_source: Literal["images", "file"] = "images"
