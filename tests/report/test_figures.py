"""Figures are valid SVG, hold what they should, and are the same bytes for the same data."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from clipmused_bids.report.figures import label_scores, training_curves


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_labels_are_drawn_best_first_and_unscorable_ones_are_left_out() -> None:
    scores, floors = np.array([0.2, np.nan, 0.9]), np.array([0.1, np.nan, 0.1])
    drawn = texts(label_scores(["cat", "dog", "house"], scores, floors, title="sub-01"))
    assert "dog" not in drawn
    assert drawn.index("house") < drawn.index("cat")
    assert "sub-01" in drawn


def test_curves_name_each_term() -> None:
    columns = {
        "loss": (1.0, 0.5),
        "loss_perp": (2.0, 0.1),
        "val_map": (0.2, 0.4),
        "learning_rate": (1.0, 1.0),
    }
    drawn = texts(training_curves(columns, best_epoch=2))
    assert {"loss", "loss perp", "validation mAP", "weights kept"} <= set(drawn)
    assert "learning rate" not in drawn


def test_tokens_are_drawn_where_there_are_any() -> None:
    columns = {"loss": (1.0, 0.5), "val_map": (0.2, 0.4)}
    tokens = {"rank_low": (3.0, 2.0), "cosine_low": (0.1, 0.2), "agreement_low_high": (0.0, 0.3)}
    without, drawn = (texts(training_curves(one, best_epoch=1)) for one in (columns, columns | tokens))
    titles = {"effective rank of tokens", "mean cosine of trials", "agreement with CLIP"}
    assert titles | {"low", "low with CLIP high"} <= set(drawn)
    assert not titles & set(without)


def test_equal_data_give_equal_bytes() -> None:
    columns = {"loss": (1.0, 0.5), "val_map": (0.2, 0.4)}
    assert training_curves(columns, best_epoch=1) == training_curves(columns, best_epoch=1)
    assert training_curves(columns, best_epoch=1) != training_curves(columns, best_epoch=2)
