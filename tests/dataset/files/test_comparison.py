from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.dataset.files.comparison import differences, grid_fields, grid_of
from clipmused_bids.records import Grid

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_nothing_differs_from_itself(value: dict[str, object]) -> None:
    assert differences(value, value) == ()


def test_both_sides_of_each_difference() -> None:
    stored = {"method": "ridge", "responses": {"lag": 5.0, "hrf": "spm"}, "seed": 1, "old": 3}
    asked = {"method": "clip-mused", "responses": {"lag": 4.0, "window": 2}, "seed": 1, "new": None}
    assert differences(stored, asked, sides=("model", "request")) == (
        "method: model ridge, request clip-mused",
        "responses.lag: model 5.0, request 4.0",
        "responses.window: model has none, request 2",
        "responses.hrf: model spm, request has none",
        "new: model has none, request None",
        "old: model 3, request has none",
    )


def test_what_only_one_side_has_and_what_may_differ() -> None:
    stored = {"a": 1, "b": {"c": 1, "d": 2}}
    assert differences(stored, {"a": 1}, stored_only="accept") == ()
    assert differences(stored, {"b": {"c": 1}}, stored_only="accept") == (
        "b.d: stored 2, requested has none",
    )
    assert differences(stored, {"a": 2, "b": {"c": 3, "d": 2}}, ignore=("a", "b.c")) == ()
    assert differences(stored, {"a": 1, "b": 7}, ignore=("b",)) == ()


def test_names_are_compared_as_sets_first_then_by_order() -> None:
    (line,) = differences({"labels": ["cat", "dog", "house"]}, {"labels": ["cat", "car", "house", "tree"]})
    assert line == "labels: stored 3, requested 4: only stored has dog; only requested has car, tree"
    (line,) = differences({"labels": ["a", "b", "c"]}, {"labels": ["a", "c", "b"]})
    assert line == "labels: stored 3, requested 3: the order or number differs from entry 2 on"
    (line,) = differences({"labels": [f"l{k}" for k in range(99)]}, {"labels": ["x"]})
    assert line.endswith("only stored has l0, l1, l2, l3, l4 and 94 more; only requested has x")


@pytest.mark.parametrize(
    ("left", "right"),
    [([1], [1, 2]), ([1, 2], [1]), (True, 1), (0, False), ("1", 1), (None, 0), ([], None), (1.0, "1.0")],
)
def test_values_of_other_kinds_differ(left: object, right: object) -> None:
    assert len(differences({"a": left}, {"a": right})) == 1


def test_equal_numbers_and_sequences_of_other_types_agree() -> None:
    assert differences({"a": 1, "b": [1, 2.5]}, {"a": 1.0, "b": np.array([1, 2.5])}) == ()
    assert len(differences({"a": 1e-3}, {"a": 1.1e-3})) == 1


def test_grids_agree_within_a_micrometre_scale() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    moved, off = affine.copy(), affine.copy()
    moved[0, 3] += 9e-4
    off[0, 3] += 2e-3
    stored = {"grid": grid_fields(Grid((4, 5, 6), affine))}
    assert differences(stored, {"grid": grid_fields(Grid((4, 5, 6), moved))}) == ()
    assert len(differences(stored, {"grid": grid_fields(Grid((4, 5, 6), off))})) == 1
    assert len(differences(stored, {"grid": grid_fields(Grid((4, 5, 7), affine))})) == 1


def test_grids_survive_json() -> None:
    grid = Grid((4, 5, 6), np.random.default_rng(0).normal(size=(4, 4)))
    again = grid_of(grid_fields(grid))
    assert again.shape == grid.shape
    np.testing.assert_array_equal(again.affine, grid.affine)
