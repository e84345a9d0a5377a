"""Training curves of a decoder, written into the output tree."""

from __future__ import annotations

from pathlib import Path

from clipmused_bids.dataset.files.atomic import remove, write_bytes
from clipmused_bids.dataset.outputs.model_writing import complete_model, history_of, is_complete
from clipmused_bids.dataset.outputs.weights import history_path, read_config
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.report.training import courses_of, training_curves


def show_decoder(folder: Path, *, participant: str | None, fresh: bool) -> None:
    """See that what people look at lies beside a stored decoder: configuration, training curves and their drawing.

    Parameters
    ----------
    fresh : bool
        Whether it was stored now. Else only what is missing is made: the run that stored it may have been killed.
    """
    drawing = history_path(folder, participant=participant).with_suffix(".svg")
    deep = METHODS[read_config(folder, participant=participant)["method"]].deep
    if not fresh and drawing.exists() == deep and is_complete(folder, participant=participant):
        return
    history = history_of(complete_model(folder, participant=participant))
    if deep and history is not None:
        write_bytes(drawing, training_curves(courses_of(history, name=folder.name)))
    else:
        # Of an earlier decoder under this label.
        remove(drawing)
