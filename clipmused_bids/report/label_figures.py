"""Bars of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipmused_bids.records import FloatArray
from clipmused_bids.report.canvas import OTHER_COLOURS, OUR_COLOUR, blank, svg

MOST_LABELS = 40


def label_scores(
    names: Sequence[str],
    scores: FloatArray,
    floors: FloatArray,
    *,
    title: str,
    prevalences: FloatArray | None = None,
) -> bytes:
    """Draw the average precision of each label beside what a random ranking would reach, best labels first.

    Parameters
    ----------
    names : sequence of str
    scores, floors : ndarray of shape (n_labels,)
        NaN for labels that cannot be scored; those are left out. Of more than 40 the best and the worst 20 are drawn.
    title : str
    prevalences : ndarray of shape (n_labels,), optional
        Share of the trials that have the label.
    """
    order, gap = drawn_labels(scores)
    places = np.arange(len(order), dtype=float)
    if gap is not None:
        places[gap:] += 1
    figure = blank(width=5.2, height=1.4 + 0.24 * (max(len(order), 1) + (gap is not None)))
    axes = figure.add_subplot()
    axes.barh(places, scores[order], color=OUR_COLOUR, height=0.7, label="average precision")
    axes.plot(
        floors[order], places, "|", color="black", markersize=9, markeredgewidth=2, label="random ranking"
    )
    if prevalences is not None:
        axes.plot(
            prevalences[order], places, "o", label="prevalence", linestyle="none", color="white",
            markeredgecolor=OTHER_COLOURS[0], markersize=5,
        )  # fmt: skip
    axes.set_yticks(places, [_short(names[k]) for k in order])
    if gap is not None:
        left_out = int(np.isfinite(scores).sum()) - len(order)
        axes.text(0.02, gap, f"{left_out} labels between these are not drawn", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.set(xlim=(0, 1), xlabel="average precision")
    figure.suptitle(title, fontsize=11)
    figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=3)
    return svg(figure)


def drawn_labels(scores: FloatArray) -> tuple[list[int], int | None]:
    """Labels that `label_scores` draws, best first, and after how many of them a part is left out."""
    order = [int(k) for k in np.argsort(-scores, kind="stable") if np.isfinite(scores[k])]
    if len(order) <= MOST_LABELS:
        return order, None
    half = MOST_LABELS // 2
    return [*order[:half], *order[-half:]], half


def _short(name: str, *, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
