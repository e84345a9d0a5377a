from __future__ import annotations

import logging

import pytest

from clipmused_bids.stages import progress
from clipmused_bids.stages.progress import epoch_report


def test_training_says_how_far_it_is_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 30.0, 61.0, 100.0, 122.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    say = epoch_report(40)
    with caplog.at_level(logging.DEBUG):
        for epoch in range(1, 5):
            say({"epoch": float(epoch), "val_map": 0.5 + epoch / 100})
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert lines == [
        "Training: epoch 2 of at most 40, validation mAP 0.520.",
        "Training: epoch 4 of at most 40, validation mAP 0.540.",
    ]
    assert len(caplog.records) == 6
