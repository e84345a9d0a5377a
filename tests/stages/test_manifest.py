from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from clipmused_bids.config import Config, InputOptions, Selection
from clipmused_bids.errors import ClipMusedError, DataError, MissingInputError, SelectionError, UsageError
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.manifest import FoundRuns, find_betas
from clipmused_bids.stages.plan import make_plan

HEADER = "participant_id\tsession\trun\tfile\tindex\tstimulus_id"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two people, two sessions, two runs each, of two trials."""
    (tmp_path / "bids").mkdir()
    lines = [HEADER]
    for participant in ("2", "10"):
        for session in ("a", "b"):
            (tmp_path / f"{participant}{session}.npy").write_bytes(b"not opened")
            lines += [
                f"{participant}\t{session}\t{1 + k // 2}\t{participant}{session}.npy\t{k}\ts{k}"
                for k in range(4)
            ]
    path = tmp_path / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def config(manifest: Path, **changes: Any) -> Config:
    inputs = InputOptions(betas=str(manifest), **changes.pop("inputs", {}))
    selection = Selection(**changes.pop("selection", {}))
    options = {"actions": ("train",), "inputs": inputs, "selection": selection, **changes}
    return Config(
        bids_dir=manifest.parent / "bids", output_dir=manifest.parent / "out", level="group", **options
    )


def found(manifest: Path, failures: Failures | None = None, **changes: Any) -> FoundRuns:
    return find_betas(config(manifest, **changes), manifest, failures=failures or Failures())


def test_everyone_in_natural_order_and_the_split_sees_all(manifest: Path) -> None:
    everything = found(manifest)
    assert everything.participants == ("2", "10")
    assert len(everything.runs) == len(everything.event_runs) == len(everything.trials) == 8
    some = found(manifest, selection={"participants": ("sub-10",), "sessions": ("b",), "runs": (2,)})
    assert [run.key for run in some.runs] == ["sub-10_ses-b_task-betas_run-2"]
    assert [run.participant for run in some.event_runs] == ["2", "10"]
    decoding = found(manifest, actions=("decode",), selection={"participants": ("10",)})
    assert {run.participant for run in decoding.event_runs} == {"10"}
    assert [d.name for d in everything.derivatives] == ["betas", "manifest"]


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        ({"participants": ("01",)}, SelectionError, "No participant 01"),
        ({"sessions": ("c",)}, SelectionError, "--session-id c: not in the manifest; there are a, b"),
        ({"runs": (7,)}, SelectionError, "--run-id 7: not in the manifest; there are 1, 2"),
        ({"tasks": ("x", "y")}, SelectionError, "--task-id x y: not in the manifest; there are betas"),
        ({"space": "MNI152NLin6Asym"}, SelectionError, "No image in space MNI152NLin6Asym"),
        ({"filter_file": "f.json"}, UsageError, "--betas with --bids-filter-file"),
    ],
)
def test_filters_must_agree_with_the_manifest(
    manifest: Path, selection: dict[str, Any], error: type[ClipMusedError], message: str
) -> None:
    with pytest.raises(error, match=message):
        found(manifest, selection=selection)


@pytest.mark.parametrize(
    ("option", "flag"),
    [
        ({"trial_types": ("face",)}, "--trial-type"),
        ({"merge_blocks": "off"}, "--merge-blocks"),
        ({"stimulus_column": "x"}, "--stimulus-column"),
        ({"confounds": "none"}, "--confounds"),
        ({"derivatives": ("x",)}, "--derivatives"),
        ({"movie": "m.mp4"}, "--movie"),
        ({"resample": "MNI152NLin2009cAsym:res-2"}, "--resample"),
    ],
)
def test_options_of_what_it_replaces_are_refused(manifest: Path, option: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError, match=f"--betas with {flag}: the manifest takes the place"):
        found(manifest, inputs=option)


@pytest.mark.parametrize("kind", ["lss", "window"])
def test_other_responses_are_refused(manifest: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=f"--betas with --response {kind}"):
        found(manifest, overrides={"responses": {"kind": kind}})
    assert found(manifest, overrides={"responses": {"kind": "betas"}}).runs


def test_tasks_are_those_of_the_column_else_of_the_request(manifest: Path) -> None:
    assert {run.task for run in found(manifest, selection={"tasks": ("nsd",)}).runs} == {"nsd"}
    lines = manifest.read_text().splitlines()
    named = [f"{line}\t{'task' if k == 0 else 'xy'[k % 2]}" for k, line in enumerate(lines)]
    manifest.write_text("\n".join(named) + "\n")
    with pytest.raises(UsageError, match="Several tasks: x, y"):
        found(manifest)
    assert {run.task for run in found(manifest, selection={"tasks": ("y",)}).runs} == {"y"}


def test_a_missing_file_fails_its_participant_only(manifest: Path) -> None:
    (manifest.parent / "10a.npy").unlink()
    failures = Failures()
    assert found(manifest, failures).participants == ("2",)
    assert isinstance(failures.errors["10"], MissingInputError)
    (manifest.parent / "2b.npy").unlink()
    with pytest.raises(MissingInputError, match=r"2b\.npy"):
        found(manifest)


def test_a_manifest_without_names_serves_decoding_alone(
    manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [line.rpartition("\t")[0] for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="no row names a stimulus"):
        found(manifest)
    with caplog.at_level(logging.INFO):
        found(manifest, actions=("decode",))
    assert "16 rows, 16 of them asked for, in 4 file(s); 8 run(s) have no onsets" in caplog.text


def test_the_plan_needs_no_folder_of_a_participant(manifest: Path) -> None:
    (manifest.parent / "bids" / "participants.tsv").write_text("participant_id\nsub-2\nsub-10\nsub-99\n")
    plan = make_plan(config(manifest), failures=Failures())
    assert (plan.kind, plan.common_space, plan.participants) == ("betas", False, ("2", "10"))
    assert plan.listed_but_absent() == ()
    assert make_plan(config(manifest, inputs={"common_space": True}), failures=Failures()).common_space
    with pytest.raises(UsageError, match="--write-betas"):
        make_plan(config(manifest, write_betas=True), failures=Failures())
    (manifest.parent / "bids" / "participants.tsv").unlink()
    (manifest.parent / "bids").rmdir()
    with pytest.raises(MissingInputError, match="BIDS folder"):
        make_plan(config(manifest), failures=Failures())
