"""How far the head moved from volume to volume, as the confounds of a run say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray

# fMRIPrep's present name, and that before 1.2.
_NAMES = ("framewise_displacement", "FramewiseDisplacement")


def framewise_displacement(path: Path) -> FloatArray | None:
    """Framewise displacement in mm of each volume, NaN where it is not known.

    Parameters
    ----------
    path : Path
        Table of confounds.

    Returns
    -------
    ndarray of shape (n_scans,), or None
        None where the table has no such column.

    Raises
    ------
    MissingInputError
        If the file is not there or was not fetched.
    DataError
        If it is no table, or the column holds no numbers.
    """
    import pandas as pd

    require_content(path)
    try:
        table = pd.read_csv(
            path, sep="\t", na_values=["n/a"], encoding="utf-8-sig", usecols=lambda name: name in _NAMES
        )
        return None if table.empty else np.asarray(table.iloc[:, 0].to_numpy(dtype=float))
    except ValueError as error:
        raise DataError(f"{path}: no framewise displacement can be read ({error}).") from error
