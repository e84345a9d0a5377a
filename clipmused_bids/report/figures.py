"""Figures as SVG, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.records import FloatArray
from clipmused_bids.report.canvas import OUR_COLOUR, blank, svg

MOST_LABELS = 40


def label_scores(names: Sequence[str], scores: FloatArray, floors: FloatArray, *, title: str) -> bytes:
    """Draw the average precision of each label beside what a random ranking would reach, best labels first.

    Parameters
    ----------
    names : sequence of str
    scores, floors : ndarray of shape (n_labels,)
        NaN for labels that cannot be scored; those are left out. At most 40 labels are drawn.
    title : str
    """
    order = [int(k) for k in np.argsort(-scores, kind="stable") if np.isfinite(scores[k])][:MOST_LABELS]
    figure = blank(width=6.0, height=1.2 + 0.24 * max(len(order), 1))
    axes = figure.add_subplot()
    places = np.arange(len(order))
    axes.barh(places, scores[order], color=OUR_COLOUR, height=0.7, label="average precision")
    axes.plot(
        floors[order], places, "|", color="black", markersize=9, markeredgewidth=2, label="random ranking"
    )
    axes.set_yticks(places, [names[k] for k in order])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="average precision", title=title)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return svg(figure)
