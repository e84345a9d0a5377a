"""Patches of a volume: the 3D CNN of the paper's HCP model.

Shape suffixes: B batch, V voxels of the mask, X Y Z axes of the padded volume, C channels, M patches, D width.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clipmused_bids.errors import DataError
from clipmused_bids.records import IntArray

STRIDE = 16


@dataclass(frozen=True)
class PaddedBox:
    """Bounding box of a mask, padded to a multiple of 16 along each axis.

    Parameters
    ----------
    shape : tuple of int
        Size of the padded box in voxels.
    index : ndarray of int, shape (n_voxels,)
        C-order flat index of each masked voxel in the padded box.
    """

    shape: tuple[int, int, int]
    index: IntArray


def padded_box(voxels: IntArray, *, grid_shape: tuple[int, int, int]) -> PaddedBox:
    """Crop a grid to the mask's bounding box and pad it, evenly on both sides, to multiples of 16.

    Parameters
    ----------
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each voxel in the grid.
    grid_shape : tuple of int
        Size of the grid in voxels.

    Returns
    -------
    PaddedBox

    Raises
    ------
    DataError
        If there is no voxel.
    """
    if len(voxels) == 0:
        raise DataError("The mask holds no voxel; the CNN needs at least one.", hint="check --mask")
    position = np.stack(np.unravel_index(voxels, grid_shape))
    low = position.min(axis=1)
    size = position.max(axis=1) - low + 1
    padded = -(-size // STRIDE) * STRIDE
    shape = (int(padded[0]), int(padded[1]), int(padded[2]))
    moved = position - low[:, None] + ((padded - size) // 2)[:, None]
    return PaddedBox(shape=shape, index=np.ravel_multi_index(tuple(moved), shape))


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of up to eight groups with at least four channels each.

    Its result does not depend on the size of the batch or the number of processes, as that of BatchNorm does.
    """
    return nn.GroupNorm(math.gcd(8, channels, max(1, channels // 4)), channels)


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions and a shortcut: ``relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))``.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    stride : int
        Of the first convolution.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv3d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            group_norm(n_out),
            nn.ReLU(inplace=True),
            nn.Conv3d(n_out, n_out, 3, padding=1, bias=False),
            group_norm(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv3d(n_in, n_out, 1, stride=stride, bias=False), group_norm(n_out)
            )

    def forward(self, x_BCXYZ: Tensor) -> Tensor:
        """Return (B, n_out, X/stride, Y/stride, Z/stride)."""
        # In place: the backward pass of a norm reads its input, so that nobody needs its output again. A third less
        # of the forward pass is kept, and values and gradients are the same to the bit.
        sum_BCXYZ = self.path(x_BCXYZ)
        sum_BCXYZ += self.shortcut(x_BCXYZ)
        return sum_BCXYZ.relu_()  # type: ignore[no-any-return]


def _stem(n_in: int, n_out: int) -> nn.Sequential:
    conv = nn.Conv3d(n_in, n_out, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(conv, group_norm(n_out), nn.ReLU(inplace=True))


def _stage(n_in: int, n_out: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(n_in, n_out, stride=stride), ResidualBlock(n_out, n_out, stride=1))


class CnnPatches(nn.Module):
    """Patches from a 3D CNN over the volume; all weights are shared by all participants.

    Six stages: conv 1->32 (7^3, stride 2), conv 32->64 (7^3, stride 2), then four residual stages of two basic
    blocks each with 64, 128, D, D channels and strides 1, 2, 2, 1. A box of 112 x 128 x 112 voxels gives
    7 x 8 x 7 patches of width D. The volume is scattered from the masked voxels on the device of the data.

    Parameters
    ----------
    voxels : ndarray of int, shape (n_voxels,)
        C-order flat index of each voxel in the grid.
    grid_shape : tuple of int
        Size of the grid in voxels.
    width : int
        D.

    References
    ----------
    Zhou, Du, Wang, He 2024, arXiv 2402.08994 (D = 512; there with BatchNorm).
    """

    index: Tensor

    def __init__(self, voxels: IntArray, *, grid_shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        box = padded_box(voxels, grid_shape=grid_shape)
        self.box_shape = box.shape
        self.n_features = len(voxels)
        self.n_patches = math.prod(size // STRIDE for size in box.shape)
        self.register_buffer("index", torch.as_tensor(box.index), persistent=False)
        self.net = nn.Sequential(
            _stem(1, 32),
            _stem(32, 64),
            _stage(64, 64, stride=1),
            _stage(64, 128, stride=2),
            _stage(128, width, stride=2),
            _stage(width, width, stride=1),
        )
        for module in self.net.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def features(self, x_BV: Tensor, participant: int) -> Tensor:  # noqa: ARG002 - nothing is a participant's own
        """Return the voxels (B, V) as they are."""
        return x_BV

    def embed(self, x_BV: Tensor) -> Tensor:
        """Return the patches (B, M, D), in C order of the box."""
        flat = x_BV.new_zeros(len(x_BV), math.prod(self.box_shape)).index_copy(1, self.index, x_BV)
        # Channels last takes 3 % less processor time, and only with weights in that order: moments that a resumed
        # training reads back would have another order than those of one that went through (benchmarks/network.py).
        # In bfloat16 oneDNN 3.13 computes gradients of 3^3 weights from unwritten memory, where maps are 2 voxels wide.
        on_processor = x_BV.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_processor else nullcontext():
            volume = flat.view(-1, 1, *self.box_shape)
            maps_BDXYZ = self.net(volume.float() if on_processor else volume)
        return maps_BDXYZ.flatten(2).transpose(1, 2)  # type: ignore[no-any-return]
