from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from clipmused_bids.dataset.files.comparison import grid_fields
from clipmused_bids.dataset.outputs.model_writing import save_model
from clipmused_bids.dataset.outputs.weights import (
    check_model,
    load_model,
    stored_participants,
    voxel_hash,
    write_card,
)
from clipmused_bids.errors import DataError, ExitCode, MissingInputError
from clipmused_bids.records import Grid, History

TENSORS = {
    "token": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "bias": np.array(0.5),
    "count": np.array([3]),
}
CONFIG = {
    "method": "clip-mused",
    "labels": ["cat", "dog"],
    "participants": {"01": {"token": 0, "voxels": "aa"}, "02": {"token": 1, "voxels": "bb"}},
    "grid": grid_fields(Grid((4, 4, 4), np.eye(4) / 3)),
    "targets": {"clip_model": "demo", "weights_hash": "f00"},
    "seed": 0,
    "lost": math.nan,
}


@pytest.mark.parametrize(
    ("participant", "names"),
    [
        (None, ["config.json", "history.tsv", "model.safetensors"]),
        ("01", ["sub-01_config.json", "sub-01_history.tsv", "sub-01_model.safetensors"]),
    ],
)
def test_a_decoder_comes_back(tmp_path: Path, participant: str | None, names: list[str]) -> None:
    history = History({"loss": (1.0, 0.5)}, best_epoch=1, stopped="")
    weights_hash = save_model(
        tmp_path / "m", participant=participant, tensors=TENSORS, config=CONFIG, history=history
    )
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == names
    model = load_model(tmp_path / "m", participant=participant)
    assert model.tensors.keys() == TENSORS.keys()
    assert {name: values.tolist() for name, values in model.curves.items()} == {
        "epoch": [0, 1], "loss": [1.0, 0.5], "kept": [False, True],
    }  # fmt: skip
    for name, values in TENSORS.items():
        assert model.tensors[name].dtype == values.dtype
        np.testing.assert_array_equal(model.tensors[name], values)
        np.testing.assert_array_equal(load_file(model.path)[name], values)
    model.tensors["token"][0, 0] = 9
    assert model.config == {**CONFIG, "lost": None}
    assert model.weights_hash == weights_hash == hashlib.sha256(model.path.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "m" / names[0]).read_text())["weights_sha256"] == weights_hash


def test_a_decoder_moves_and_its_array_file_stands_alone(tmp_path: Path) -> None:
    save_model(tmp_path / "m", participant=None, tensors=TENSORS, config=CONFIG)
    shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere", participant=None).config["labels"] == ["cat", "dog"]
    (tmp_path / "elsewhere" / "config.json").unlink()
    assert load_model(tmp_path / "elsewhere", participant=None).config["labels"] == ["cat", "dog"]


def test_equal_decoders_are_equal_files(tmp_path: Path) -> None:
    first = save_model(tmp_path / "a", participant=None, tensors=TENSORS, config=CONFIG)
    turned = dict(reversed(list(CONFIG.items())))
    assert save_model(tmp_path / "b", participant=None, tensors=TENSORS, config=turned) == first
    assert (
        save_model(tmp_path / "c", participant=None, tensors=TENSORS, config={**CONFIG, "seed": 1}) != first
    )


def test_an_edited_configuration_is_noticed(tmp_path: Path) -> None:
    save_model(tmp_path, participant=None, tensors=TENSORS, config=CONFIG)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"clip-mused"', '"ridge"'))
    with pytest.raises(DataError, match=r"method: config\.json ridge, model\.safetensors clip-mused"):
        load_model(tmp_path, participant=None)


def test_exchanged_weights_are_noticed(tmp_path: Path) -> None:
    save_model(tmp_path / "a", participant=None, tensors=TENSORS, config=CONFIG)
    other = {**TENSORS, "bias": np.array(0.25)}
    save_model(tmp_path / "b", participant=None, tensors=other, config=CONFIG)
    shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors")
    with pytest.raises(DataError, match="weights_sha256"):
        load_model(tmp_path / "a", participant=None)


