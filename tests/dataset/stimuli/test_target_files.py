from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipmused_bids.dataset.stimuli.target_files import open_target_file
from clipmused_bids.errors import DataError, MissingInputError

IDS = ["n03131574/n03131574_8247", "dog.jpg", "3"]
LOW = np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]], dtype=np.float32)
HIGH = np.array([[1.0, 1.0, 1.0], [0.0, 5.0, 0.0], [0.0, 0.0, 2.0]], dtype=np.float16)


def written(path: Path, tensors: dict[str, np.ndarray] | None = None, **metadata: Any) -> Path:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    save_file(tensors or {"low": LOW, "high": HIGH}, path, metadata=texts)
    return path


@pytest.mark.parametrize("where", ["metadata", "table", "both"])
def test_rows_are_found_by_stimulus_and_have_length_one(tmp_path: Path, where: str) -> None:
    """Spelt as the events spell them; what is not there, or all zero, is unknown."""
    path = written(tmp_path / "f.safetensors", **({} if where == "table" else {"stimulus_id": IDS}))
    if where != "metadata":
        (tmp_path / "f.tsv").write_text("note\tstimulus_id\n" + "".join(f"x\t{name}\n" for name in IDS))
    file = open_target_file(path)
    asked = ["stim-3", "imagenet/n03131574/n03131574_8247.JPEG", "cat.jpg", "", "dog"]
    assert file.rows_of(asked) == [2, 0, None, None, 1]
    low, high = file.read(asked)
    assert low is not None
    assert high is not None
    np.testing.assert_allclose(low, [[-1, 0], [0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(high[:2], [[0, 0, 1], np.ones(3) / np.sqrt(3)], atol=1e-3)
    np.testing.assert_array_equal(high[2:], [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    assert (low.dtype, high.dtype) == (np.float32, np.float32)
    assert file.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["low", "high"])
def test_one_level_is_enough(tmp_path: Path, name: str) -> None:
    file = open_target_file(written(tmp_path / "f.safetensors", {name: LOW}, stimulus_id=IDS))
    found = dict(zip(("low", "high"), file.read(["dog"]), strict=True))
    assert [key for key, value in found.items() if value is not None] == [name]


def test_whole_numbers_are_names(tmp_path: Path) -> None:
    file = open_target_file(written(tmp_path / "f.safetensors", stimulus_id=[7, 70, 700]))
    assert file.rows_of(["70", "700.0", "0"]) == [1, 2, None]


def test_large_numbers_keep_their_direction(tmp_path: Path) -> None:
    values = {"high": np.full((3, 4), 6e4, dtype=np.float16)}
    file = open_target_file(written(tmp_path / "f.safetensors", values, stimulus_id=IDS))
    np.testing.assert_allclose(file.read(["dog"])[1], [[0.5] * 4], atol=1e-6)


NAN, INFINITE = LOW.copy(), HIGH.copy()
NAN[1, 0], INFINITE[2, 1] = np.nan, np.inf


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"low": NAN, "high": HIGH}, {"stimulus_id": IDS}, "low: 1 of 3 rows hold NaN or infinite"),
        ({"low": LOW, "high": INFINITE}, {"stimulus_id": IDS}, "high: 1 of 3 rows hold NaN or infinite"),
        ({"low": LOW, "high": HIGH[:2]}, {"stimulus_id": IDS}, "high has 2 rows for 3 stimuli"),
        ({"low": LOW}, {"stimulus_id": IDS[:2]}, "low has 3 rows for 2 stimuli"),
        ({"low": LOW[:, 0]}, {"stimulus_id": IDS}, r"low has shape \(3,\) and type float32"),
        ({"low": LOW.astype(np.int64)}, {"stimulus_id": IDS}, "type int64"),
        ({"features": LOW}, {"stimulus_id": IDS}, r"neither low nor high among its arrays \(features\)"),
        ({"low": LOW}, {}, "nothing says which stimuli its rows belong to"),
        ({"low": LOW}, {"stimulus_id": ["a", "b", "a"]}, "1 stimuli are named more than once, for example a"),
        ({"low": LOW}, {"stimulus_id": ["a", "", "n/a"]}, "2 of 3 rows name no stimulus"),
        ({"low": LOW}, {"stimulus_id": "a b c"}, "is not JSON"),
        ({"low": LOW}, {"stimulus_id": {"a": 1}}, "is not a list of names"),
    ],
)
def test_what_cannot_serve_is_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, Any], message: str
) -> None:
    path = written(tmp_path / "f.safetensors", tensors, **metadata)
    with pytest.raises(DataError, match=message) as refused:
        open_target_file(path)
    assert "f.safetensors" in str(refused.value)
    assert refused.value.hint


def test_two_lists_that_disagree_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "f.safetensors", stimulus_id=IDS)
    (tmp_path / "f.tsv").write_text("stimulus_id\n3\ndog.jpg\nx\n")
    with pytest.raises(DataError, match=r"its metadata and f\.tsv name different stimuli"):
        open_target_file(path)


def test_a_table_without_the_column_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "f.safetensors")
    (tmp_path / "f.tsv").write_text("name\n1\n2\n3\n")
    with pytest.raises(DataError, match=r"f\.tsv: no column stimulus_id; columns are name"):
        open_target_file(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 an archive", b"\x02\0\0\0\0\0\0\0[]"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="not a whole safetensors file") as refused:
        open_target_file(tmp_path / "f.safetensors")
    assert "low and high" in str(refused.value)
    with pytest.raises(MissingInputError):
        open_target_file(tmp_path / "nothing.safetensors")
