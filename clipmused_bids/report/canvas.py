"""What all figures share: colours, an empty figure without a display, its bytes, and silence."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any kind of colour vision.
OUR_COLOUR, FLOOR_COLOUR, OTHER_COLOURS = (
    "#0072B2",
    "#999999",
    ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
)


PIXELS_PER_INCH = 150


def blank(*, width: float, height: float) -> Figure:
    """Make an empty figure; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure) -> bytes:
    """Write a figure as SVG. Text stays text, and equal figures are equal bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # No date, no random identifiers.
    with rc_context({"svg.hashsalt": "clipmused", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Figure, *, margins: Literal["kept", "cut"] = "kept") -> bytes:
    """Write a figure of pixels as PNG; equal figures are equal bytes.

    Parameters
    ----------
    figure : Figure
    margins : {"kept", "cut"}
        Whether the empty margins that squares leave stay.
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=PIXELS_PER_INCH, facecolor="white", metadata={"Software": None},
        bbox_inches="tight" if margins == "cut" else None, pad_inches=0.05,
    )  # fmt: skip
    return buffer.getvalue()


def quietly(draw: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Draw without nilearn's remarks on maps that are empty, constant or of one slice: captions say what they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return draw(*arguments, **options)
