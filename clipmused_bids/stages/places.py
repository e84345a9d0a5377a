"""Where outputs may go: a place that can be written to, outside of everything that is only read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.errors import CannotCreateError


def require_writable(folder: Path, *, option: str = "OUTPUT_DIR") -> None:
    """Refuse a folder that cannot be made or written to, before anything is computed.

    Raises
    ------
    CannotCreateError
        Names the folder that stands in the way.
    """
    existing = nearest_folder(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "read-only or not yours" if existing.is_dir() else "a file, not a folder"
        raise CannotCreateError(
            f"{folder}: outputs cannot be written there ({existing} is {why}).",
            hint=f"give another {option}; in a container bind it without :ro, e.g. -B /path/to/out:/out",
        )


def nearest_folder(place: Path) -> Path:
    """The place itself or, where it does not exist, what is nearest above it."""
    return next(parent for parent in (place, *place.absolute().parents) if parent.exists())


def require_own_place(folder: Path, *, bids_dir: Path, derivatives: Sequence[Derivative]) -> None:
    """Refuse an output folder inside of what is read: below ``BIDS_DIR``, only ``derivatives/`` takes outputs.

    Raises
    ------
    CannotCreateError
        If the folder is the raw dataset or a derivative that is read, or lies in one.
    """
    here, root = _real(folder), _real(bids_dir)
    for derivative in derivatives:
        there = _real(derivative.path)
        # A described derivative of ours may be read and added to; what is not ours is refused by its description.
        ours = here == there and derivative.described
        if here.is_relative_to(there) and not ours and not root.is_relative_to(there):
            raise CannotCreateError(
                f"{folder}: lies in the derivative {derivative.name} ({derivative.path}), which is only read.",
                hint="choose a folder of its own as OUTPUT_DIR, e.g. BIDS_DIR/derivatives/clipmused",
            )
    if here.is_relative_to(root) and (here == root or here.relative_to(root).parts[0] != "derivatives"):
        raise CannotCreateError(
            f"{folder}: lies in the raw dataset {bids_dir}, which is only read.",
            hint="choose a folder elsewhere as OUTPUT_DIR, or BIDS_DIR/derivatives/clipmused",
        )


def _real(path: Path) -> Path:
    # Only for this comparison; names stay as they are written.
    return Path(os.path.realpath(path))
