from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.dataset.files.documents import (
    canonical_json,
    encode_tsv,
    number,
    plain,
    utf8,
    write_json,
    write_tsv,
)
from clipmused_bids.errors import DataError


def test_json_has_neither_nan_nor_arrays_nor_paths(tmp_path: Path) -> None:
    value = {"nan": math.nan, "inf": [math.inf], "array": np.arange(3, dtype=np.int8), "path": Path("a/b")}
    write_json(
        tmp_path / "x.json", {**value, "number": np.float32(0.5), "flag": np.True_, "none": None, 3: ("ä",)}
    )
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {
        "nan": None,
        "inf": [None],
        "array": [0, 1, 2],
        "path": "a/b",
        "number": 0.5,
        "flag": True,
        "none": None,
        "3": ["ä"],
    }


def test_canonical_json_does_not_depend_on_order_or_sequence_type() -> None:
    assert canonical_json({"b": (1, 2), "a": {"d": 1, "c": 2}}) == '{"a":{"c":2,"d":1},"b":[1,2]}'
    assert plain({"a": np.array([[1.0, np.nan]])}) == {"a": [[1.0, None]]}


def test_table_as_pandas_reads_it(tmp_path: Path) -> None:
    columns = {
        "text": ["a", "", None],
        "real": [0.1, math.nan, 1e-17],
        "count": np.array([1, -2, 3]),
        "flag": [True, False, np.True_],
    }
    write_tsv(tmp_path / "x.tsv", columns)
    table = pd.read_csv(tmp_path / "x.tsv", sep="\t", keep_default_na=False, na_values=["n/a"])
    assert table["text"].isna().tolist() == [False, True, True]
    np.testing.assert_array_equal(table["real"], [0.1, math.nan, 1e-17])
    assert table["count"].tolist() == [1, -2, 3]
    assert (tmp_path / "x.tsv").read_text().splitlines()[1] == "a\t0.1\t1\ttrue"


@given(st.lists(st.floats(allow_infinity=False), max_size=5))
def test_numbers_read_back_as_the_same_numbers(values: list[float]) -> None:
    lines = encode_tsv({"x": np.array(values)}, name="x").decode().splitlines()
    np.testing.assert_array_equal([number(line) for line in lines[1:]], values)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5))
def test_single_precision_numbers_too(values: list[float]) -> None:
    lines = encode_tsv({"x": np.array(values, dtype=np.float32)}, name="x").decode().splitlines()
    np.testing.assert_array_equal(np.array(lines[1:], dtype=np.float32), np.array(values, dtype=np.float32))


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb"])
def test_marks_that_would_break_the_table_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"x\.tsv: column name, row 2"):
        encode_tsv({"name": ["fine", text]}, name="x.tsv")
    with pytest.raises(DataError, match="a column name"):
        encode_tsv({text: []}, name="x.tsv")


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        encode_tsv({"a": [1, 2], "b": [1]}, name="x")


@pytest.mark.parametrize(
    ("raw", "written"),
    [(b"caf\xc3\xa9", "café"), (b"caf\xe9", "caf%E9"), (b"\xff\x80 x", "%FF%80 x"), (b"100%", "100%")],
)
def test_bytes_of_names_that_are_no_text(raw: bytes, written: str) -> None:
    assert utf8(os.fsdecode(raw)).decode("utf-8") == written
