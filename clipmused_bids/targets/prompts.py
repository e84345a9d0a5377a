"""Sentences built from label names, for stimuli that bring no captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.records import FloatArray


def label_prompts(label_names: Sequence[str]) -> tuple[str, ...]:
    """Say each label in a sentence of the kind CLIP was trained on: ``a photo of an apple``."""
    return tuple(f"a photo of {_noun(name)}" for name in label_names)


def stimulus_prompts(labels: FloatArray, *, label_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Describe each stimulus by its labels, all in one sentence.

    Parameters
    ----------
    labels : ndarray of shape (n_stimuli, C)
        1, 0, or NaN where unknown.
    label_names : sequence of str
        C names.

    Returns
    -------
    tuple of tuple of str
        One sentence for each stimulus; none where it has no label.
    """
    prompts: list[tuple[str, ...]] = []
    for row in np.asarray(labels) == 1:
        nouns = [_noun(label_names[c]) for c in np.flatnonzero(row).tolist()]
        listed = nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}" if nouns else ""
        prompts.append((f"a photo of {listed}",) if listed else ())
    return tuple(prompts)


def _noun(name: str) -> str:
    words = name.replace("_", " ").strip()
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"
