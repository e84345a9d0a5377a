"""What knowing nothing scores on label statistics like the published ones: 80 categories, 2.9 an image."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.evaluation.floors import random_average_precision
from clipmused_bids.evaluation.metrics import per_label, score

N_CATEGORIES, PER_IMAGE = 80, 2.9
DATA = os.environ.get("CLIPMUSED_TEST_DATA")


def frequencies():
    """Long-tailed: the most frequent category on more than half of the images, the rarest on a few of a thousand."""
    shape = 1 / (np.arange(N_CATEGORIES) + 2.0) ** 1.05
    return shape * PER_IMAGE / shape.sum()


def images(n, seed=0):
    labels = (np.random.default_rng(seed).random((n, N_CATEGORIES)) < frequencies()).astype(float)
    labels[0], labels[1] = 0, 1  # every label can be scored
    return labels


def by_name(scores):
    return {each.metric: each for each in scores}


def test_frequencies_are_long_tailed():
    p = frequencies()
    assert p.sum() == pytest.approx(2.9)
    assert 0.3 < p[0] < 0.7
    assert p[-1] < 0.01


@pytest.mark.parametrize("n", [1000, 9000])
def test_predicting_nothing_has_the_published_hamming_distance(n):
    labels = images(n)
    nothing = by_name(score(labels, np.zeros_like(labels), single_label=False))
    assert nothing["Hamming"].value == pytest.approx(0.036, abs=0.001)
    assert nothing["Hamming"].value == nothing["Hamming"].floor == labels.mean()


def test_predicting_the_prevalence_has_the_published_map():
    labels = images(1000)
    prevalence = np.tile(frequencies(), (1000, 1))
    found = by_name(score(labels, prevalence, single_label=False))
    assert found["mAP"].value == pytest.approx(0.036, abs=0.001)
    assert found["AUC"].value == 0.5
    assert found["mAP"].value == pytest.approx(
        np.mean([one.prevalence for one in per_label(labels, prevalence, label_names=[""] * 80)])
    )


def test_a_random_ranking_scores_more_than_that():
    labels = images(1000)
    found = by_name(score(labels, np.random.default_rng(1).random(labels.shape), single_label=False))
    floor = np.mean([random_average_precision(int(k), 1000) for k in labels.sum(axis=0)])
    assert found["mAP"].floor == pytest.approx(floor)
    assert 0.040 < floor < 0.046
    assert found["mAP"].value == pytest.approx(floor, abs=0.004)


@pytest.mark.real_data
@pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set")
def test_on_real_label_statistics():
    labels, n_pairs = [], 0
    for part in ("train", "val"):
        path = Path(DATA) / "coco_tiny" / "annotations" / f"instances_{part}2017.json"
        content = json.loads(path.read_text())
        row = {image["id"]: k for k, image in enumerate(content["images"])}
        column = {category["id"]: k for k, category in enumerate(content["categories"])}
        own = np.zeros((len(row), len(column)))
        for each in content["annotations"]:
            own[row[each["image_id"]], column[each["category_id"]]] = 1
        n_pairs += len({(each["image_id"], each["category_id"]) for each in content["annotations"]})
        labels.append(own)
    labels = np.concatenate(labels)
    occurring = int(labels.any(axis=0).sum())
    nothing = by_name(score(labels, np.zeros_like(labels), single_label=False))["Hamming"]
    assert (labels.shape, nothing.n_labels) == ((100, 80), occurring)
    assert occurring < 80
    # Only categories that occur are scored: the distance is larger than over all 80 of them.
    assert nothing.value == pytest.approx(n_pairs / (100 * occurring))
    assert nothing.value > n_pairs / (100 * 80) == pytest.approx(0.0425)
