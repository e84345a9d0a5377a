from __future__ import annotations

import numpy as np

from clipmused_bids.targets.prompts import label_prompts, stimulus_prompts


def test_label_prompts() -> None:
    assert label_prompts(["house", "apple", "traffic_light"]) == (
        "a photo of a house",
        "a photo of an apple",
        "a photo of a traffic light",
    )


def test_stimulus_prompts_name_known_labels_only() -> None:
    labels = np.array([[1, 1, 1], [0, 1, np.nan], [0, 0, 0], [1, 0, 1]], dtype=float)
    assert stimulus_prompts(labels, label_names=["house", "apple", "key"]) == (
        ("a photo of a house, an apple and a key",),
        ("a photo of an apple",),
        (),
        ("a photo of a house and a key",),
    )
