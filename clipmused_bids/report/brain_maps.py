"""Maps of voxels as pictures: slices over a template or the outline of the mask, and a glass brain."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipmused_bids.records import BoolArray, FloatArray
from clipmused_bids.report.canvas import png, quietly

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.5  # inches
_LABEL_SIZE = 11
_SHADES = 16
# Attention that differs from equal attention by less than this is drawn in nearly one colour.
_SMALLEST_SPAN = 0.05


@dataclass(frozen=True)
class BrainMap:
    """A map on a grid whose axes run to the right, to the front and upwards.

    Parameters
    ----------
    title : str
    values : ndarray of shape (x, y, z)
    inside : ndarray of bool, shape (x, y, z)
        Voxels that the map is about.
    affine : ndarray of shape (4, 4)
        From voxel to mm.
    on_template : bool
        Whether the space is an MNI space, so that the anatomy of others can be drawn below it.
    """

    title: str
    values: FloatArray
    inside: BoolArray
    affine: FloatArray
    on_template: bool

    def cuts(self, n_cuts: int) -> list[int]:
        """Slices along the third axis, spread over the voxels inside; as many as there are, at most ``n_cuts``."""
        third = np.flatnonzero(self.inside.any(axis=(0, 1)))
        if len(third) <= n_cuts:
            return [int(k) for k in third]
        places = np.repeat(third, self.inside.sum(axis=(0, 1))[third])
        shares = (np.arange(n_cuts) + 0.5) / n_cuts
        return sorted({int(k) for k in np.quantile(places, shares, method="nearest")})

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, back and front of the grid in mm."""
        return _extent(self.affine, self.values.shape)

    def used_extent(self) -> tuple[float, float, float, float]:
        """The same of the voxels inside, with one voxel around them."""
        left, _, back, _ = self.extent
        size = np.linalg.norm(self.affine[:3, :2], axis=0)
        x, y = (np.flatnonzero(self.inside.any(axis=axes)) for axes in ((1, 2), (0, 2)))
        return (
            left + (x[0] - 1) * size[0], left + (x[-1] + 2) * size[0],
            back + (y[0] - 1) * size[1], back + (y[-1] + 2) * size[1],
        )  # fmt: skip

    def height(self, cut: int) -> float:
        """Position of a slice along the third axis in mm."""
        return float(self.affine[2, 2] * cut + self.affine[2, 3])


@dataclass(frozen=True)
class ColourScale:
    """Colours of a map.

    Parameters
    ----------
    cmap : str
    low, high : float
    label : str
        What the colours mean.
    """

    cmap: Literal["RdBu_r", "viridis"]
    low: float
    high: float
    label: str

    @property
    def clear(self) -> float:
        """Values below this, either way, are left clear where there is anatomy to be seen."""
        return self.high / 100


def drop_scale(values: FloatArray) -> ColourScale:
    """Colours of drops: white at 0, red where something is lost."""
    most = float(np.abs(values).max()) if values.size else 0.0
    limit = most or 1.0
    return ColourScale("RdBu_r", -limit, limit, "drop of mAP")


def attention_scale(values: FloatArray) -> ColourScale:
    """Colours of attention relative to its mean over voxels."""
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)
    return ColourScale(
        "viridis", min(low, 1 - _SMALLEST_SPAN), max(high, 1 + _SMALLEST_SPAN), "times its mean over voxels"
    )


def relative(values: FloatArray, inside: BoolArray) -> FloatArray:
    """Divide a map by its mean over the voxels inside; a map of zeros stays."""
    mean = float(values[inside].mean()) if inside.any() else 0.0
    return values / mean if mean else values


