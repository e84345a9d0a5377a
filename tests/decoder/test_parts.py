from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.decoder.parts import Part, RowDropout, rows_of


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_overlaps_cover_the_part_and_nothing_else(sizes: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, sum(sizes)))
    stop = data.draw(st.integers(start, sum(sizes)))
    part = Part(start, stop, tuple(range(len(sizes))), tuple(sizes), (1,) * len(sizes))
    begins = [sum(sizes[:g]) for g in range(len(sizes))]
    rows = [begins[g] + row for g, within in part.overlaps() for row in range(within.start, within.stop)]
    assert rows == list(range(start, stop))


def test_dropout_is_torchs_own_with_its_random_numbers() -> None:
    x = torch.randn(6, 4)
    torch.manual_seed(3)
    expected = torch.nn.functional.dropout(x, 0.4)
    torch.manual_seed(3)
    torch.testing.assert_close(RowDropout(0.4)(x), expected, rtol=0, atol=0)
    assert RowDropout(0.4).eval()(x) is x
    assert RowDropout(0.0)(x) is x


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (2, 6), (5, 6)])
def test_rows_of_a_part_are_dropped_as_in_the_whole(start: int, stop: int) -> None:
    x = torch.randn(6, 4)
    model = torch.nn.Sequential(RowDropout(0.5), RowDropout(0.3))
    torch.manual_seed(3)
    whole = model(x)
    torch.manual_seed(3)
    with rows_of(model, Part(start, stop, (0,), (6,), (4,))):
        torch.testing.assert_close(model(x[start:stop]), whole[start:stop], rtol=0, atol=0)
    assert all(module.rows is None for module in model)
