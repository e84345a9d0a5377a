"""Who is in a dataset."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.runs.names import expand_labels, natural_key, strip_prefix
from clipmused_bids.errors import DatasetError, MissingInputError, SelectionError


def list_participants(bids_dir: Path) -> tuple[str, ...]:
    """Labels of the participants that have a ``sub-`` folder, without prefix, in natural order.

    Raises
    ------
    MissingInputError
        If the folder does not exist.
    """
    try:
        with os.scandir(bids_dir) as entries:
            labels = [
                e.name.removeprefix("sub-") for e in entries if e.name.startswith("sub-") and e.is_dir()
            ]
    except OSError as error:
        raise MissingInputError(f"BIDS folder {bids_dir}: {error.strerror}.") from error
    return tuple(sorted(labels, key=natural_key))


def participants_in_table(bids_dir: Path) -> tuple[str, ...]:
    """Labels in ``participants.tsv``, without prefix, in the table's order; none if there is no table."""
    path = Path(bids_dir) / "participants.tsv"
    if not path.is_file():
        return ()
    return tuple(strip_prefix(cell, "sub") for cell in read_table(path).columns.get("participant_id", ()))


def select_participants(
    bids_dir: Path, *, wanted: tuple[str, ...], excluded: tuple[str, ...]
) -> tuple[str, ...]:
    """Participants to work on, in natural order.

    Parameters
    ----------
    bids_dir : Path
    wanted, excluded : tuple of str
        Labels with or without prefix, or paths of text files with one label a line. No ``wanted`` means all.

    Raises
    ------
    SelectionError
        If a label does not exist (existing and nearest labels are named) or nobody is left.
    DatasetError
        If the dataset has no participants.
    """
    existing = list_participants(bids_dir)
    if not existing:
        raise DatasetError(
            f"{bids_dir}: no sub-* folder; this is not the root of a BIDS dataset.",
            hint="give the folder that holds dataset_description.json and the sub-* folders",
        )
    return choose_participants(existing, wanted=wanted, excluded=excluded)


def choose_participants(
    existing: tuple[str, ...], *, wanted: tuple[str, ...], excluded: tuple[str, ...]
) -> tuple[str, ...]:
    """Those of the existing participants that are asked for; parameters and errors as in ``select_participants``."""
    chosen = expand_labels(wanted, prefix="sub") or existing
    without = expand_labels(excluded, prefix="sub")
    for flag, labels in (("--participant-label", chosen), ("--exclude-participant-label", without)):
        _check_exist(labels, existing=existing, flag=flag)
    left = tuple(label for label in existing if label in chosen and label not in without)
    if not left:
        raise SelectionError("All participants that were asked for are excluded as well.")
    return left


def _check_exist(labels: tuple[str, ...], *, existing: tuple[str, ...], flag: str) -> None:
    unknown = [label for label in labels if label not in existing]
    if not unknown:
        return
    near = list(dict.fromkeys(match for label in unknown for match in nearest(label, existing)))
    shown = ", ".join(existing[:20]) + (f" and {len(existing) - 20} more" if len(existing) > 20 else "")
    raise SelectionError(
        f"No participant {', '.join(unknown)} in the dataset; there are {shown}.",
        hint=f"did you mean {flag} {' '.join(near)}?" if near else f"{flag} takes labels that exist",
    )


def nearest(label: str, existing: tuple[str, ...]) -> list[str]:
    """Existing labels that a mistyped one may stand for: other zero padding first, then similar spelling."""
    same_number = [
        name for name in existing if label.isdecimal() and name.isdecimal() and int(name) == int(label)
    ]
    return same_number or difflib.get_close_matches(label, existing, n=3, cutoff=0.5)
