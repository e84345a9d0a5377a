"""Which column of an events file names the stimuli."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from clipmused_bids.dataset.files.tsv import is_missing
from clipmused_bids.errors import UsageError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MOVIE_EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".flv")
STIMULUS_COLUMNS = (
    "stim_file", "stim_id", "file_path", "image_path", "stim", "stimname", "stim_name", "stimulus_name",
    "ImgName", "image", "identifier", "73k_id", "73KID",
)  # fmt: skip
_LAST_RESORT = ("condition", "trial_type")


def choose_column(columns: Mapping[str, Sequence[str]], *, wanted: str | None) -> str | None:
    """Choose the column that names the stimuli.

    Parameters
    ----------
    columns : mapping of str to sequence of str
        Cells of each column.
    wanted : str or None
        ``--stimulus-column``.

    Returns
    -------
    str or None
        What was asked for; else the first of the columns public datasets use that holds any value; else
        ``condition`` or ``trial_type`` if at least half of its values look like images or movies; else None.

    Raises
    ------
    UsageError
        If the column that was asked for does not exist.
    """
    if wanted is not None:
        if wanted not in columns:
            raise UsageError(
                f"--stimulus-column {wanted}: no such column; columns are {', '.join(columns)}.",
                hint="name a column of events.tsv",
            )
        return wanted
    for name in STIMULUS_COLUMNS:
        if any(not is_missing(cell) for cell in columns.get(name, ())):
            return name
    for name in _LAST_RESORT:
        cells = columns.get(name, ())
        if cells and 2 * sum(looks_like_image(cell) or looks_like_movie(cell) for cell in cells) >= len(
            cells
        ):
            return name
    return None


def looks_like_image(cell: str) -> bool:
    """Whether a cell ends like the name of an image file."""
    return cell.lower().endswith(IMAGE_EXTENSIONS)


def looks_like_movie(cell: str) -> bool:
    """Whether a cell ends like the name of a movie file."""
    return cell.lower().endswith(MOVIE_EXTENSIONS)


def looks_like_file(cell: str) -> bool:
    """Whether a cell holds a path or ends with a file name's extension."""
    return bool(re.search(r"[/\\]|\.[A-Za-z][A-Za-z0-9]{1,4}$", cell))
