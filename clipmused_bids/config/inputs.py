"""What is asked for and where it lies: selection of runs, inputs, and how events are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from clipmused_bids.errors import UsageError

_RESAMPLE = r"[A-Za-z0-9]+(:cohort-\d+)?:res-\d+"
LONGEST_INTERVAL = 60.0  # s; samples farther apart are trials of their own
_HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5|hdf))(?::(?P<dataset>.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """What is asked for; empty means everything.

    Parameters
    ----------
    participants, exclude_participants : tuple of str
        Labels with or without ``sub-``, or text files with one a line.
    sessions, tasks : tuple of str
        Labels without prefix.
    runs : tuple of int
    space : str or None
    filter_file : str or None
        ``--bids-filter-file``: a JSON file of entity filters by kind of file, as fMRIPrep takes it.
    """

    participants: tuple[str, ...] = ()
    exclude_participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    runs: tuple[int, ...] = ()
    space: str | None = None
    filter_file: str | None = None


@dataclass(frozen=True)
class InputOptions:
    """Where things are and how events are read.

    Parameters
    ----------
    derivatives : tuple of str
        ``PATH`` or ``NAME=PATH``; empty for what lies in ``<bids>/derivatives``.
    betas : str or None
        ``--betas``: a table of existing responses that takes the place of images and events.
    stimuli_dirs : tuple of str
        Folders of stimulus files, or ``FILE.hdf5:/dataset`` for a bank of images.
    stimulus_map : str or None
        Table of ``stimulus_id`` and ``filename`` (and ``label_id``, ...); goes before the dataset's own.
    stimulus_index_base : {0, 1} or None
        What the first row of an image bank is called in the events.
    labels, captions : tuple of str
        Tables, COCO files; for movies also annotations over time and ``FILE.hdf5:/dataset``.
    targets : str or None
        Features of the stimuli made elsewhere (safetensors); no CLIP model is needed then.
    movie : str or None
        The movie that events which log its frames belong to; may hold ``{run}``, ``{session}``, ``{task}``.
    frame_interval : float or None
        Seconds between samples of a movie; None: 1 s or the TR, whichever is longer, and clips shorter than 10 s are
        trials.
    resample : str or None
        Template grid (``MNI152NLin2009cAsym:res-2``) that images of a common space are brought to.
    merge_blocks : str
        ``auto``, ``off``, or the largest gap in s within a block.
    common_space : bool or None
        None: decided by the name of the space.
    """

    derivatives: tuple[str, ...] = ()
    betas: str | None = None
    stimuli_dirs: tuple[str, ...] = ()
    stimulus_column: str | None = None
    stimulus_map: str | None = None
    stimulus_index_base: Literal[0, 1] | None = None
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    targets: str | None = None
    movie: str | None = None
    frame_interval: float | None = None
    resample: str | None = None
    mask: str | None = None
    atlas: str | None = None
    confounds: Literal["default", "simple", "motion", "compcor", "scrubbing", "none"] = "default"
    trial_types: tuple[str, ...] = ()
    merge_blocks: str = "auto"
    common_space: bool | None = None

    def __post_init__(self) -> None:
        if self.merge_blocks not in {"auto", "off"} and not _is_positive_number(self.merge_blocks):
            raise UsageError(
                f"--merge-blocks {self.merge_blocks}: expected auto, off or a number of seconds.",
                hint="for example --merge-blocks 4",
            )
        if self.resample is not None and not re.fullmatch(_RESAMPLE, self.resample):
            raise UsageError(
                f"--resample {self.resample}: expected a template and the number of its resolution.",
                hint="for example --resample MNI152NLin2009cAsym:res-2",
            )
        if self.frame_interval is not None and not 0 < self.frame_interval <= LONGEST_INTERVAL:
            raise UsageError(f"--frame-interval must lie in 0 to {LONGEST_INTERVAL:g} s.")


def hdf5_place(place: str) -> tuple[str, str] | None:
    """File and dataset of ``FILE.hdf5:/dataset``, a place in an HDF5 file; None for anything else.

    The dataset is "" where it is not named.
    """
    match = _HDF5.fullmatch(place)
    return None if match is None else (match["file"], match["dataset"] or "")


def _is_positive_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