def test_missing_and_broken_decoders(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no decoder of the group") as caught:
        load_model(tmp_path, participant=None)
    assert "--train" in (caught.value.hint or "")
    with pytest.raises(MissingInputError, match="no decoder of sub-01"):
        load_model(tmp_path, participant="01")
    save_model(tmp_path, participant=None, tensors=TENSORS, config=CONFIG)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match=r"model\.safetensors: not a whole safetensors file"):
        load_model(tmp_path, participant=None)


def test_a_fitting_request_passes() -> None:
    check_model(CONFIG, {})
    check_model(CONFIG, {"method": "clip-mused", "labels": ("cat", "dog"), "targets": CONFIG["targets"]})


def test_every_difference_is_named_on_both_sides() -> None:
    request = {
        "method": "ridge",
        "labels": ["cat", "dog", "house"],
        "participants": {"01": {"token": 0, "voxels": "cc"}, "02": {"token": 1, "voxels": "bb"}},
        "grid": grid_fields(Grid((4, 4, 5), np.eye(4) / 3)),
        "targets": {"clip_model": "ViT-B-16", "weights_hash": "f00"},
        "space": "T1w",
    }
    with pytest.raises(DataError, match="models/m does not fit this request") as caught:
        check_model(CONFIG, request, name="models/m")
    assert caught.value.exit_code == ExitCode.BAD_DATA
    for line in (
        "method: decoder clip-mused, request ridge",
        "labels: decoder 2, request 3: only request has house",
        "participants.01.voxels: decoder aa, request cc",
        "grid: decoder {'shape': [4, 4, 4]",
        "targets.clip_model: decoder demo, request ViT-B-16",
        "space: decoder has none, request T1w",
    ):
        assert f"\n  - {line}" in str(caught.value)
    assert str(caught.value).count("\n  - ") == 6
    check_model(
        CONFIG, request, ignore=("method", "labels", "participants", "grid", "targets.clip_model", "space")
    )


def test_the_message_fits_one_screen() -> None:
    with pytest.raises(DataError, match="and 38 more") as caught:
        check_model({}, {f"option{k}": "x" * 500 for k in range(50)})
    assert len(str(caught.value).splitlines()) <= 16
    assert max(map(len, str(caught.value).splitlines())) <= 120


def test_voxel_hash_sees_place_order_and_grid() -> None:
    grid, other = Grid((4, 4, 4), np.eye(4)), Grid((4, 4, 5), np.eye(4))
    hashes = {
        voxel_hash(grid, np.array([1, 2])),
        voxel_hash(grid, np.array([2, 1])),
        voxel_hash(grid, np.array([1, 2, 3])),
        voxel_hash(other, np.array([1, 2])),
    }
    assert len(hashes) == 4
    assert voxel_hash(grid, np.array([1, 2], dtype=np.int32)) == voxel_hash(grid, np.array([1, 2]))
    assert voxel_hash(Grid((4, 4, 4), np.eye(4) * 1.0000001), np.array([1, 2])) in hashes


def test_training_curves(tmp_path: Path) -> None:
    columns = {"epoch": (0.0, 1.0, 2.0), "loss": (3.0, 2.5, math.nan), "val_map": (0.1, 0.3, 0.2)}
    history = History(columns, best_epoch=1, stopped="patience")
    save_model(tmp_path, participant=None, tensors=TENSORS, config=CONFIG, history=history)
    table = pd.read_csv(tmp_path / "history.tsv", sep="\t", na_values=["n/a"])
    assert list(table) == ["epoch", "loss", "val_map", "kept"]
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["kept"].tolist() == [False, True, False]
    np.testing.assert_array_equal(table["loss"], [3.0, 2.5, math.nan])
    assert table.loc[table["kept"], "val_map"].item() == 0.3


def test_whose_decoders_are_stored(tmp_path: Path) -> None:
    for participant in ("02", "01", None):
        save_model(tmp_path, participant=participant, tensors=TENSORS, config=CONFIG)
    assert stored_participants(tmp_path) == ("01", "02")
    assert stored_participants(tmp_path / "nothing") == ()


def test_card_lies_beside_the_weights(tmp_path: Path) -> None:
    write_card(tmp_path / "m", "# Ä\n")
    assert (tmp_path / "m" / "README.md").read_bytes() == "# Ä\n".encode()
