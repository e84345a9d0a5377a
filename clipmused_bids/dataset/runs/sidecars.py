"""Metadata of a run: JSON sidecars, merged by the inheritance principle."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.runs.walk import BidsFile
from clipmused_bids.errors import DataError
from clipmused_bids.records import Run

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3


def merged_metadata(
    serving: Iterable[BidsFile], *, suffix: str, read: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """Merge the sidecars that serve a file; deeper and more specific ones win.

    Parameters
    ----------
    serving : iterable of BidsFile
        JSON files of the file's folder and of those above it whose entities are those of the file.
    suffix : str
        Suffix of the file; sidecars of other suffixes do not serve it.
    read : callable
        From a path to the fields of the file.
    """
    fitting = [file for file in serving if file.name.suffix == suffix]
    merged: dict[str, Any] = {}
    for file in sorted(fitting, key=lambda file: (file.depth, len(file.entities))):
        merged.update(read(file.path))
    return merged


def repetition_time(run: Run, header_tr: float | None) -> float:
    """Repetition time of a run in s; the sidecar wins over the image header.

    Parameters
    ----------
    run : Run
    header_tr : float or None
        Seconds; None where the header does not say. More than 1 ms of difference is logged as a warning.

    Raises
    ------
    DataError
        If neither says, or the sidecar's value is not a positive number.
    """
    stated = run.metadata.get("RepetitionTime")
    if stated is None:
        if header_tr is None:
            raise DataError(
                f"{run.label}: no RepetitionTime, neither in a sidecar nor in the header of {run.image}.",
                hint='add {"RepetitionTime": <seconds>} to the JSON file beside the image',
            )
        return header_tr
    if (
        isinstance(stated, bool)
        or not isinstance(stated, int | float)
        or not math.isfinite(stated)
        or stated <= 0
    ):
        raise DataError(f"{run.label}: RepetitionTime {stated!r} in the sidecar; expected seconds above 0.")
    if header_tr is not None and abs(header_tr - stated) > _TOLERANCE:
        logger.warning(
            "%s: repetition time is %g s in the sidecar and %g s in the image header (%s); the sidecar is used.",
            run.label, stated, header_tr, run.image.name if run.image else "no image",
        )  # fmt: skip
    return float(stated)
