"""Maps of voxels as slices: which slices, which colours, and pixels where the voxels lie."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clipmused_bids.records import Grid
from clipmused_bids.report.voxel_maps import VoxelMap, colour_limits, slice_heights, voxel_figure

MNI = Grid((17, 21, 14), np.array([[8.0, 0, 0, -64], [0, 8, 0, -80], [0, 0, 8, -52], [0, 0, 0, 1]]))
ONE_SLICE = Grid((40, 30, 1), np.diag([-3.0, 3.0, 3.5, 1.0]))
CUBE = Grid((10, 10, 10), np.diag([3.0, 3.0, 3.0, 1.0]))


def voxel_map(grid, values=None, voxels=None):
    places = np.arange(int(np.prod(grid.shape))) if voxels is None else voxels
    numbers = np.linspace(0, 100, len(places)) if values is None else values
    return VoxelMap("A ratio", "unit", numbers, places, grid, 40.0, "40", "It tells something.")


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.image)).convert("RGB")).astype(int)


def test_slices_lie_on_voxels_and_share_them():
    inside = np.zeros(MNI.shape, bool)
    inside[:, :, 3:5] = inside[8, 10, 12] = True

    heights = slice_heights(np.flatnonzero(inside), MNI)

    assert heights == [8.0 * 3 - 52, 8.0 * 4 - 52], "a lone voxel gets no slice"
    assert slice_heights(np.arange(1200), ONE_SLICE) == [0.0]
    assert len(slice_heights(np.arange(1000), CUBE)) == 4


def test_colours_end_at_percentiles_and_never_meet():
    assert colour_limits(np.arange(101.0)) == (2.0, 98.0)
    assert colour_limits(np.full(9, 3.0)) == (2.5, 3.5)


def test_the_sentence_counts_voxels_above_the_mark():
    figure = voxel_figure(voxel_map(CUBE, np.arange(1000) / 10))

    assert "median 50 over 1,000 voxels; 60\u00a0% of them are above 40." in figure.caption
    assert figure.media_type == "image/png"


@pytest.mark.parametrize("grid", [MNI, ONE_SLICE, CUBE], ids=["MNI", "one slice", "cube"])
def test_each_geometry_is_drawn(grid):
    n = int(np.prod(grid.shape))
    colours = pixels(voxel_figure(voxel_map(grid, np.where(np.arange(n) % 2, 10.0, 90.0))))

    assert colours.shape[1] == round(5.0 * 160)
    dark, light = (np.abs(colours - ends).sum(axis=2) < 30 for ends in ([68, 1, 84], [253, 231, 37]))
    assert dark[:, :600].mean() > 0.04
    assert light[:, :600].mean() > 0.04


def test_voxels_lie_where_the_affine_says_and_nothing_is_drawn_outside():
    """The right half of the head is bright; in an image whose first axis runs to the left it is the first half."""
    left_first, right_first = (Grid((20, 20, 1), np.diag([sign * 3.0, 3, 3, 1])) for sign in (1, -1))
    inside = np.zeros((20, 20), bool)
    inside[4:16, 4:16] = True
    values = np.where(np.arange(20) >= 10, 90.0, 10.0)[:, None].repeat(20, axis=1)
    for grid, numbers in ((left_first, values), (right_first, values[::-1])):
        drawn = voxel_map(grid, numbers[inside], np.flatnonzero(inside))
        colours = pixels(voxel_figure(drawn))[:, :600]
        bright = np.abs(colours - [253, 231, 37]).sum(axis=2) < 30
        dark = np.abs(colours - [68, 1, 84]).sum(axis=2) < 30
        assert np.nonzero(dark)[1].max() <= np.nonzero(bright)[1].min()
        assert (colours[:, :40] == 255).all(), "clear beside the mask"


def test_the_same_map_is_the_same_bytes():
    first, second = (voxel_figure(voxel_map(ONE_SLICE)).image for _ in range(2))

    assert first == second
