"""When the volumes of a run were acquired, by its header and sidecar; no volume is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.images.nifti_stream import named
from clipmused_bids.dataset.images.series import header_repetition_time, image_path
from clipmused_bids.dataset.runs.sidecars import repetition_time
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, Run


def volume_times(run: Run) -> tuple[FloatArray, float]:
    """Acquisition time of each volume, StartTime + k TR, and TR; all in s.

    Raises
    ------
    DataError
        If the run has no image, the image is no series, or neither sidecar nor header state the TR.
    """
    import nibabel

    path = image_path(run)
    require_content(path)
    with named(path):
        image: Any = nibabel.load(path)
    if len(image.shape) != 4:
        raise DataError(f"{run.label}: {path} is {len(image.shape)}-D; a 4-D series was expected.")
    seconds = repetition_time(run, header_repetition_time(image))
    return float(run.metadata.get("StartTime") or 0.0) + seconds * np.arange(image.shape[3]), seconds
