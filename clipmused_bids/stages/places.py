"""Where outputs may go: a place that can be written to, outside of everything that is only read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipmused_bids.dataset.files.leftovers import remove_leftovers
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.errors import CannotCreateError, OutputWriteError
from clipmused_bids.stages.plan import Plan


def require_writable(folder: Path, *, option: str = "OUTPUT_DIR") -> None:
    """Refuse a folder that cannot be made or written to, before anything is computed.

    Raises
    ------
    CannotCreateError
        Names the folder that stands in the way.
    """
    existing = nearest_folder(folder)
    if not existing.is_dir() or not _may_write(existing):
        why = "read-only or not yours" if existing.is_dir() else "a file, not a folder"
        raise CannotCreateError(
            f"{folder}: outputs cannot be written there ({existing} is {why}).",
            hint=f"give another {option}; in a container bind it without :ro, e.g. -B /path/to/out:/out",
        )


def require_writable_below(plan: Plan, tree: OutputTree) -> None:
    """Refuse folders of earlier runs that this one may not write to, such as those another user made.

    Raises
    ------
    CannotCreateError
        Names the first one.
    """
    own = [tree.participant_folder(p) for p in plan.participants]
    for top in (tree.stimuli.parent, tree.model_folder(plan.config.model_label), *own):
        for place, _, _ in os.walk(top):
            if not _may_write(Path(place)):
                raise CannotCreateError(
                    f"{place}: not yours to write to, and outputs of this run belong there.",
                    hint=f"ask its owner for chmod -R g+w {tree.root}, or choose another OUTPUT_DIR",
                )


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


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


def clear_leftovers(plan: Plan, tree: OutputTree) -> None:
    """Remove what killed jobs left unfinished: at level group everywhere, else where this job writes."""
    if plan.config.level == "group":
        remove_leftovers([tree.root])
        return
    remove_leftovers([tree.root], below=False)
    remove_leftovers(
        [
            tree.stimuli.parent,
            tree.model_folder(plan.config.model_label),
            *(tree.participant_folder(p) for p in plan.participants),
        ]
    )


def require_still_there(tree: OutputTree) -> None:
    """Refuse to call a run done whose outputs vanished under it: a disk that was unmounted, a folder that was removed.

    Raises
    ------
    OutputWriteError
        Names the folder.
    """
    if not (tree.root / "dataset_description.json").is_file():
        raise OutputWriteError(
            f"{tree.root}: vanished while the run wrote to it; what was written before is not there any more.",
            hint="see that the disk stays mounted and nobody removes the folder, then run the same command again",
        )


def _real(path: Path) -> Path:
    # Only for this comparison; names stay as they are written.
    return Path(os.path.realpath(path))
