"""How a run is portioned so that its responses are estimated within the memory that may be used."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module

from clipmused_bids.dataset.files.memory import available_memory, held_memory
from clipmused_bids.dataset.images.nifti_stream import CHUNK_BYTES
from clipmused_bids.errors import UsageError
from clipmused_bids.responses.projection import VOXEL_BLOCK

logger = logging.getLogger(__name__)

LEAST_VOXELS = 256
# Copies of a run's responses while they are written: estimated, packed, and as the bytes of the file.
_COPIES = 3
# Bytes for each value of a voxel block: as read, and in double precision with what is computed from it.
_BLOCK_BYTES = 44
# Bytes for each voxel of the mask beside the series: positions, checks, scales, indices.
_VOXEL_BYTES = 96
# Bytes for each voxel of the grid while volumes are read and smoothed, beside the chunks: mask and masks' sums.
_GRID_BYTES = 32
_CHUNKS = 4
# Smaller things, buffers of the linear algebra, what was freed and not given back.
_RESERVE = 64 * 2**20


@dataclass(frozen=True)
class Portions:
    """How one run is worked on.

    Parameters
    ----------
    in_memory : bool
        Whether its series is held in memory; else in a scratch file.
    voxel_block : int
        Voxels worked on at a time.
    """

    in_memory: bool
    voxel_block: int


def usable_memory(limit: int | None) -> int:
    """Bytes that may be taken beside what the process holds: up to ``--mem``, else half of what is available."""
    # Loaded now, so that it counts among what is held.
    import_module("nilearn.glm.first_level")
    return available_memory() // 2 if limit is None else limit - held_memory()


def _fixed(*, n_grid: int, n_voxels: int) -> int:
    """Bytes that no portioning saves."""
    return _RESERVE + _CHUNKS * max(CHUNK_BYTES, 8 * n_grid) + _GRID_BYTES * n_grid + _VOXEL_BYTES * n_voxels


def whole_blocks(*, n_scans: int, n_voxels: int, n_grid: int, n_trials: int, keep: bool) -> int:
    """Bytes with which a run is worked on in blocks of the usual size, its series in a scratch file if it may be.

    Parameters are as for `portions`.
    """
    outcome = 4 * n_trials * n_voxels
    working = outcome + VOXEL_BLOCK * _BLOCK_BYTES * n_scans + (4 * n_scans * n_voxels if keep else 0)
    return _fixed(n_grid=n_grid, n_voxels=n_voxels) + max(_COPIES * outcome, working)


def portions(
    usable: int, *, n_scans: int, n_voxels: int, n_grid: int, n_trials: int, keep: bool, label: str
) -> Portions:
    """Portion a run.

    Parameters
    ----------
    usable : int
        Bytes that may be taken.
    n_scans, n_voxels, n_grid, n_trials : int
        Of the run; voxels in the mask and in the grid.
    keep : bool
        Whether the series must be in memory (existing betas are the responses themselves).
    label : str
        Run, for messages.

    Raises
    ------
    UsageError
        If the run cannot be worked on with so little; says how much it needs.
    """
    fixed = _fixed(n_grid=n_grid, n_voxels=n_voxels)
    outcome = 4 * n_trials * n_voxels
    series = 4 * n_scans * n_voxels
    per_voxel = _BLOCK_BYTES * n_scans
    least = fixed + max(_COPIES * outcome, outcome + LEAST_VOXELS * per_voxel + (series if keep else 0))
    if usable < least:
        raise UsageError(
            f"{label}: {_text(max(0, usable))} of memory are left for this run; it needs {_text(least)}.",
            hint=f"--mem {-(-(held_memory() + least) // 2**20)}M, since the process itself holds "
            f"{_text(held_memory())}; or use a smaller mask (--mask FILE)",
        )
    left = usable - fixed - outcome
    # A whole block at the usual size goes before holding the series, which the disk cache holds as well.
    in_memory = keep or series + VOXEL_BLOCK * per_voxel <= left
    block = (left - (series if in_memory else 0)) // per_voxel
    if not in_memory:
        logger.info(
            "%s: the series (%s) is kept in a scratch file, to stay within the memory allowed.",
            label, _text(series),
        )  # fmt: skip
    return Portions(in_memory, int(min(VOXEL_BLOCK, max(LEAST_VOXELS, block))))


def _text(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MB"
