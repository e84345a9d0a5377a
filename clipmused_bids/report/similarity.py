"""Pictures of similarity matrices, and of how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipmused_bids.evaluation.agreement import rank_matrix
from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.report.canvas import FLOOR_COLOUR, OTHER_COLOURS, OUR_COLOUR, blank, png, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS = 200
_MOST_NAMES = 24
_LONGEST_NAME = 14


@dataclass(frozen=True)
class AgreementRow:
    """One comparison of two similarity matrices.

    Parameters
    ----------
    name : str
        What is compared with what.
    value : float
        Rank correlation; NaN where it cannot be told.
    p_value : float
    chance_low, chance_high : float
        What 95 % of permuted stimuli lie between.
    beside : tuple of float
        What the voxels reach, and an untrained network; NaN where unknown.
    """

    name: str
    value: float
    p_value: float
    chance_low: float
    chance_high: float
    beside: tuple[float, float] = (np.nan, np.nan)


def draw_similarity(
    similarity: FloatArray, group: IntArray, group_names: Sequence[str], *, title: str
) -> bytes:
    """Draw the ranks of all pairs' similarities, with lines where one group ends and the next one starts.

    Ranks are what a rank correlation compares, so that two matrices have one colour scale whatever their cosines.

    Parameters
    ----------
    similarity : ndarray of shape (n, n)
        NaN where unknown. Of more than 200 rows the mean rank of neighbouring ones is drawn.
    group : ndarray of int, shape (n,)
        Ascending.
    group_names : sequence of str
    title : str

    Returns
    -------
    bytes
        PNG.
    """
    n = len(similarity)
    # Where something lies does not depend on how many rows are drawn.
    figure = blank(width=3.7, height=3.5)
    axes = figure.add_subplot()
    image = axes.imshow(
        block_means(rank_matrix(similarity), most=MOST_CELLS),
        cmap="viridis", vmin=0, vmax=1, extent=(0, n, n, 0), interpolation="nearest",
    )  # fmt: skip
    axes.set_facecolor("#d9d9d9")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    _name_groups(axes, group, group_names)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1], fraction=0.046, pad=0.03)
    bar.ax.set_yticklabels(["least\nalike", "middle", "most\nalike"], fontsize=8)
    return png(figure, margins="cut")


def draw_agreements(rows: Sequence[AgreementRow], *, others: tuple[str, str]) -> bytes:
    """Draw each agreement on the band of what permuted stimuli reach, with those it is compared with beside it.

    Parameters
    ----------
    rows : sequence of AgreementRow
    others : (str, str)
        What ``beside`` holds.

    Returns
    -------
    bytes
        SVG.
    """
    figure = blank(width=6.4, height=1.3 + 0.42 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        label = "permuted stimuli (95 %)" if place == 0 else None
        axes.barh(place, row.chance_high - row.chance_low, left=row.chance_low, height=0.6,
                  color=FLOOR_COLOUR, alpha=0.45, label=label)  # fmt: skip
    places = np.arange(len(rows))
    marks = (
        (np.array([row.value for row in rows]), "o", OUR_COLOUR, OUR_COLOUR, "tokens"),
        (np.array([row.beside[0] for row in rows]), "D", OTHER_COLOURS[0], "white", others[0]),
        (np.array([row.beside[1] for row in rows]), "s", OTHER_COLOURS[1], "white", others[1]),
    )
    for values, marker, edge, face, name in marks:
        if np.isfinite(values).any():
            axes.plot(values, places, marker, markersize=7, markeredgecolor=edge, markerfacecolor=face,
                      markeredgewidth=1.6, label=name, zorder=3)  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(places, [row.name for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel("agreement (Spearman's rho over pairs of stimuli)", fontsize=9)
    figure.legend(fontsize=8, frameon=False, ncols=2, loc="outside lower center")
    return svg(figure)


def block_means(matrix: FloatArray, *, most: int) -> FloatArray:
    """Mean of neighbouring rows and columns, so that at most so many of each remain; NaN is left out.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
    most : int

    Returns
    -------
    ndarray of shape (min(n, most), min(n, most))
    """
    n = len(matrix)
    if n <= most:
        return matrix
    starts = np.linspace(0, n, most, endpoint=False).astype(np.int64)

    def summed(values: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(np.add.reduceat(values, starts, axis=0), starts, axis=1))

    known = np.isfinite(matrix)
    count = summed(known.astype(np.float64))
    total = summed(np.where(known, matrix, 0.0))
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def mean_ranks(similarity: FloatArray, group: IntArray) -> tuple[float, float]:
    """Mean rank of pairs of one group and of pairs of two groups, each from 0 to 1; NaN where there is no such pair."""
    ranks = rank_matrix(similarity)
    same = np.asarray(group)[:, None] == np.asarray(group)
    known = np.isfinite(ranks)
    within, between = ranks[same & known], ranks[~same & known]
    return (
        float(within.mean()) if len(within) else float("nan"),
        float(between.mean()) if len(between) else float("nan"),
    )


def _name_groups(axes: Axes, group: IntArray, names: Sequence[str]) -> None:
    """Lines between groups; names of the largest ones, where there is no room for all."""
    numbers, starts, counts = np.unique(group, return_index=True, return_counts=True)
    # More lines would hide what lies between them.
    if len(numbers) <= min(_MOST_NAMES, len(group) / 2):
        for start in starts[1:]:
            axes.axhline(start, color="white", linewidth=0.6)
            axes.axvline(start, color="white", linewidth=0.6)
    room = len(group) / _MOST_NAMES
    shown: list[int] = []
    centres = starts + counts / 2
    for k in np.argsort(-counts, kind="stable"):
        if all(abs(centres[k] - centres[other]) >= room for other in shown):
            shown.append(int(k))
    shown.sort()
    axes.set_yticks(centres[shown], [_short(names[numbers[k]]) for k in shown], fontsize=8)
    axes.tick_params(axis="y", length=2)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