def one_map(brain_map: BrainMap, scale: ColourScale, *, n_cuts: int = 8) -> bytes:
    """Draw slices of a map in rows of four; PNG."""
    cuts = brain_map.cuts(n_cuts)
    n_columns = min(4, len(cuts))
    n_rows = -(-len(cuts) // n_columns)
    height = _row_height(brain_map, n_columns)
    figure = _figure(height=n_rows * height + 0.75)
    bottom = 0.75 / (n_rows * height + 0.75)
    for k, cut in enumerate(cuts):
        row, column = divmod(k, n_columns)
        share = (1 - bottom) / n_rows
        rect = (column / n_columns, 1 - (row + 1) * share, 1 / n_columns, share)
        _cell(figure, rect, brain_map, cut, scale)
    _colour_bar(figure, (0.3, 0.45 / (n_rows * height + 0.75), 0.4, 0.0), scale)
    return small_png(figure)


def side_by_side(maps: Sequence[tuple[BrainMap, ColourScale]], *, n_cuts: int = 3) -> bytes:
    """Draw maps of one grid in columns, the same slices of each; PNG."""
    cuts = maps[0][0].cuts(n_cuts)
    n_columns = len(maps)
    height = min(_row_height(maps[0][0], n_columns), 1.9)
    total = len(cuts) * height + 1.1
    figure = _figure(height=total)
    top, bottom = 1 - 0.35 / total, 0.75 / total
    share = (top - bottom) / len(cuts)
    for column, (brain_map, scale) in enumerate(maps):
        middle = (column + 0.5) / n_columns
        figure.text(middle, 1 - 0.08 / total, brain_map.title, ha="center", va="top", fontsize=11)
        for row, cut in enumerate(cuts):
            rect = (column / n_columns, top - (row + 1) * share, 1 / n_columns, share)
            _cell(figure, rect, brain_map, cut, scale)
        _colour_bar(figure, (middle - 0.4 / n_columns, 0.45 / total, 0.8 / n_columns, 0.0), scale)
    return small_png(figure)


def glass_brain(brain_map: BrainMap, scale: ColourScale) -> bytes:
    """Draw the largest value along each line of sight, from both sides, the back and above; PNG.

    Only where the map is in an MNI space.
    """
    from nilearn.plotting import plot_glass_brain

    figure = _figure(height=2.3)
    quietly(
        plot_glass_brain, _image(brain_map), figure=figure, display_mode="lyrz", cmap=scale.cmap, vmin=scale.low,
        vmax=scale.high, threshold=scale.clear, plot_abs=False, colorbar=False,
    )  # fmt: skip
    return small_png(figure)


def small_png(figure: Figure) -> bytes:
    """Return a figure as a PNG with a palette of 256 colours, a third of the size."""
    from PIL import Image

    packed = io.BytesIO()
    drawn = Image.open(io.BytesIO(png(figure))).convert("RGB")
    drawn.quantize(256).save(packed, format="png", optimize=True)
    return packed.getvalue()


def _cell(
    figure: Figure, rect: tuple[float, float, float, float], brain_map: BrainMap, cut: int, scale: ColourScale
) -> None:
    """Draw one slice: over the template's, or within the outline of the mask."""
    left, bottom, width, height = rect
    axes = figure.add_axes((left + 0.01, bottom + 0.14 * height, 0.98 * width - 0.01, 0.8 * height))
    inside, values = brain_map.inside[:, :, cut].T, brain_map.values[:, :, cut].T
    hidden = ~inside
    if brain_map.on_template:
        _draw_template(axes, brain_map.height(cut))
        hidden = hidden | (np.abs(values) < scale.clear)
    left_side, right_side, back, front = brain_map.extent
    axes.imshow(
        np.ma.masked_array(values, mask=hidden), origin="lower", extent=(left_side, right_side, back, front),
        cmap=scale.cmap, vmin=scale.low, vmax=scale.high, interpolation="nearest",
    )  # fmt: skip
    if not brain_map.on_template:
        _outline(axes, brain_map, inside)
        # The same part of the grid in every slice; what is far from any voxel is left out.
        used = brain_map.used_extent()
        axes.set_xlim(used[0], used[1])
        axes.set_ylim(used[2], used[3])
    axes.set_axis_off()
    axes.set_title(f"z = {brain_map.height(cut):.0f} mm", fontsize=_LABEL_SIZE, y=-0.02, va="top")
    for place, text in ((0.0, "L"), (1.0, "R")):
        axes.text(
            place, 1.0, text, transform=axes.transAxes, fontsize=_LABEL_SIZE, ha="left" if place == 0 else "right",
            va="bottom",
        )  # fmt: skip


def _draw_template(axes: Axes, height: float) -> None:
    anatomy, affine = _template()
    cut = int(np.clip(round((height - affine[2, 3]) / affine[2, 2]), 0, anatomy.shape[2] - 1))
    shown = anatomy[:, :, cut].T
    extent = _extent(affine, anatomy.shape)
    axes.imshow(
        np.ma.masked_array(shown, mask=shown <= 0), origin="lower", extent=extent, cmap="gray", vmin=-0.4, vmax=1.1,
        interpolation="nearest",
    )  # fmt: skip
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])


