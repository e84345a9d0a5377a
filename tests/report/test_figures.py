"""Figures are valid SVG, hold what they should, and are the same bytes for the same data."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from clipmused_bids.report.label_figures import label_scores


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_labels_are_drawn_best_first_and_unscorable_ones_are_left_out() -> None:
    scores, floors = np.array([0.2, np.nan, 0.9]), np.array([0.1, np.nan, 0.1])
    drawn = texts(label_scores(["cat", "dog", "house"], scores, floors, title="sub-01"))
    assert "dog" not in drawn
    assert drawn.index("house") < drawn.index("cat")
    assert "sub-01" in drawn


def test_equal_data_give_equal_bytes() -> None:
    scores, floors = np.array([0.2, 0.9]), np.array([0.1, 0.1])
    drawn = [label_scores(["cat", "house"], scores, floors, title=title) for title in ("a", "a", "b")]
    assert drawn[0] == drawn[1] != drawn[2]
