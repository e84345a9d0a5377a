from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load, load_file, save_file

from clipmused_bids.dataset.files.tensors import (
    digest,
    encode_tensors,
    map_tensors,
    read_metadata,
    read_tensors,
    write_tensors,
)
from clipmused_bids.errors import DataError, MissingInputError

DTYPES = st.sampled_from(
    ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", "?", ">f4", ">i2"]
)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5), arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, min_side=0))
    )
)
def test_the_library_reads_what_we_write(tensors: dict[str, np.ndarray]) -> None:
    tensors.pop("__metadata__", None)
    found = load(encode_tensors(tensors, metadata={"a": 1}))
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        assert found[name].shape == values.shape
        np.testing.assert_array_equal(found[name], values)


def test_strides_and_orders_are_stored_by_value(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_tensors(
        tmp_path / "x.safetensors", {"t": whole.T, "step": whole[::2, ::-1], "f": np.asfortranarray(whole)}
    )
    found = load_file(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(found["t"], whole.T)
    np.testing.assert_array_equal(found["step"], whole[::2, ::-1])
    np.testing.assert_array_equal(found["f"], whole)


def test_maps_equal_the_library_and_copy_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    rng = np.random.default_rng(0)
    tensors = {
        "responses": rng.normal(size=(7, 11)).astype(np.float32),
        "valid": rng.random(11) > 0.5,
        "voxels": rng.integers(0, 1000, 11),
        "half": rng.normal(size=3).astype(np.float16),
        "none": np.empty((0, 11), dtype=np.float32),
        "single": np.array(2.5),
    }
    write_tensors(path, tensors, metadata={"nested": {"a": [1, None]}})
    mapped, metadata = map_tensors(path)
    expected = load_file(path)
    assert metadata == {"nested": {"a": [1, None]}}
    assert mapped.keys() == expected.keys()
    for name, values in expected.items():
        assert mapped[name].dtype == values.dtype
        np.testing.assert_array_equal(mapped[name], values)
    assert isinstance(mapped["responses"], np.memmap)
    assert not mapped["responses"].flags.writeable
    # A map shows what is on the disk now, a copy would not.
    raw = bytearray(path.read_bytes())
    at = mapped["responses"].offset
    raw[at : at + 4] = np.float32(42).tobytes()
    with path.open("r+b") as stream:
        stream.write(raw)
    assert mapped["responses"][0, 0] == 42


def test_files_of_the_library_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": np.arange(3)}, path, metadata={"format": "pt"})
    mapped, metadata = map_tensors(path)
    assert metadata == {}
    assert mapped["a"].tolist() == [0, 1, 2]


def test_reading_into_memory_gives_writable_arrays_and_the_hash_of_the_file(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.arange(3.0)}, metadata={"b": 1})
    tensors, metadata, content_hash = read_tensors(path)
    tensors["a"][0] = 5
    assert load_file(path)["a"][0] == 0
    assert metadata == {"b": 1}
    assert content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_values_are_equal_bytes() -> None:
    first = encode_tensors({"a": np.ones(2), "b": np.zeros(3)}, metadata={"x": 1, "y": [2]})
    second = encode_tensors({"b": np.zeros(3), "a": np.ones(2)}, metadata={"y": (2,), "x": 1})
    assert first == second


def test_metadata_is_visible_to_the_library(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": np.ones(2)}, metadata={"x": 1})
    with safe_open(tmp_path / "x.safetensors", framework="np") as stream:
        assert stream.metadata() == {"clipmused": '{"x":1}'}


@pytest.mark.parametrize("keep", [0, 5, 8, 40, -1])
def test_truncated_files_are_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(encode_tensors({"a": np.ones(10)})[:keep])
    for read in (map_tensors, read_metadata, read_tensors):
        with pytest.raises(DataError, match=r"cut\.safetensors: not a whole safetensors file"):
            read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}',
        b'{"a":{"dtype":"XX","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"shape":[1]}}',
        b'{"__metadata__":{"clipmused":"{"}}',
        b"\xff\xfe",
    ],
)
def test_nonsense_headers_are_named(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(DataError, match="header cannot be read"):
        map_tensors(path)


def test_a_header_longer_than_the_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes((1 << 50).to_bytes(8, "little") + b"{}")
    with pytest.raises(DataError, match="10 bytes do not hold its header"):
        map_tensors(path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"a": np.ones(100)}))
    with pytest.raises(DataError, match="not a whole safetensors file"):
        read_tensors(path)


def test_missing_file(tmp_path: Path) -> None:
    for read in (map_tensors, read_metadata, read_tensors):
        with pytest.raises(MissingInputError, match=r"nothing\.safetensors"):
            read(tmp_path / "nothing.safetensors")


def test_digest_sees_where_parts_end() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(b"ab") == digest("ab")