@cache
def _template() -> tuple[FloatArray, FloatArray]:
    """The anatomy of MNI space that nilearn carries with it, at 2 mm; values from 0 to 1."""
    from nilearn.datasets import load_mni152_template

    image: Any = load_mni152_template(resolution=2)
    # A few shades are enough to know a place by, and make small files.
    shades = np.round(np.asarray(image.dataobj, dtype=np.float32) * _SHADES) / _SHADES
    return shades, np.asarray(image.affine, dtype=float)


def _extent(affine: FloatArray, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Left, right, back and front of a grid in mm; its axes run along those of the space, or nearly so."""
    sides = []
    for axis in (0, 1):
        first, step = float(affine[axis, 3]), float(np.linalg.norm(affine[:3, axis]))
        sides += [first - step / 2, first + (shape[axis] - 0.5) * step]
    return sides[0], sides[1], sides[2], sides[3]


def _outline(axes: Axes, brain_map: BrainMap, inside: BoolArray) -> None:
    """Draw the sides of voxels between inside and outside."""
    from matplotlib.collections import LineCollection

    padded = np.pad(inside, 1)
    lines = [[(x, y - 1), (x, y)] for y, x in np.argwhere(padded[:, 1:] != padded[:, :-1])] + [
        [(x - 1, y), (x, y)] for y, x in np.argwhere(padded[1:] != padded[:-1])
    ]
    left, _, back, _ = brain_map.extent
    size = np.linalg.norm(brain_map.affine[:3, :2], axis=0)
    scaled = [[(left + x * size[0], back + y * size[1]) for x, y in line] for line in lines]
    axes.add_collection(LineCollection(scaled, colors="0.3", linewidths=0.8))


def _colour_bar(figure: Figure, rect: tuple[float, float, float, float], scale: ColourScale) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    left, bottom, width, _ = rect
    axes = figure.add_axes((left, bottom, width, 0.1 / figure.get_figheight()))
    colours = ScalarMappable(Normalize(scale.low, scale.high), cmap=scale.cmap)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=MaxNLocator(4))
    bar.ax.tick_params(labelsize=_LABEL_SIZE)
    bar.set_label(scale.label, fontsize=_LABEL_SIZE)


def _row_height(brain_map: BrainMap, n_columns: int) -> float:
    """Height in inches of a slice that fills a column's width, with its label."""
    if brain_map.on_template:
        return min(WIDTH / n_columns * 1.2, 2.4)
    left, right, back, front = brain_map.used_extent()
    width, height = right - left, front - back
    return float(np.clip(WIDTH / n_columns * height / width, 0.8, 2.4)) + 0.35


def _image(brain_map: BrainMap) -> Any:
    import nibabel

    make: Any = nibabel.Nifti1Image
    return make(brain_map.values.astype(np.float32), brain_map.affine)


def _figure(*, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height))
