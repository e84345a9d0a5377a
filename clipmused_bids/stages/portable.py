"""Names that may leave this machine: outputs say what was used, never where it lay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipmused_bids.config import hdf5_place

_LOCAL_DIR = "local-dir:"
# A whole text that is a place, after a flag, a dataset's name or a scheme: --mask=/x, fmriprep=/x, local-dir:/x.
_PLACE = re.compile(r"((?:[^/=:]+[=:])?)((?:/|~|\.{1,2}/).*)", re.DOTALL)


def clip_name(model: str) -> str:
    """Name a CLIP model; of ``local-dir:FOLDER`` the last part of the folder."""
    if not model.startswith(_LOCAL_DIR):
        return model
    return f"{_LOCAL_DIR}{Path(model.removeprefix(_LOCAL_DIR)).name}"


def without_places(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of hyper-parameters without the place of the CLIP weights, which are compared by their hash."""
    targets = hyperparameters.get("targets")
    if targets is None:
        return dict(hyperparameters)
    kept = {name: value for name, value in targets.items() if name != "clip_weights"}
    if "clip_model" in kept:
        kept["clip_model"] = clip_name(kept["clip_model"])
    return {**hyperparameters, "targets": kept}


def places_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Only what :func:`without_places` takes out or shortens."""
    targets = hyperparameters.get("targets", {})
    named = {name: targets[name] for name in ("clip_model", "clip_weights") if name in targets}
    return {"targets": named} if named else {}


def names_only(value: Any) -> Any:
    """Nested values with the last part of each place that is given from the root, the home or the current folder."""
    if isinstance(value, Mapping):
        return {key: names_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [names_only(item) for item in value]
    place = _PLACE.fullmatch(value) if isinstance(value, str) else None
    return value if place is None else f"{place[1]}{_last_part(place[2])}"


def _last_part(place: str) -> str:
    """Name of a file or folder; of an image bank the file's name and its dataset."""
    file, dataset = hdf5_place(place) or (place, "")
    return f"{Path(file).name}:{dataset}" if dataset else Path(file).name


def shorten(text: str, places: Iterable[Path]) -> str:
    """Take from a text what comes before the last part of these absolute places, wherever they stand in it."""
    for place in sorted(places, key=lambda path: len(path.parts), reverse=True):
        if len(place.parts) > 1:
            text = re.sub(rf"(?<![\w./-]){re.escape(str(place))}(?![\w-])", place.name, text)
    return text
