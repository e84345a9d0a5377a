"""Figures of how labels are decoded: precision against recall, confusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_curve

from clipmused_bids.evaluation.metrics import scorable
from clipmused_bids.records import FloatArray, IntArray
from clipmused_bids.report.canvas import FLOOR_COLOUR, OTHER_COLOURS, OUR_COLOUR, blank, png, svg

MOST_COUNTS, MOST_TICKS = 12, 40
_DARK = 0.55


@dataclass(frozen=True)
class LabelCurve:
    """Precision against recall of one label.

    Parameters
    ----------
    label : str
    role : str
        Why it is shown: best, median, ...
    curves : sequence of (ndarray, ndarray)
        Recall and precision, rising in recall; one pair for each decoder that ranked trials (fold).
    prevalence : float
    average_precision : float
    n_positive : int
    """

    label: str
    role: str
    curves: Sequence[tuple[FloatArray, FloatArray]]
    prevalence: float
    average_precision: float
    n_positive: int


def recall_and_precision(labels: FloatArray, probabilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Recall and precision of one label at every threshold, rising in recall.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n,)
        Trials whose label and probability are known.
    """
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    return recall[::-1], precision[::-1]


def precision_recall(shown: Sequence[LabelCurve], *, title: str) -> bytes:
    """Draw precision against recall, a panel for each label, with the prevalence as a line.

    Parameters
    ----------
    shown : sequence of LabelCurve
    title : str

    Returns
    -------
    bytes
        SVG.
    """
    n_rows = -(-len(shown) // 2)
    figure = blank(width=5.2, height=0.6 + 2.5 * n_rows)
    panels = figure.subplots(n_rows, 2, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, one in zip(panels, shown, strict=False):
        width = 2.0 if len(one.curves) == 1 else 0.8
        for recall, precision in one.curves:
            # Between two thresholds the precision of the next one holds: its area is the average precision.
            axes.step(recall, precision, where="pre", color=OUR_COLOUR, linewidth=width)
        axes.axhline(one.prevalence, color=OTHER_COLOURS[0], linestyle="--", linewidth=1.2)
        axes.set_title(
            f"{one.label} ({one.role})\nAP {one.average_precision:.2f}, {one.n_positive} positives",
            fontsize=9,
        )
        axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.05))
        axes.label_outer()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return svg(figure)


def confusion(truth: IntArray, guess: IntArray, *, n_labels: int) -> IntArray:
    """Count trials by true label (rows) and most probable label (columns), (n_labels, n_labels)."""
    counts: IntArray = confusion_matrix(truth, guess, labels=np.arange(n_labels))
    return counts


def confusion_figure(counts: IntArray, names: Sequence[str], *, title: str) -> bytes:
    """Draw a confusion matrix: the share of each true label's trials, and their counts where there are few labels.

    Parameters
    ----------
    counts : ndarray of int, shape (C, C)
        Rows: true labels. Labels without a trial have a grey row.
    names : sequence of str
    title : str

    Returns
    -------
    bytes
        PNG.
    """
    from matplotlib import colormaps

    n = len(names)
    total = counts.sum(axis=1, keepdims=True)
    share = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    # A PNG is shown larger than its inches say, by 150 dots to 96: so are its letters.
    side = 3.2 if n <= MOST_COUNTS else 5.2
    figure = blank(width=side + 0.9, height=side + 0.4)
    axes = figure.add_subplot()
    colours = colormaps["cividis"].with_extremes(bad="#d9d9d9")
    image = axes.imshow(np.ma.masked_invalid(share), cmap=colours, vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row").ax.tick_params(labelsize=8)
    if n <= MOST_TICKS:
        size = 8 if n <= MOST_COUNTS else 6
        axes.set_xticks(np.arange(n), names, rotation=90, fontsize=size)
        axes.set_yticks(np.arange(n), names, fontsize=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, column in np.argwhere(counts > 0) if n <= MOST_COUNTS else ():
        ink = "black" if share[row, column] > _DARK else "white"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlabel("most probable label", fontsize=9)
    axes.set_ylabel("true label", fontsize=9)
    figure.suptitle(title, fontsize=9)
    return png(figure)


def reliability_curve(
    labels: FloatArray, probabilities: FloatArray, *, n_bins: int
) -> Mapping[str, FloatArray]:
    """Frequency of labels by predicted probability, all scorable labels and trials pooled; empty bins are left out.

    Parameters
    ----------
    labels, probabilities : ndarray of shape (n, C)
        NaN where unknown.
    n_bins : int
        Of equal width.

    Returns
    -------
    mapping
        ``predicted``, ``observed``: means of each bin; ``count``: its entries.
    """
    use = scorable(labels)
    truth, guess = labels[:, use], probabilities[:, use]
    known = ~(np.isnan(truth) | np.isnan(guess))
    flat, flat_guess = truth[known], guess[known]
    observed, predicted = calibration_curve(flat, flat_guess, n_bins=n_bins)
    count, _ = np.histogram(flat_guess, bins=np.linspace(0, 1, n_bins + 1))
    return {"predicted": predicted, "observed": observed, "count": count[count > 0].astype(float)}


def reliability_figure(curve: Mapping[str, FloatArray], *, title: str) -> bytes:
    """Draw observed frequency against predicted probability, and below how many entries each bin holds.

    Returns
    -------
    bytes
        SVG.
    """
    figure = blank(width=5.0, height=5.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=FLOOR_COLOUR, linestyle="--", linewidth=1, label="calibrated")
    upper.plot(curve["predicted"], curve["observed"], "o-", color=OUR_COLOUR, label="this decoder")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that has the label")
    upper.legend(fontsize=9, frameon=False, loc="upper left")
    lower.vlines(curve["predicted"], 0.5, curve["count"], color=OUR_COLOUR, linewidth=6)
    lower.set(yscale="log", ylim=(0.5, None), ylabel="entries", xlabel="predicted probability")
    figure.suptitle(title, fontsize=11)
    return svg(figure)
