"""Regions where no atlas is given: clusters of voxels that respond alike, or compact boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import DataError
from clipmused_bids.records import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import coo_array


def cluster_regions(responses: FloatArray, mask: BoolArray, *, n_regions: int) -> NDArray[np.int64]:
    """Cut the mask into contiguous regions of voxels with similar responses (Ward clustering).

    Parameters
    ----------
    responses : ndarray of shape (n_trials, n_voxels)
        Standardised training responses; voxels in C order of the mask.
    mask : ndarray of bool, shape (x, y, z)
    n_regions : int
        At most; a mask with fewer voxels gives one region for each.

    Returns
    -------
    ndarray of int, shape (n_voxels,)
        Region of each voxel, 0 to n_regions - 1, numbered by their first voxel. The same input gives the same
        regions. Parts of the mask that do not touch are linked by their nearest voxels.

    Raises
    ------
    DataError
        If responses and mask differ in voxels, or responses are not finite.

    References
    ----------
    Ward 1963, doi:10.1080/01621459.1963.10500845; Thirion et al. 2014, doi:10.3389/fnins.2014.00167
    """
    from sklearn.cluster import FeatureAgglomeration

    n_voxels = _count(mask)
    if responses.shape[1] != n_voxels:
        raise DataError(f"responses of {responses.shape[1]} voxels, a mask of {n_voxels}.")
    if not np.isfinite(responses).all():
        raise DataError("regions cannot be made: responses hold NaN or infinite values.")
    if n_regions >= n_voxels or n_regions < 2:
        return np.arange(n_voxels) if n_regions >= n_voxels else np.zeros(n_voxels, dtype=np.int64)
    clustering = FeatureAgglomeration(n_clusters=n_regions, connectivity=_neighbours(mask), linkage="ward")
    return _in_order(clustering.fit(responses).labels_)


def grid_regions(
    mask: BoolArray, *, n_regions: int, voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> NDArray[np.int64]:
    """Cut the mask into compact boxes of nearly equal numbers of voxels, halving the longest side each time.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    n_regions : int
        At most; a mask with fewer voxels gives one region for each.
    voxel_size : tuple of float
        In mm, to tell which side is the longest.

    Returns
    -------
    ndarray of int, shape (n_voxels,)
        Region of each voxel in C order of the mask, 0 to n_regions - 1, numbered by their first voxel.

    Raises
    ------
    DataError
        If the mask is empty.
    """
    n_voxels = _count(mask)
    position = np.argwhere(mask) * np.asarray(voxel_size)
    region = np.empty(n_voxels, dtype=np.int64)
    pieces = [(np.arange(n_voxels), min(max(n_regions, 1), n_voxels))]
    n_done = 0
    while pieces:
        voxels, n_parts = pieces.pop()
        if n_parts == 1:
            region[voxels] = n_done
            n_done += 1
            continue
        axis = int(np.ptp(position[voxels], axis=0).argmax())
        ordered = voxels[np.argsort(position[voxels, axis], kind="stable")]
        cut = len(voxels) * (n_parts // 2) // n_parts
        pieces += [(ordered[:cut], n_parts // 2), (ordered[cut:], n_parts - n_parts // 2)]
    return _in_order(region)


def _count(mask: BoolArray) -> int:
    n_voxels = int(mask.sum())
    if n_voxels == 0:
        raise DataError("regions cannot be made: the mask is empty.")
    return n_voxels


def _neighbours(mask: BoolArray) -> coo_array[Any]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.image import grid_to_graph

    graph = coo_array(grid_to_graph(*mask.shape, mask=mask.astype(bool)))
    _, part = connected_components(graph, directed=False)
    links = _links(np.argwhere(mask), part)
    ones = np.ones(2 * len(links), dtype=graph.dtype)
    rows = np.concatenate([graph.row, links[:, 0], links[:, 1]])
    columns = np.concatenate([graph.col, links[:, 1], links[:, 0]])
    return coo_array((np.concatenate([graph.data, ones]), (rows, columns)), shape=graph.shape)


def _links(position: IntArray, part: IntArray) -> IntArray:
    """Pairs of nearest voxels that join every part to those joined before it, starting at the first."""
    from scipy.spatial import cKDTree

    links = []
    joined = part == part[0]
    while not joined.all():
        outside = np.flatnonzero(~joined)
        distance, nearest = cKDTree(position[joined]).query(position[outside])
        closest = int(np.argmin(distance))
        links.append((outside[closest], np.flatnonzero(joined)[np.asarray(nearest)[closest]]))
        joined |= part == part[outside[closest]]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _in_order(labels: IntArray) -> NDArray[np.int64]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
