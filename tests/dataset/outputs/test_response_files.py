from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from clipmused_bids.dataset.outputs.response_files import (
    check_responses,
    read_responses,
    source_sizes,
    write_responses,
)
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import CannotCreateError, DataError, ExitCode, MissingInputError
from clipmused_bids.records import Grid, Run, RunResponses, Trials

GRID = Grid((3, 4, 5), np.diag([2.0, 2.0, 2.5, 1.0]))
VOXELS = np.array([3, 7, 8, 59])
CONFIG = {"kind": "lss", "hrf": "spm", "high_pass": 0.01, "confounds": ("default",), "mask": None}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    events, image = tmp_path / "events.tsv", tmp_path / "bold.nii.gz"
    events.write_text("onset\tduration\n")
    image.write_bytes(b"0123456789")
    return Run(
        "01",
        None,
        "x",
        1,
        {"sub": "01", "task": "x", "run": "1"},
        events=events,
        image=image,
        image_kind="bold",
        mask=tmp_path / "not fetched",
        sources={"events": "bids:raw:sub-01/func/e.tsv", "image": "bids:fmriprep:sub-01/func/b.nii.gz"},
    )


def trials(n: int = 5) -> Trials:
    return Trials(
        onset=np.arange(n) * 4.1 + 0.3,
        duration=np.full(n, 2.0),
        stimulus_id=tuple("" if k == 2 else f"dog/a b_{k}.jpg" for k in range(n)),
        condition=tuple("face" if k % 2 else "" for k in range(n)),
        columns={
            "trial": tuple("ABCDE"[:n]),
            "rt": ("n/a",) * n,
            "Units": tuple(f"a\tb {k}" for k in range(n)),
        },
        nuisance_onset=np.array([1.5, 9.25]),
        nuisance_duration=np.array([0.0, 1.0]),
        nuisance_kind=("button", "cue"),
        n_rows=n + 4,
        n_rows_in_trials=n,
        excluded={"baseline": 2},
        stimulus_column="stim_file",
        notes=("repeated header",),
    )


def responses(n: int = 5, *, kept: tuple[int, ...] = (0, 1, 2, 4), seed: int = 0) -> RunResponses:
    values = np.random.default_rng(seed).normal(size=(len(kept), len(VOXELS))).astype(np.float32)
    valid = np.array([True, True, False, True])
    values[:, ~valid] = 0
    return RunResponses(
        values, valid, np.array(kept), "lss", "percent signal change", {"beyond the run": n - len(kept)}
    )


def write(tree: OutputTree, run: Run, **changes: object) -> Path:
    given = {
        "responses": responses(),
        "trials": trials(),
        "config": CONFIG,
        "precision": "float32",
        **changes,
    }
    return write_responses(
        tree,
        run,
        given["responses"],  # type: ignore[arg-type]
        given["trials"],  # type: ignore[arg-type]
        grid=GRID,
        voxels=VOXELS,
        config=given["config"],  # type: ignore[arg-type]
        precision=given["precision"],  # type: ignore[arg-type]
    )


