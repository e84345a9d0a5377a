from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.outputs.prediction_files import Predictions, read_predictions, write_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Run

RUN = Run(
    "01", None, "x", 1, {"sub": "01", "task": "x", "run": "1"}, events=None, image=None, image_kind="bold"
)


def predictions() -> Predictions:
    return Predictions(
        onset=np.array([0.1, 4.0]),
        duration=np.array([1.0, 2.0]),
        trial_number=np.array([1, 3]),
        stimulus_id=("dog/1.jpg", ""),
        set_name=("test", "new"),
        fold=(2, None),
        label_names=("hot dog", "a_b"),
        probabilities=np.array([[1 / 3, 0.0], [1e-9, 1.0]]),
    )


def write(root: Path, given: Predictions) -> Path:
    return write_predictions(
        OutputTree(root),
        RUN,
        given,
        model_label="m",
        sources=["bids::a"],
        details={"Regime": "unseen stimuli"},
    )


def test_everything_comes_back_exactly(tmp_path: Path) -> None:
    found, sidecar = read_predictions(write(tmp_path, predictions()))
    for field in fields(Predictions):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(predictions(), field.name))
    assert sidecar["Regime"] == "unseen stimuli"


def test_the_table_as_pandas_sees_it_and_its_sidecar(tmp_path: Path) -> None:
    path = write(tmp_path, predictions())
    table = pd.read_csv(path, sep="\t", na_values=["n/a"])
    names = ["onset", "duration", "trial", "stimulus_id", "set", "fold", "prob_hot dog", "prob_a_b"]
    assert list(table.columns) == names
    assert table["prob_hot dog"].tolist() == [1 / 3, 1e-9]
    assert table["prob_a_b"].tolist() == [0.0, 1.0]
    assert table["fold"].isna().tolist() == [False, True]
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert all(sidecar[name]["Description"] for name in names)
    assert sidecar["Sources"] == ["bids::a"]
    assert path.name == "sub-01_task-x_run-1_desc-m_predictions.tsv"


def test_runs_without_trials(tmp_path: Path) -> None:
    nothing = np.empty(0)
    given = Predictions(nothing, nothing, np.empty(0, int), (), (), (), ("a", "b"), np.empty((0, 2)))
    found, _ = read_predictions(write(tmp_path, given))
    assert found.probabilities.shape == (0, 2)


def test_refusals(tmp_path: Path) -> None:
    path = write(tmp_path, predictions())
    with pytest.raises(DataError, match="tab or a line break"):
        write(tmp_path, replace(predictions(), label_names=("a\tb", "c")))
    text = path.read_text()
    path.write_text(text.replace("\tnew\t", "\tmine\t"))
    with pytest.raises(DataError, match="set mine is unknown"):
        read_predictions(path)
    path.write_text(text.replace("prob_a_b", "prob_other"))
    with pytest.raises(DataError, match="column prob_a_b is missing"):
        read_predictions(path)
    path.unlink()
    with pytest.raises(MissingInputError, match="predictions"):
        read_predictions(path)
