"""Storing a decoder: one array file that holds everything, and the files for people that follow from it.

Two runs may train under one label at once. The array file appears whole and in one step, for one of them; what lies
beside it is made of what is there then, whoever stored it, and made again until nothing changed meanwhile. So files of
two decoders never lie side by side, and a run whose decoder lost is told. Nothing is locked.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import create_bytes, remove, write_bytes
from clipmused_bids.dataset.files.comparison import differences
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import plain, write_json, write_tsv
from clipmused_bids.dataset.files.tensors import encode_tensors
from clipmused_bids.dataset.outputs.weights import (
    HISTORY,
    WEIGHTS_HASH,
    StoredModel,
    config_path,
    history_path,
    model_path,
    read_config,
    read_model,
)
from clipmused_bids.errors import CannotCreateError, ClipMusedError
from clipmused_bids.records import History

logger = logging.getLogger(__name__)

_KEPT = "kept"


def save_model(
    folder: Path,
    *,
    participant: str | None,
    tensors: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    history: History | None = None,
    settings: Collection[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Write a decoder with its configuration and training curves.

    Parameters
    ----------
    folder : Path
        ``OUT/models/<label>``.
    participant : str or None
        None for a decoder of the whole group.
    tensors : mapping of str to ndarray
    config : mapping
        JSON values: everything that is needed to decode and to check that a request fits.
    history : History, optional
    settings : collection of str, optional
        Names in ``config`` that decide about the decoder; a stored one that has them alike serves. Without, all.
    overwrite : bool
        Whether a stored decoder of other settings is replaced.

    Returns
    -------
    str
        SHA-256 of the array file that is stored now.

    Raises
    ------
    CannotCreateError
        If another run stored a decoder of other settings meanwhile; names what differs.
    OutputWriteError
        If writing fails.
    """
    path = model_path(folder, participant=participant)
    content = encode_tensors({**tensors, **_curves(history)}, metadata=config)
    outcome = write_bytes(path, content) if overwrite else create_bytes(path, content)
    stored = complete_model(folder, participant=participant)
    asked = plain({name: config[name] for name in (config if settings is None else settings)})
    lines = differences({name: stored.config.get(name) for name in asked}, asked, sides=("stored", "ours"))
    if lines:
        raise CannotCreateError(
            f"{path}: another run has stored a decoder of another configuration meanwhile: {'; '.join(lines[:6])}.",
            hint="that one is whole, this one was not stored; another --model-label keeps both",
        )
    if outcome == "taken":
        logger.info("%s: another run has stored this decoder meanwhile; it is used.", path.name)
    return stored.weights_hash


def complete_model(folder: Path, *, participant: str | None) -> StoredModel:
    """Write ``config.json`` and ``history.tsv`` as they follow from the array file.

    Returns
    -------
    StoredModel
        What is stored.

    Raises
    ------
    MissingInputError, DataError
        If there is no decoder, or it is broken.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = model_path(folder, participant=participant)
    while True:
        before = _signature(path)
        model = read_model(folder, participant=participant)
        _write_beside(folder, participant, model)
        if _signature(path) == before:
            return model


def is_complete(folder: Path, *, participant: str | None) -> bool:
    """Whether ``config.json`` shows the configuration of the array file; of which weights is asked when they are used.

    It does not where the run that stored them was killed in between.

    Raises
    ------
    MissingInputError, DataError
        If there is no decoder, or it is broken.
    """
    config = read_config(folder, participant=participant)
    try:
        shown = read_json(config_path(folder, participant=participant))
    except ClipMusedError:
        return False
    shown.pop(WEIGHTS_HASH, None)
    return not differences(shown, config)


def history_of(model: StoredModel) -> History | None:
    """Training curves of a stored decoder; None where it has none."""
    if not model.curves:
        return None
    columns = {name: tuple(values.tolist()) for name, values in model.curves.items() if name != _KEPT}
    kept = np.flatnonzero(model.curves[_KEPT])
    return History(columns, int(kept[0]) if len(kept) else -1, str(model.config.get("stopped", "")))


def _curves(history: History | None) -> dict[str, NDArray[Any]]:
    """Columns of a history as arrays of the model file."""
    if history is None:
        return {}
    n_rows = max((len(values) for values in history.columns.values()), default=0)
    epochs = [int(epoch) for epoch in history.columns.get("epoch", range(n_rows))]
    columns: dict[str, Any] = {"epoch": epochs, **{k: v for k, v in history.columns.items() if k != "epoch"}}
    columns[_KEPT] = [row == history.best_epoch for row in range(n_rows)]
    # Numbered: a model file keeps its arrays in an order of its own.
    return {f"{HISTORY}{k:03d}.{name}": np.asarray(v) for k, (name, v) in enumerate(columns.items())}


def _write_beside(folder: Path, participant: str | None, model: StoredModel) -> None:
    curves = history_path(folder, participant=participant)
    if model.curves:
        write_tsv(curves, model.curves)
    else:
        remove(curves)
    write_json(
        config_path(folder, participant=participant), {**model.config, WEIGHTS_HASH: model.weights_hash}
    )


def _signature(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
