"""Every published events file that is at hand, as the benchmark prints them: what is read, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.events_wild import Outcome, outcomes

DATA = Path(os.environ.get("CLIPMUSED_TEST_DATA", "."))
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("CLIPMUSED_TEST_DATA" not in os.environ, reason="CLIPMUSED_TEST_DATA is not set"),
]

# dataset, task, how it was found: column, rows, trials, stimuli, modelled besides, left out, labels
READ = {
    ("ds000105", "objectviewing", "layout"): (None, 96, 8, 8, {}, {}, "8"),
    ("ds000107", "onebacktask", "layout"): (None, 384, 24, 4, {}, {}, "4"),
    ("ds000117", "facerecognition", "layout"): ("stim_file", 93, 93, 48, {}, {}, "45 of them since each"),
    ("ds000233", "beh", "layout"): ("stim_file", 88, 88, 40, {}, {}, "20"),
    ("ds001246", "perception", "layout"): ("stimulus_name", 57, 55, 50, {}, {"baseline": 2}, "only says stimulus"),
    ("ds001499", "5000scenes", "layout"): ("stim_file", 37, 37, 37, {}, {}, "trial_type is empty"),
    ("ds001499", "localizer", "layout"): ("image", 204, 192, 168, {}, {"baseline": 12}, "3"),
    ("ds003825", "rsvp", "eeg"): ("stim", 399, 399, 399, {}, {}, "trial_type is empty"),
    ("ds003965", "face", "logs"): (
        None, 438, 40, 40, {"rating": 5, "response": 6}, {"baseline": 47, "scanner pulse": 340}, "40"
    ),
    ("ds004192", "things", "layout"): ("file_path", 92, 82, 82, {"catch": 10}, {}, "only says exp, test"),
    ("ds004488", "action", "layout"): ("stim_file", 60, 60, 60, {}, {}, "60"),
    ("ds004496", "coco", "layout"): ("condition", 150, 120, 120, {"no stimulus": 30}, {}, "120"),
    ("ds004496", "imagenet", "layout"): ("stim_file", 100, 100, 100, {}, {}, "100"),
    ("ds005165", "localizer", "layout"): ("stim_file", 125, 120, 100, {}, {"baseline": 5}, "5"),
    ("ds005165", "test", "layout"): ("stim_file", 113, 85, 85, {"oddball": 28}, {}, "only says test"),
}  # fmt: skip
REFUSED = {
    ("ds000113", "movie", "layout"): "no stimulus column and no trial_type",
    ("ds001246", "imagery", "layout"): "names neither stimuli nor categories: trials are only called imagery",
    ("ds003825", "rsvp", "layout"): "No functional runs",
    ("ds003965", "face", "layout"): "No functional runs",
    ("ds004212", "main", "layout"): "No functional runs",
    ("ds004212", "main", "meg"): "names neither stimuli nor categories: trials are only called exp, test",
    ("ds006642", "backtothefuture", "layout"): "is a converter's unfilled template",
}


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, str], Outcome]:
    return {(one.dataset, one.task, one.found): one for one in outcomes(DATA / "events_wild")}


def test_every_dataset_is_expected(found):
    assert set(found) == set(READ) | set(REFUSED)
    assert {key[0] for key in found} == {path.name for path in (DATA / "events_wild").iterdir()}


@pytest.mark.parametrize("key", READ, ids="-".join)
def test_what_is_read(found, key):
    one = found[key]
    assert not one.refusal
    *expected, labels = READ[key]
    assert [one.column, one.n_rows, one.n_trials, one.n_stimuli, one.modelled, one.left_out] == expected
    assert one.labels == labels if labels.isdigit() else labels in one.labels


@pytest.mark.parametrize("key", REFUSED, ids="-".join)
def test_what_is_refused(found, key):
    assert REFUSED[key] in found[key].refusal
