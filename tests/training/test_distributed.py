"""Two and three processes train what one trains: real processes that meet over the loopback device."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.errors import InterruptedRunError
from clipmused_bids.training.processes import ALONE
from tests.training.launched import InFolder, alone, fitted, settings, together

pytestmark = pytest.mark.slow

Results = Callable[[str, int], dict[str, np.ndarray]]
BY_TWO = ["plain", "in parts", "bf16", "bf16 in parts", "refit", "marks", "no numbers first", "goes on"]
BY_THREE = ["plain", "goes on"]


class StopsAt(InFolder):
    """Asks to stop after some step."""

    def stop_asked(self) -> bool:
        return self.steps == 13

    def of(self, name: str) -> StopsAt:
        return StopsAt(super().of(name).folder)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Result of a case by so many processes; ``goes on`` starts from what one process has kept."""

    @cache
    def launched(count: int) -> dict[str, dict[str, np.ndarray]]:
        folder = tmp_path_factory.mktemp("run")
        with pytest.raises(InterruptedRunError):
            fitted(ALONE, settings(), keeper=StopsAt(folder))
        cases = BY_TWO if count == 2 else BY_THREE
        ended = together(cases, count, folder)
        assert ended.codes == [0] * count, ended.printed
        return ended.results

    @cache
    def run(case: str, count: int) -> dict[str, np.ndarray]:
        return alone(case, tmp_path_factory.mktemp("run")) if count == 1 else launched(count)[case]

    return run


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, prefix: str) -> float:
    """Largest difference of curves relative to the largest value of the curve."""
    differences = []
    for name in (name for name in one if name.startswith(prefix)):
        expected, found = one[name], other[name]
        np.testing.assert_array_equal(np.isnan(expected), np.isnan(found), err_msg=name)
        scale = max(float(np.nanmax(np.abs(expected), initial=0)), 1e-6)
        differences.append(float(np.nanmax(np.abs(expected - found), initial=0)) / scale)
    return max(differences)


@pytest.mark.parametrize("count", [2, 3])
def test_curves_weights_and_predictions_are_those_of_one_process(ran: Results, count: int) -> None:
    """54 steps with dropout, mixing, own maps in native space, both levels' guidance, a fixed readout, a last batch of
    two trials.
    """
    one, several = ran("plain", 1), ran("plain", count)
    assert set(one) == set(several)
    assert len(one["curve.epoch"]) == 7
    assert np.isfinite(one["curve.loss_low"][1:]).all()
    assert np.isfinite(one["curve.loss_high"][1:]).all()
    assert largest_difference(one, several, prefix="curve.loss") < 1e-4
    assert largest_difference(one, several, prefix="curve.val") < 1e-4
    assert largest_difference(one, several, prefix="curve.gradient") < 1e-3
    assert largest_difference(one, several, prefix="curve.") < 1e-2
    assert any(name.startswith("gradient.") and value.any() for name, value in one.items())
    for name in (name for name in one if name.startswith("gradient.")):
        np.testing.assert_allclose(several[name], one[name], rtol=1e-3, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(one["best"], several["best"])
    np.testing.assert_allclose(several["predicted"], one["predicted"], atol=1e-4)
    for name in (name for name in one if name.startswith("weight.")):
        # Keys' biases have no gradient but rounding, which Adam blows up.
        if not name.endswith("qkv.bias"):
            np.testing.assert_allclose(several[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("case", "tolerance"), [("in parts", 1e-4), ("bf16", 2e-2), ("bf16 in parts", 2e-2)])
def test_parts_of_each_process_and_mixed_precision(ran: Results, case: str, tolerance: float) -> None:
    """Compared with one process and undivided batches."""
    one, several = ran(case.removesuffix(" in parts").replace("in parts", "plain"), 1), ran(case, 2)
    assert largest_difference(one, several, prefix="curve.loss") < tolerance
    assert largest_difference(one, several, prefix="curve.val") < tolerance
    if case == "bf16":
        assert largest_difference(one, ran("plain", 1), prefix="curve.loss") > 1e-6


def test_the_second_fit_to_all_trials_is_shared_too(ran: Results) -> None:
    one, several = ran("refit", 1), ran("refit", 2)
    np.testing.assert_allclose(several["predicted"], one["predicted"], atol=1e-4)


def test_rows_read_by_any_process_count_as_read(ran: Results) -> None:
    one, several = ran("marks", 1), ran("marks", 2)
    assert any(values.any() for values in one.values())
    for name, values in one.items():
        np.testing.assert_array_equal(several[name], values, err_msg=name)


def test_after_a_training_that_fails_alike_everywhere_they_train_again(
    ran: Results,
) -> None:
    np.testing.assert_array_equal(ran("no numbers first", 2)["curve.loss"], ran("plain", 2)["curve.loss"])


@pytest.mark.parametrize("count", [2, 3])
def test_what_one_process_has_kept_several_go_on_from(ran: Results, count: int) -> None:
    assert largest_difference(ran("plain", 1), ran("goes on", count), prefix="curve.loss") < 1e-4


def test_a_request_to_one_stops_all_after_one_step_and_another_number_goes_on(
    ran: Results, tmp_path: Path
) -> None:
    ended = together(["goes on"], 2, tmp_path, rank="1", step="14", what="usr1")
    assert ended.codes == [75, 75], ended.printed
    assert "after step 5 of 9" in ended.printed[0]
    assert not ended.printed[1].strip()
    found = alone("goes on", tmp_path)
    assert largest_difference(ran("plain", 1), found, prefix="curve.loss") < 1e-4


@pytest.mark.parametrize(("rank", "count"), [("0", 2), ("1", 3)])
def test_where_one_is_killed_the_others_end_and_the_state_serves(
    ran: Results, tmp_path: Path, rank: str, count: int
) -> None:
    ended = together(["keeps"], count, tmp_path, rank=rank, step="14", what="kill")
    codes = [code for k, code in enumerate(ended.codes) if str(k) != rank]
    assert codes == [75] * (count - 1), ended.printed
    assert ended.codes[int(rank)] == -9
    survivor = ended.printed[1 if rank == "0" else 0]
    assert "ended (killed, or out of memory?)" in survivor
    assert "Traceback" not in "".join(ended.printed)
    found = alone("keeps", tmp_path)
    assert largest_difference(ran("plain", 1), found, prefix="curve.loss") < 1e-4


def test_an_error_of_one_ends_all_with_its_code_and_its_words(tmp_path: Path) -> None:
    ended = together(["plain"], 2, tmp_path, rank="1", step="14", what="error")
    assert ended.codes == [65, 65], ended.printed
    assert "process 1 of 0-1: this process alone cannot read on." in ended.printed[0]


def test_a_full_disk_of_process_0_ends_the_others_silently(tmp_path: Path) -> None:
    ended = together(["disk full"], 3, tmp_path)
    assert ended.codes == [74, 74, 74], ended.printed
    assert "the disk is full." in ended.printed[0]
    assert not "".join(ended.printed[1:]).strip()
