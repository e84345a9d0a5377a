"""A part of a memory map is the same array where another process opens it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.dataset.files.mapped import MappedArrays
from clipmused_bids.dataset.files.tensors import map_tensors, write_tensors
from clipmused_bids.errors import MissingInputError

FILES = MappedArrays()


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    write_tensors(
        tmp_path / "a.safetensors",
        {"first": generator.integers(0, 9, 5), "second": generator.random((7, 3)).astype(np.float16)},
    )
    return map_tensors(tmp_path / "a.safetensors")[0]


def test_arrays_of_a_file_and_rows_of_them_are_found_again(mapped: dict[str, np.ndarray]) -> None:
    for array in (mapped["first"], mapped["second"], mapped["second"][2:5], np.asarray(mapped["second"])[4:]):
        place = FILES.place_of(array)
        assert place is not None
        again = FILES.array_at(json.loads(json.dumps(place)))
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)
        assert isinstance(again, np.memmap)


def test_what_is_in_memory_or_has_gaps_has_no_place(mapped: dict[str, np.ndarray]) -> None:
    assert FILES.place_of(np.arange(4)) is None
    assert FILES.place_of(mapped["second"][:, :2]) is None
    assert FILES.place_of(mapped["second"][[0, 2]]) is None
    assert FILES.place_of(mapped["second"] * 2) is None


def test_a_file_that_is_not_there_is_said_to_be_on_another_node(
    mapped: dict[str, np.ndarray], tmp_path: Path
) -> None:
    place = FILES.place_of(mapped["second"])
    assert place is not None
    with pytest.raises(MissingInputError, match="other") as raised:
        FILES.array_at({**place, "path": str(tmp_path / "other")})
    assert "all nodes" in str(raised.value)
    with pytest.raises(MissingInputError):
        FILES.array_at({**place, "shape": [700, 3]})
