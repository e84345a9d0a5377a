"""Curves, confusions and calibration against scikit-learn and against counts by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from sklearn.metrics import average_precision_score

from clipmused_bids.report.label_figures import drawn_labels, label_scores
from clipmused_bids.report.score_figures import (
    LabelCurve,
    confusion,
    confusion_figure,
    precision_recall,
    recall_and_precision,
    reliability_curve,
    reliability_figure,
)
from tests.report.test_figures import texts


def test_area_of_the_drawn_steps_is_the_average_precision() -> None:
    rng = np.random.default_rng(0)
    labels, guess = (rng.random(60) < 0.3).astype(float), rng.random(60).round(1)
    recall, precision = recall_and_precision(labels, guess)
    assert (np.diff(recall) >= 0).all()
    # `where="pre"`: between two recalls the precision of the later one.
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(average_precision_score(labels, guess))


def test_a_panel_for_each_label_names_it_with_its_score() -> None:
    curve = (np.array([0.0, 0.5, 1.0]), np.array([1.0, 1.0, 0.5]))
    shown = [LabelCurve(name, "best", [curve], 0.3, 0.75, 4) for name in ("cat", "dog", "cow")]
    drawn = texts(precision_recall(shown, title="sub-01"))
    assert {"cat (best)", "dog (best)", "cow (best)", "AP 0.75, 4 positives", "recall"} <= set(drawn)


def test_confusions_are_counted_by_row_of_the_true_label() -> None:
    counts = confusion(np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 0, 0]), n_labels=3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [2, 0, 1]]


def test_shares_of_a_row_are_its_colours_and_an_empty_row_is_grey() -> None:
    counts = np.array([[2, 2, 0], [0, 4, 0], [0, 0, 0]])
    image = Image.open(io.BytesIO(confusion_figure(counts, ("a", "b", "c"), title="")))
    pixels = np.array(image.convert("RGB")).reshape(-1, 3).astype(int)
    half = np.round(255 * np.array(colormaps["cividis"](0.5)[:3])).astype(int)
    colours = {
        "all": (0xFE, 0xE8, 0x38),
        "half": half,
        "none": (0x00, 0x22, 0x4E),
        "grey": (0xD9, 0xD9, 0xD9),
    }
    area = {name: (np.abs(pixels - colour).max(axis=1) <= 2).sum() for name, colour in colours.items()}
    cells = {name: round(found / (area["grey"] / 3), 1) for name, found in area.items()}
    # Digits and the bar of colours change the areas a little.
    assert cells == pytest.approx({"all": 1, "half": 2, "none": 3, "grey": 3}, rel=0.2)
    assert max(image.size) < 900


def test_reliability_is_the_frequency_in_each_bin() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, np.nan]])
    guess = np.array([[0.95, 0.15], [0.92, 0.17], [0.98, 0.12], [0.14, 0.99]])
    curve = reliability_curve(labels, guess, n_bins=10)
    np.testing.assert_allclose(curve["count"], [4, 3])
    np.testing.assert_allclose(curve["observed"], [1 / 4, 2 / 3])
    np.testing.assert_allclose(curve["predicted"], [0.145, 0.95])
    drawn = texts(reliability_figure(curve, title="sub-01"))
    assert {"calibrated", "this decoder", "predicted probability"} <= set(drawn)


def test_of_many_labels_the_best_and_the_worst_are_drawn_and_the_gap_is_named() -> None:
    scores = np.linspace(1.0, 0.0, 80)
    scores[5] = np.nan
    order, gap = drawn_labels(scores)
    assert (order[0], order[-1], len(order), gap) == (0, 79, 40, 20)
    assert 5 not in order
    names = [f"label{k}" for k in range(80)]
    drawn = texts(label_scores(names, scores, np.full(80, 0.1), title="", prevalences=np.full(80, 0.05)))
    assert "39 labels between these are not drawn" in drawn
    assert {"prevalence", "label0", "label79"} <= set(drawn)
    assert "label40" not in drawn
