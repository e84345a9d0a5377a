"""Which loss of the labels fits the data."""

from __future__ import annotations

from clipmused_bids.config import LabelLoss, TrainingOptions
from clipmused_bids.errors import UsageError
from clipmused_bids.records import TrialData


def label_loss_kind(options: TrainingOptions, data: TrialData) -> LabelLoss:
    """L_c of these data: as asked for, or by whether every trial has exactly one label.

    Raises
    ------
    UsageError
        If ``softmax`` is asked for and trials may have several labels.
    """
    if options.label_loss == "auto":
        return "softmax" if data.single_label else "binary"
    if options.label_loss == "softmax" and not data.single_label:
        raise UsageError(
            "training.label_loss = softmax: trials of these data may have several labels, or none.",
            hint='set it to "binary", or to "auto"',
        )
    return options.label_loss
