from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from clipmused_bids.config import Selection
from clipmused_bids.dataset.runs.derivatives import find_derivatives
from clipmused_bids.dataset.runs.filters import read_filters
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.names import parse_name
from clipmused_bids.dataset.runs.walk import BidsFile
from clipmused_bids.errors import DataError, MissingInputError, SelectionError, UsageError
from clipmused_bids.records import Run


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two sessions of two runs, one with another acquisition; two descriptions of masks and confounds."""
    for ses in ("01", "02"):
        for name in (
            f"sub-1_ses-{ses}_task-x_run-01",
            f"sub-1_ses-{ses}_task-x_run-02",
            f"sub-1_ses-{ses}_task-x_acq-mb_run-01",
        ):
            touch(tmp_path / f"sub-1/ses-{ses}/func/{name}_events.tsv")
            folder = tmp_path / f"derivatives/p/sub-1/ses-{ses}/func"
            for space in ("T1w", "MNI152NLin6Asym"):
                touch(folder / f"{name}_space-{space}_desc-preproc_bold.nii.gz")
                touch(folder / f"{name}_space-{space}_desc-brain_mask.nii.gz")
            touch(folder / f"{name}_desc-confounds_timeseries.tsv")
    touch(tmp_path / "derivatives/p/dataset_description.json")
    return tmp_path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def runs_with(bids: Path, filters: Any, **options: Any) -> tuple[Run, ...]:
    path = bids / "filters.json"
    path.write_text(json.dumps(filters))
    options = {"image_kind": "auto", "need_events": True} | options
    derivatives = find_derivatives(bids, (), participants=("1",), image_kind="bold")
    return find_runs(
        bids,
        derivatives=derivatives,
        selection=Selection(filter_file=str(path)),
        participants=("1",),
        **options,
    )


def keys(runs: tuple[Run, ...]) -> list[str]:
    return [run.key.removeprefix("sub-1_").replace("_task-x", "") for run in runs]


EVERY = [f"ses-{ses}_{rest}" for ses in ("01", "02") for rest in ("acq-mb_run-1", "run-1", "run-2")]


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({}, EVERY),
        ({"session": "01"}, EVERY[:3]),
        ({"ses": "ses-01"}, EVERY[:3]),
        ({"session": ["01", "02"], "run": 2}, [EVERY[2], EVERY[5]]),
        ({"run": ["2"]}, [EVERY[2], EVERY[5]]),
        ({"run": "02", "session": 1}, [EVERY[2]]),
        ({"acquisition": None}, [k for k in EVERY if "acq" not in k]),
        ({"acquisition": "Query.NONE"}, [k for k in EVERY if "acq" not in k]),
        ({"acquisition": "*"}, [k for k in EVERY if "acq" in k]),
        ({"acq": "Query.ANY", "session": "02"}, ["ses-02_acq-mb_run-1"]),
        ({"acquisition": "Query.OPTIONAL"}, EVERY),
        ({"datatype": "func", "suffix": "bold", "extension": ".nii.gz", "task": "x", "subject": "1"}, EVERY),
    ],
)
def test_runs_are_those_whose_images_have_the_entities(
    bids: Path, wanted: dict[str, Any], kept: list[str]
) -> None:
    assert keys(runs_with(bids, {"bold": wanted})) == kept
    # The same runs are found where only events are looked at, so that a split is made of the same ones.
    events_only = runs_with(bids, {"bold": wanted}, image_kind="bold", need_images=False)
    assert keys(events_only) == kept


def test_each_kind_is_filtered_by_itself_and_what_is_left_out_is_said(
    bids: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filters = {
        "bold": {"space": "T1w"},
        "events": {"acquisition": None},
        "mask": {"session": "01"},
        "confounds": {"run": 1},
    }
    with caplog.at_level(logging.INFO):
        runs = runs_with(bids, filters)
    assert {run.space for run in runs} == {"T1w"}
    # An events file without acq- serves its neighbour with acq- as well, by inheritance.
    assert keys(runs) == EVERY
    assert all("acq" not in str(run.events) for run in runs)
    assert [run.mask is None for run in runs] == [False] * 3 + [True] * 3
    assert [run.confounds is None for run in runs] == [False, False, True] * 2
    assert (
        "--bids-filter-file filters.json leaves out 6 bold file(s), 2 confounds file(s), 2 events file(s), "
        in caplog.text
    )
    assert "6 mask file(s)" in caplog.text
    assert "have events but no image" not in caplog.text


def test_runs_that_a_filter_leaves_out_are_no_runs_without_images(
    bids: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        runs_with(bids, {"bold": {"session": "01", "space": "T1w"}})
    assert "9 bold file(s), 3 run(s)" in caplog.text
    assert "have events but no image" not in caplog.text


def test_old_names_count_as_bold_and_extensions_need_no_dot() -> None:
    path = Path("/d/sub-1/func/sub-1_task-x_bold_space-T1w_preproc.nii.gz")
    file = BidsFile(path, Path("/d"), parse_name(path))

    def kept(tmp: Path, wanted: dict[str, Any]) -> bool:
        return bool(read_filters(write(tmp, {"bold": wanted})).keep("bold", [file]))

    def write(tmp: Path, filters: Any) -> str:
        (tmp / "f.json").write_text(json.dumps(filters))
        return str(tmp / "f.json")

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        assert kept(Path(folder), {"suffix": "bold", "extension": "nii.gz"})
        assert not kept(Path(folder), {"suffix": "preproc"})
        assert not kept(Path(folder), {"extension": ".nii"})
        assert not kept(Path(folder), {"datatype": "anat"})


@pytest.mark.parametrize("filters", [{"bold": {"session": "09"}}, {"events": {"task": "rest"}}])
def test_filters_that_leave_nothing(bids: Path, filters: dict[str, Any]) -> None:
    with pytest.raises(
        SelectionError, match=r"--bids-filter-file filters\.json leaves nothing: it keeps out"
    ) as caught:
        runs_with(bids, filters)
    assert caught.value.exit_code == 18


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"t1w": {}}, r"unknown kind of file t1w\.\nhint: kinds are bold, betas, events, mask, confounds"),
        ({"bold": {"sesion": "1"}}, r"unknown entity sesion\.\nhint: entities are subject, session, "),
        ({"bold": "T1w"}, "bold must be an object of entities"),
        ({"bold": {"run": 1.5}}, "run = 1.5 has no meaning"),
        ({"bold": {"run": True}}, "run = True has no meaning"),
        ({"bold": {"run": []}}, r"run = \[\] has no meaning"),
        ({"bold": {"run": {"a": 1}}}, "has no meaning"),
        ({"bold": {"run": "Query.SOME"}}, r"run = 'Query\.SOME' has no meaning"),
    ],
)
def test_filters_without_meaning(bids: Path, filters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        runs_with(bids, filters)


def test_filter_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.json"):
        read_filters(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json: not a JSON file"):
        read_filters(str(tmp_path / "bad.json"))
