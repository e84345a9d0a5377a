"""What a decoder's tokens become for one participant's test stimuli, on disk: arrays, and what was found in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import canonical_json, write_json
from clipmused_bids.dataset.files.tensors import encode_tensors, read_tensors
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import FloatArray, IntArray

_ARRAYS_HASH = "ArraysHash"
_CLIP = "clip_"
_DESCRIPTION = (
    "Last states of the decoder's low-level and high-level token for held-out responses of one participant, averaged "
    "over the trials of a stimulus: `low` and `high`, row k belongs to stimulus `StimulusIds[k]`, which decoder "
    "`fold[k]` held out (0: there is one decoder) and which was shown `n_trials[k]` times. `clip_low` and `clip_high` "
    "are cosines of the stimuli's CLIP features, NaN where it has none. Rows are ordered by `GroupNames[group]`."
)


@dataclass(frozen=True)
class StimulusTokens:
    """Tokens of one participant's test stimuli, sorted by fold and group.

    Parameters
    ----------
    stimulus_id : tuple of str
        One for each row; under cross-validation a stimulus has a row in each fold that tested it.
    fold : ndarray of int, shape (n,)
        Fold whose decoder made the row; 0 without a cross-validation.
    group : ndarray of int, shape (n,)
        Index into ``group_names``.
    n_trials : ndarray of int, shape (n,)
        Trials that a row is the mean of.
    group_names : tuple of str
        What stimuli are ordered by: labels.
    low, high : ndarray of shape (n, width), float32
    clip : mapping of str to ndarray of shape (n, n)
        Cosines of the CLIP features by level; NaN where unknown, levels that are not known at all are missing.
    """

    stimulus_id: tuple[str, ...]
    fold: IntArray
    group: IntArray
    n_trials: IntArray
    group_names: tuple[str, ...]
    low: FloatArray
    high: FloatArray
    clip: Mapping[str, FloatArray]


def write_stimulus_tokens(path: Path, tokens: StimulusTokens, *, details: Mapping[str, Any]) -> None:
    """Write tokens, and the sidecar that says what they were made by and what was found.

    Parameters
    ----------
    path : Path
        The array file.
    tokens : StimulusTokens
    details : mapping
        Further fields of the sidecar.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    arrays: dict[str, NDArray[Any]] = {
        "low": tokens.low.astype(np.float32),
        "high": tokens.high.astype(np.float32),
        "fold": tokens.fold.astype(np.int64),
        "group": tokens.group.astype(np.int64),
        "n_trials": tokens.n_trials.astype(np.int64),
        **{f"{_CLIP}{level}": values.astype(np.float16) for level, values in tokens.clip.items()},
    }
    names = {"StimulusIds": list(tokens.stimulus_id), "GroupNames": list(tokens.group_names)}
    content = encode_tensors(arrays, metadata=names)
    write_bytes(path, content)
    sidecar = {
        "Description": _DESCRIPTION, **details, **names, _ARRAYS_HASH: hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    write_json(path.with_suffix(".json"), sidecar)


def read_stimulus_tokens(path: Path) -> tuple[StimulusTokens, dict[str, Any]]:
    """Read tokens with their sidecar.

    Raises
    ------
    MissingInputError
        If one of the two files is not there.
    DataError
        If one is broken, or they do not belong together.
    """
    sidecar = read_json(path.with_suffix(".json"))
    arrays, names, content_hash = read_tensors(path)
    if sidecar.get(_ARRAYS_HASH) != content_hash:
        raise DataError(
            f"{path}: not of one evaluation with {path.with_suffix('.json').name}.",
            hint="run --evaluate again",
        )
    clip = {name.removeprefix(_CLIP): values for name, values in arrays.items() if name.startswith(_CLIP)}
    tokens = StimulusTokens(
        stimulus_id=tuple(names["StimulusIds"]),
        fold=arrays["fold"],
        group=arrays["group"],
        n_trials=arrays["n_trials"],
        group_names=tuple(names["GroupNames"]),
        low=arrays["low"],
        high=arrays["high"],
        clip={level: values.astype(np.float64) for level, values in clip.items()},
    )
    return tokens, sidecar


def tokens_are_current(path: Path, request: Mapping[str, Any]) -> bool:
    """Whether tokens are stored that were asked for in the same words (``Request`` of the sidecar), with CLIP's."""
    try:
        tokens, sidecar = read_stimulus_tokens(path)
    except ClipMusedError:
        return False
    return bool(tokens.clip) and canonical_json(sidecar.get("Request")) == canonical_json(request)