def same_trials(found: Trials, expected: Trials) -> None:
    for name in ("onset", "duration", "nuisance_onset", "nuisance_duration"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    nothing = np.empty(0)
    blank = {"onset": nothing, "duration": nothing, "nuisance_onset": nothing, "nuisance_duration": nothing}
    first, second = replace(found, **blank), replace(expected, **blank)  # type: ignore[arg-type]
    for name in (
        "stimulus_id",
        "condition",
        "columns",
        "nuisance_kind",
        "n_rows",
        "n_rows_in_trials",
        "excluded",
    ):
        assert getattr(first, name) == getattr(second, name), name
    assert (first.stimulus_column, first.notes) == (second.stimulus_column, second.notes)


def test_everything_comes_back(tmp_path: Path, run: Run) -> None:
    path = write(OutputTree(tmp_path / "out"), run)
    stored = read_responses(path)
    expected = trials().take(np.array([0, 1, 2, 4]))
    cleaned = {**expected.columns, "Units": tuple(f"a b {k}" for k in (0, 1, 2, 4))}
    same_trials(stored.trials, replace(expected, columns=cleaned))
    assert stored.trial_number.tolist() == [1, 2, 3, 5]
    np.testing.assert_array_equal(stored.values, responses().values)
    np.testing.assert_array_equal(stored.valid, [True, True, False, True])
    np.testing.assert_array_equal(stored.voxels, VOXELS)
    assert stored.grid.agrees_with(GRID)
    assert (stored.kind, stored.unit, stored.dropped) == (
        "lss",
        "percent signal change",
        {"beyond the run": 1},
    )
    assert stored.sources == tuple(run.sources.values())
    assert stored.config["confounds"] == ["default"]


def test_values_are_a_map_on_the_file(tmp_path: Path, run: Run) -> None:
    path = write(OutputTree(tmp_path / "out"), run)
    stored = read_responses(path)
    assert isinstance(stored.values, np.memmap)
    np.testing.assert_array_equal(stored.decoded(np.array([2, 0])), stored.values[:, [2, 0]])
    np.testing.assert_array_equal(stored.values, load_file(path)["responses"])


def test_half_precision_is_relative_to_each_voxel(tmp_path: Path, run: Run) -> None:
    values = np.array([[12000.3, 70000, 1e-4, 0], [12001.1, -65000, 2.5e-4, 0]], dtype=np.float32)
    given = RunResponses(values, np.ones(4, dtype=bool), np.array([0, 1]), "lss", "a.u.", {})
    stored = read_responses(write(OutputTree(tmp_path / "out"), run, responses=given, precision="float16"))
    assert stored.values.dtype == np.float16
    assert stored.scale is not None
    np.testing.assert_array_equal(np.log2(stored.scale) % 1, 0)
    columns = np.array([0, 1, 3, 2])
    np.testing.assert_allclose(stored.decoded(columns), values[:, columns], rtol=2**-11)
    assert stored.decoded(columns).dtype == np.float32


def test_the_sidecar_describes_every_column(tmp_path: Path, run: Run) -> None:
    path = write(OutputTree(tmp_path / "out"), run)
    header = path.with_suffix(".tsv").read_text().splitlines()[0].split("\t")
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert header == ["onset", "duration", "trial", "stimulus_id", "condition", "events_trial", "rt", "Units"]
    assert all("Description" in sidecar[name] for name in header if name != "Units")
    assert sidecar["Sources"] == list(run.sources.values())
    assert sidecar["SourceSizes"] == {"events": 15, "image": 10}
    assert sidecar["Units"] == "percent signal change"
    assert sidecar["NumberOfVoxelsWithoutSignal"] == 1
    assert source_sizes(run) == {"events": 15, "image": 10}


NAMES = st.sampled_from(
    ["onset", "trial", "events_trial", "events_events_trial", "condition", "a", "Sources", "x y", "é"]
)
CELLS = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.dictionaries(NAMES, st.tuples(CELLS, CELLS), max_size=6), st.tuples(CELLS, CELLS))
def test_any_columns_of_the_events_come_back(
    tmp_path: Path, run: Run, columns: dict[str, tuple[str, str]], ids: tuple[str, str]
) -> None:
    given = replace(trials(2), columns=columns, stimulus_id=ids, condition=("", "b"))
    path = write(OutputTree(tmp_path / "out"), run, responses=responses(kept=(0, 1)), trials=given)
    found = read_responses(path).trials
    assert dict(found.columns) == columns
    assert found.stimulus_id == tuple("" if name == "n/a" else name for name in ids)


def test_done_work_is_recognised(tmp_path: Path, run: Run) -> None:
    tree = OutputTree(tmp_path / "out")
    assert check_responses(tree, run, kind="lss", config=CONFIG) == "absent"
    path = write(tree, run)
    assert check_responses(tree, run, kind="lss", config=CONFIG) == "current"
    assert check_responses(tree, run, kind="window", config=CONFIG) == "absent"
    for part in (path, path.with_suffix(".json"), path.with_suffix(".tsv")):
        os.utime(part, ns=(9, 9))
    write(tree, run)
    assert {p.stat().st_mtime_ns for p in path.parent.iterdir()} == {9}


def test_another_configuration_is_named_on_both_sides(tmp_path: Path, run: Run) -> None:
    tree = OutputTree(tmp_path / "out")
    write(tree, run)
    with pytest.raises(
        CannotCreateError, match=r"sub-01 task-x run-1: .*hrf: then spm, now glover"
    ) as caught:
        check_responses(tree, run, kind="lss", config={**CONFIG, "hrf": "glover"})
    assert caught.value.exit_code == ExitCode.CANNOT_CREATE
    assert "--overwrite" in (caught.value.hint or "")


def test_another_source_file_is_named(tmp_path: Path, run: Run) -> None:
    tree = OutputTree(tmp_path / "out")
    write(tree, run)
    assert run.image is not None
    run.image.write_bytes(b"other")
    with pytest.raises(CannotCreateError, match="bytes of the image: then 10, now 5"):
        check_responses(tree, run, kind="lss", config=CONFIG)


@pytest.mark.parametrize("suffix", [".safetensors", ".json", ".tsv"])
def test_parts_of_two_estimates_are_not_read_as_one(tmp_path: Path, run: Run, suffix: str) -> None:
    tree = OutputTree(tmp_path / "out")
    path = write(tree, run)
    before = path.with_suffix(suffix).read_bytes()
    write(tree, run, trials=replace(trials(), condition=("z",) * 5), responses=responses(seed=1))
    path.with_suffix(suffix).write_bytes(before)
    with pytest.raises(DataError, match="not of one estimate"):
        read_responses(path)
    assert check_responses(tree, run, kind="lss", config=CONFIG) == "absent"


def test_missing_and_broken_parts(tmp_path: Path, run: Run) -> None:
    tree = OutputTree(tmp_path / "out")
    path = write(tree, run)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(DataError, match="not a whole safetensors file"):
        read_responses(path)
    assert check_responses(tree, run, kind="lss", config=CONFIG) == "absent"
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(DataError, match="not of one estimate"):
        read_responses(path)
    path.write_bytes(whole)
    path.with_suffix(".json").unlink()
    with pytest.raises(MissingInputError, match="json"):
        read_responses(path)


def test_a_failed_write_makes_no_array_file(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Exception, match="No space left"):
        write(OutputTree(tmp_path / "out"), run)
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not any(name.endswith((".safetensors", ".tmp")) for name in names)
