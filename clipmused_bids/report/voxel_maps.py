"""Maps of how good voxels are, as slices: temporal signal-to-noise ratio, noise ceiling, reliability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmused_bids.records import FloatArray, Grid, IntArray
from clipmused_bids.report.blocks import Figure
from clipmused_bids.report.canvas import png, quietly

_MOST_SLICES = 4
_WIDTH, _BAR = 5.0, 0.75  # in


@dataclass(frozen=True)
class VoxelMap:
    """One number for each voxel of a participant.

    Parameters
    ----------
    name : str
        What it is, as a sentence begins: ``Temporal signal-to-noise ratio``.
    unit : str
        Beside the colour bar.
    values : ndarray of shape (n_voxels,)
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each voxel in the grid.
    grid : Grid
    mark : float
        The share of voxels above it is told.
    mark_words : str
        The mark with its unit.
    about : str
        What it tells and what it does not.
    """

    name: str
    unit: str
    values: FloatArray
    voxels: IntArray
    grid: Grid
    mark: float
    mark_words: str
    about: str

    @property
    def sentence(self) -> str:
        """Median, and share of voxels above the mark."""
        above = 100 * float((self.values > self.mark).mean())
        return (
            f"{self.name}: median {float(np.median(self.values)):.3g} over {len(self.values):,} voxels; "
            f"{above:.0f}\u00a0% of them are above {self.mark_words}."
        )


def voxel_figure(voxel_map: VoxelMap) -> Figure:
    """Draw some axial slices with a colour bar; at its caption the median and the share above the mark."""
    heights = slice_heights(voxel_map.voxels, voxel_map.grid)
    low, high = colour_limits(voxel_map.values)
    return Figure(
        image=_draw(voxel_map, heights, low=low, high=high),
        media_type="image/png",
        alt=f"{len(heights)} axial slices of a map. {voxel_map.sentence}",
        caption=f"{voxel_map.sentence} Axial slices on the grid of the data, seen from above (L: left; z in mm); "
        f"colours end at the 2nd and the 98th percentile. {voxel_map.about}",
    )


def slice_heights(voxels: IntArray, grid: Grid, *, most: int = _MOST_SLICES) -> list[float]:
    """Heights in mm of some axial slices: quantiles of the voxels' own, so that each slice holds a part of them."""
    places = np.column_stack([*np.unravel_index(voxels, grid.shape), np.ones(len(voxels))])
    heights = np.round(places @ grid.affine[2], 3)
    wanted = np.quantile(heights, (np.arange(most) + 0.5) / most, method="nearest")
    return sorted({float(height) for height in wanted})


def colour_limits(values: FloatArray) -> tuple[float, float]:
    """Ends of the colours: 2nd and 98th percentile, apart from each other where all values are one."""
    low, high = (float(end) for end in np.quantile(values, (0.02, 0.98)))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _draw(voxel_map: VoxelMap, heights: list[float], *, low: float, high: float) -> bytes:
    import nibabel
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure as Canvas
    from nilearn.image.resampling import get_bounds
    from nilearn.plotting import plot_img

    # Nilearn leaves clear what is below a threshold: values are drawn from 1 upwards, and 0 is where there is none.
    volume = np.zeros(voxel_map.grid.shape, dtype=np.float32)
    volume.flat[voxel_map.voxels] = 1 + np.clip((voxel_map.values - low) / (high - low), 0, 1)
    make: Any = nibabel.Nifti1Image
    height = _height(voxel_map, len(heights))
    figure = Canvas(figsize=(_WIDTH, height))
    each = (1 - 1.1 * _BAR / _WIDTH) / len(heights)
    image = make(volume, voxel_map.grid.affine)
    lowest, highest = get_bounds(volume.shape, voxel_map.grid.affine)[2]
    # Nilearn refuses a slice that rounding has put outside of the image.
    inside = 1e-4 * (highest - lowest)
    for k, place in enumerate(heights):
        kept = float(np.clip(place, lowest + inside, highest - inside))
        # Side by side nilearn would leave no gap between slices that fill their box.
        display = quietly(
            plot_img, image, figure=figure, axes=(k * each, 0.0, 0.95 * each, 1.0), display_mode="z",
            cut_coords=[kept], cmap="viridis", vmin=1, vmax=2, threshold=0.5, colorbar=False, black_bg=False,
            annotate=False, draw_cross=False, resampling_interpolation="nearest",
        )  # fmt: skip
        display.annotate(size=9, left_right=k == 0)
    bar = figure.add_axes((1 - 0.95 * _BAR / _WIDTH, 0.1, 0.12 / _WIDTH, 0.72))
    colours = figure.colorbar(ScalarMappable(Normalize(low, high), cmap="viridis"), cax=bar)
    colours.ax.tick_params(labelsize=8)
    figure.text(0.995, 0.97, voxel_map.unit, ha="right", va="top", fontsize=8)
    return png(figure)


def _height(voxel_map: VoxelMap, n_slices: int) -> float:
    """Height in inches at which slices side by side fill the width; not more than a hand's breadth."""
    places = np.column_stack([*np.unravel_index(voxel_map.voxels, voxel_map.grid.shape)])
    size = np.linalg.norm(voxel_map.grid.affine[:3, :3], axis=0)
    extent = (np.ptp(places, axis=0) + 1) * size
    return float(np.clip((_WIDTH - _BAR) / n_slices * extent[1] / extent[0], 1.2, 2.4))
