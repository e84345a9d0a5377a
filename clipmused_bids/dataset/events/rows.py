"""Class of each row of an events file: trial, modelled nuisance, baseline, or nothing to model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from clipmused_bids.dataset.events.stimulus_columns import looks_like_file
from clipmused_bids.dataset.files.tsv import is_missing

RowClass = Literal["trial", "nuisance", "baseline", "scanner pulse"]

CLASS_COLUMNS = ("trial_type", "event_type", "condition", "cond")
WITHOUT_STIMULUS = "no stimulus"

_BASELINE = frozenset(
    [
        "rest",
        "resting",
        "fix",
        "fixation",
        "blank",
        "baseline",
        "iti",
        "isi",
        "null",
        "pause",
        "wait",
        "waiting",
        "nothing",
        "none",
        "off",
    ]
)
_PULSE = frozenset(["pulse", "pulses", "ttl", "trigger", "triggers"])
_NUISANCE = frozenset(
    [
        "catch",
        "oddball",
        "response",
        "responses",
        "resp",
        "cue",
        "cues",
        "buttonpress",
        "keypress",
        "press",
        "rating",
        "evaluation",
        "instruction",
        "instructions",
        "instr",
        "feedback",
        "question",
        "probe",
        "countdown",
    ]
)
# Words that say which part a row plays, not what was seen.
_ROLES = frozenset(
    [
        "exp",
        "experimental",
        "test",
        "train",
        "training",
        "stimulus",
        "stim",
        "stimuli",
        "image",
        "images",
        "picture",
        "pictures",
        "photo",
        "trial",
        "trials",
        "task",
        "on",
        "active",
        "stimulation",
        "imagery",
        "perception",
        "encoding",
        "movie",
        "video",
        "clip",
        "main",
    ]
)
# "button" and "key" are objects that datasets show; only "button press" is a response.
_FILLERS = frozenset(
    [
        "block",
        "trial",
        "period",
        "inter",
        "intertrial",
        "cross",
        "screen",
        "event",
        "dot",
        "point",
        "left",
        "right",
        "start",
        "end",
        "onset",
        "task",
        "scanner",
        "button",
        "key",
    ]
)


def class_values(
    columns: Mapping[str, Sequence[str]], *, stimulus_column: str | None
) -> list[tuple[str, ...]]:
    """What each row says about its class: ``trial_type``, ``event_type``, ``condition``, ``cond``; then the stimulus.

    A stimulus counts only if it does not look like a file (``fix`` in the image column means fixation).
    """
    n_rows = len(next(iter(columns.values()), ()))
    used = [columns[name] for name in CLASS_COLUMNS if name in columns and name != stimulus_column]
    stimuli = columns[stimulus_column] if stimulus_column is not None else ("",) * n_rows
    return [
        (*(cells[row] for cells in used), "" if looks_like_file(stimuli[row]) else stimuli[row])
        for row in range(n_rows)
    ]


def classify(
    values: Sequence[str],
    *,
    stimulus: str,
    condition: str,
    has_stimuli: bool,
    trial_types: Sequence[str],
    decode: bool,
) -> RowClass:
    """Class of one row.

    Parameters
    ----------
    values : sequence of str
        What the row says about its class.
    stimulus, condition : str
        "" where there is none.
    has_stimuli : bool
        Whether the file names stimuli; then a row without one evokes a response, but is no trial.
    trial_types : sequence of str
        ``--trial-type``: values (globs) that make a row a trial, whatever else it says; other rows are then not.
    decode : bool
        Rows without stimulus and condition are trials too.
    """
    # Files count here too: "COCO_*" chooses among the pictures that a file names.
    if any(fnmatchcase(value, pattern) for value in (*values, stimulus) for pattern in trial_types):
        return "trial"
    if any(_consists_of(value, _PULSE) for value in values):
        return "scanner pulse"
    if any(_consists_of(value, _BASELINE) for value in values):
        return "baseline"
    if trial_types or any(_consists_of(value, _NUISANCE) for value in values):
        return "nuisance"
    known = stimulus if has_stimuli else condition
    return "trial" if known or decode else "nuisance"


def nuisance_kind(values: Sequence[str], *, condition: str) -> str:
    """Name of the regressor a nuisance row belongs to."""
    named = next((value for value in values if _consists_of(value, _NUISANCE)), None)
    return named or condition or WITHOUT_STIMULUS


def is_role(value: str) -> bool:
    """Whether a condition only says which part a row plays (``exp``, ``test``, ``stimulus``), not what was seen."""
    return _consists_of(value, _ROLES)


def condition_of(columns: Mapping[str, Sequence[str]], row: int, *, stimulus_column: str | None) -> str:
    """``trial_type`` of a row, or what stands for it; "" where there is nothing."""
    for name in CLASS_COLUMNS:
        if name in columns and name != stimulus_column and not is_missing(columns[name][row]):
            return columns[name][row]
    return ""


def _consists_of(value: str, words: frozenset[str]) -> bool:
    """Whether a value is made of these words and of fillers (``fixation_cross``, ``CatchTrial2``)."""
    if looks_like_file(value):
        return False
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", value)
    lowered = {part.lower() for part in parts} or {value.lower()}
    return bool(lowered & words) and lowered <= words | _FILLERS
