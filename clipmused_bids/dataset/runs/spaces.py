"""Which space the images are in: the choice among several, and whether it is common to people."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from clipmused_bids.dataset.runs.names import natural_key
from clipmused_bids.errors import SelectionError, UsageError

logger = logging.getLogger(__name__)

PREFERRED = ("MNI152NLin2009cAsym", "MNI152NLin6Asym", "T1w")
NATIVE = frozenset(
    {"t1w", "t2w", "func", "bold", "boldref", "individual", "native", "anat", "orig", "scanner", "fsnative"}
)
_DETAILS = ("cohort", "res", "den")
_NO_SPACE = ""


def space_of(entities: Mapping[str, str]) -> str:
    """Space of an image as ``--space`` takes it: ``T1w``, ``MNI152NLin2009cAsym:res-2``; "" without ``space-``."""
    details = [f"{key}-{entities[key]}" for key in _DETAILS if key in entities]
    return ":".join([entities.get("space", _NO_SPACE), *details])


def same_space(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether two images are in one space by their names, at whichever resolution."""
    return all(first.get(key) == second.get(key) for key in ("space", "cohort"))


def is_common_space(space: str | None) -> bool:
    """Whether voxels of a space are the same places in all people: templates are, individual spaces are not."""
    return bool(space) and str(space).partition(":")[0].lower() not in NATIVE


def choose_space(spaces_of_runs: Sequence[Collection[str]], *, wanted: str | None) -> str:
    """Choose one space for all runs.

    Parameters
    ----------
    spaces_of_runs : sequence of collections of str
        Spaces each run is available in, as ``space_of`` names them.
    wanted : str or None
        ``--space``; details that are not named in it are free (``MNI152NLin2009cAsym`` takes ``...:res-2``).

    Returns
    -------
    str
        What was asked for, the only space, or the first of MNI152NLin2009cAsym, MNI152NLin6Asym and T1w; a space
        that all runs have goes before others.

    Raises
    ------
    SelectionError
        If no run has the space that was asked for.
    UsageError
        If several spaces are left and none of the three is among them.
    """
    every = sorted({space for spaces in spaces_of_runs for space in spaces}, key=natural_key)
    if wanted is not None:
        return _wanted(every, wanted)
    if len(every) == 1:
        return every[0]
    in_all_runs = [space for space in every if all(space in spaces for spaces in spaces_of_runs)]
    for candidates in (in_all_runs, every):
        for name in PREFERRED:
            fitting = [space for space in candidates if _fits(space, name)]
            if fitting:
                chosen = _plainest(fitting)
                logger.info(
                    "Images exist in the spaces %s; %s is used (--space chooses).", _shown(every), chosen
                )
                return chosen
    return _plainest(every)


def _wanted(every: Sequence[str], wanted: str) -> str:
    fitting = [space for space in every if _fits(space, wanted)]
    if not fitting and wanted.lower() in NATIVE and _NO_SPACE in every:
        return _NO_SPACE
    if not fitting:
        raise SelectionError(
            f"No image in space {wanted}; there are images in {_shown(every)}.",
            hint=f"--space {next((space for space in every if space), 'T1w')}",
        )
    return _plainest(fitting)


def _fits(space: str, wanted: str) -> bool:
    name, *details = space.split(":")
    wanted_name, *wanted_details = wanted.split(":")
    return name == wanted_name and {_plain(one) for one in wanted_details} <= {_plain(one) for one in details}


def _plain(detail: str) -> str:
    """Spell a detail without the zeros before a number: ``res-02`` is ``res-2``."""
    key, _, label = detail.partition("-")
    return f"{key}-{int(label)}" if label.isdecimal() else detail


def _plainest(spaces: Sequence[str]) -> str:
    plain = (
        [space for space in spaces if ":" not in space and space != _NO_SPACE]
        if len(spaces) > 1
        else list(spaces)
    )
    if len(plain) != 1:
        raise UsageError(
            f"Images exist in several spaces: {_shown(spaces)}.",
            hint=f"choose one: --space {next(space for space in spaces if space)}",
        )
    return plain[0]


def _shown(spaces: Sequence[str]) -> str:
    return ", ".join(space or "native (no space- in the name)" for space in spaces)
