"""Figures as SVG and PNG, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipmused_bids.records import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any kind of colour vision.
OUR_COLOUR, FLOOR_COLOUR, OTHER_COLOURS = (
    "#0072B2",
    "#999999",
    ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
)
MOST_LABELS = 40
PIXELS_PER_INCH = 150


def training_curves(columns: Mapping[str, Sequence[float]], *, best_epoch: int) -> bytes:
    """Draw loss terms and the validation score against the epoch, and below how the tokens do where there are any.

    Parameters
    ----------
    columns : mapping of str to sequence of float
        Training history: one value for each epoch.
        Values before training come first (epoch 0).
    best_epoch : int
        Epoch whose weights were kept; marked by a line.

    Returns
    -------
    bytes
        SVG.
    """
    losses = {name: values for name, values in columns.items() if name.startswith(("loss", "val_loss"))}
    scores = {"validation mAP": columns["val_map"]} if "val_map" in columns else {}
    rows: list[dict[str, Mapping[str, Sequence[float]]]] = [{"loss": losses, "validation score": scores}]
    if any(name.startswith("rank_") for name in columns):
        rows.append(_token_curves(columns))
    figure = new_figure(width=8.0, height=3.6 * len(rows))
    parts = figure.subfigures(len(rows), 1, squeeze=False)
    for part, panels in zip(parts[:, 0], rows, strict=True):
        for place, (title, curves) in enumerate(panels.items(), start=1):
            axes = part.add_subplot(1, len(panels), place)
            _draw_curves(axes, curves, best_epoch=best_epoch)
            axes.set(xlabel="epoch", title=title)
            if title == "loss" and curves:
                axes.set_yscale("log")
    return svg_bytes(figure)


def _token_curves(columns: Mapping[str, Sequence[float]]) -> dict[str, Mapping[str, Sequence[float]]]:
    """Three panels: directions of each token, cosine between trials, agreement with both levels of CLIP."""

    def curves(prefix: str, words: str) -> dict[str, Sequence[float]]:
        found = {name: values for name, values in columns.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix).replace("_", words): values for name, values in found.items()}

    return {
        "effective rank of tokens": curves("rank_", " "),
        "mean cosine of trials": curves("cosine_", " "),
        "agreement with CLIP": curves("agreement_", " with CLIP "),
    }


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[float]], *, best_epoch: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for colour, (name, values) in zip((OUR_COLOUR, *OTHER_COLOURS) * 3, curves.items(), strict=False):
        style = "--" if name.startswith("val") else "-"
        axes.plot(np.arange(len(values)), values, color=colour, linestyle=style, label=name.replace("_", " "))
    axes.axvline(best_epoch, color=FLOOR_COLOUR, linestyle="--", linewidth=1, label="weights kept")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Below the axes, where it hides no curve.
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))


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
    figure = new_figure(width=5.2, height=1.4 + 0.24 * (max(len(order), 1) + (gap is not None)))
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
    return svg_bytes(figure)


def drawn_labels(scores: FloatArray) -> tuple[list[int], int | None]:
    """Labels that `label_scores` draws, best first, and after how many of them a part is left out."""
    order = [int(k) for k in np.argsort(-scores, kind="stable") if np.isfinite(scores[k])]
    if len(order) <= MOST_LABELS:
        return order, None
    half = MOST_LABELS // 2
    return [*order[:half], *order[-half:]], half


def _short(name: str, *, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."


def new_figure(*, width: float, height: float) -> Figure:
    """Make an empty figure, sizes in inches; what is drawn keeps clear of other things by itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg_bytes(figure: Figure) -> bytes:
    """Write a figure of lines and bars."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Text stays text, and equal figures are equal bytes: no date, no random identifiers.
    with rc_context({"svg.hashsalt": "clipmused", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """Write a figure of pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
