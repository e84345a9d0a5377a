from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clipmused_bids.dataset.outputs.split_file import read_split, write_split
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Split

SPLIT = Split(
    run_key=("sub-01_ses-a_task-x_run-1", "sub-01_ses-a_task-x_run-1", "sub-02_task-x", "sub-02_task-x"),
    stimulus_id=("face#1", "face#2", "dog/a b.jpg", ""),
    set_name=("train", "test", "val", "none"),
    reason=("rest", "seen often", "for stopping", "repeated clip"),
    rule="repeats",
    regime="unseen stimuli",
)


def table(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def test_a_split_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "split.tsv"
    write_split(path, SPLIT, sources=["bids:raw:sub-01"])
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert all(sidecar[name]["Description"] for name in path.read_text().splitlines()[0].split("\t"))
    assert sidecar["Sources"] == ["bids:raw:sub-01"]
    path.with_suffix(".json").unlink()
    assert read_split(path) == SPLIT
    assert path.read_text().splitlines()[3].startswith("sub-02\tsub-02_task-x\tdog/a b.jpg\tval\t")


def test_tables_made_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_bytes(
        b"\xef\xbb\xbfset\trun\tstimulus_id\r\n"
        b"train\tsub-01_task-x_run-01\t7\r\n"
        b"train\tsub-01_task-x_run-01\t7\r\n"
        b"test\tsub-01_task-x_run-010\t7\r\n"
    )
    found = read_split(path)
    assert found.run_key == ("sub-01_task-x_run-1", "sub-01_task-x_run-10")
    assert found.stimulus_id == ("7", "7")
    assert found.set_name == ("train", "test")
    assert (found.rule, found.regime) == ("file", "")
    assert "mine.tsv" in found.reason[0]


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "s.tsv"
    with pytest.raises(MissingInputError, match=r"s\.tsv"):
        read_split(path)
    with pytest.raises(DataError, match="column set is missing; columns are run, stimulus_id"):
        read_split(table(path, "run\tstimulus_id", "r\ts"))
    with pytest.raises(DataError, match="row 2 has the set validation"):
        read_split(table(path, "run\tstimulus_id\tset", "r\ts\ttrain", "r\tt\tvalidation"))
    with pytest.raises(DataError, match="row 1 has the set new"):
        read_split(table(path, "run\tstimulus_id\tset", "r\ts\tnew"))
    with pytest.raises(DataError, match=r"s of r is in train \(row 1\), test \(row 3\)"):
        read_split(table(path, "run\tstimulus_id\tset", "r\ts\ttrain", "r\tt\ttrain", "r\ts\ttest"))
    with pytest.raises(DataError, match="column rule has several values"):
        read_split(table(path, "run\tstimulus_id\tset\trule", "r\ts\ttrain\ta", "r\tt\ttrain\tb"))


def test_unchanged_splits_are_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "split.tsv"
    write_split(path, SPLIT)
    before = path.stat().st_ino
    write_split(path, replace(SPLIT))
    assert path.stat().st_ino == before
