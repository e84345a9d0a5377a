from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.outputs.stimulus_catalogue import write_catalogue
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import Picture, Stimuli


def stimuli(*ids: str, bids_dir: Path) -> Stimuli:
    paths = {
        "b": bids_dir / "stimuli" / "x" / "b.png",
        "c": Path("/elsewhere/secret/c.png"),
        "d": bids_dir / "d.png",
    }
    n = len(ids)
    labels = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])[:n]
    captions = tuple(("A dog.", "A cat.")[: k % 3] for k in range(n))
    return Stimuli(
        ids,
        tuple(Picture(paths[name]) if paths.get(name) else None for name in ids),
        captions,
        ("dog", "hot pot"),
        labels,
    )


def test_columns(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    path = write_catalogue(
        OutputTree(tmp_path / "out"),
        stimuli("a", "b", "c", "d", bids_dir=raw),
        content_hash=[None, "11", "22", "33"],
        bids_dir=raw,
    )
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert table.to_dict("list") == {
        "stimulus_id": ["a", "b", "c", "d"],
        "type": ["category", "image", "image", "image"],
        "filename": ["n/a", "x/b.png", "c.png", "d.png"],
        "present": ["false", "true", "true", "true"],
        "content_hash": ["n/a", "11", "22", "33"],
        "n_captions": ["0", "1", "2", "0"],
        "label_dog": ["1", "0", "1", "0"],
        "label_hot pot": ["n/a", "1", "1", "0"],
    }
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert all(sidecar[name]["Description"] for name in table.columns)


def test_stimuli_of_other_jobs_stay_and_own_ones_are_renewed(tmp_path: Path) -> None:
    tree = OutputTree(tmp_path / "out")
    write_catalogue(tree, stimuli("d", "a", bids_dir=tmp_path), content_hash=["1", "2"], bids_dir=tmp_path)
    path = write_catalogue(
        tree, stimuli("c", "d", bids_dir=tmp_path), content_hash=["3", "4"], bids_dir=tmp_path
    )
    table = pd.read_csv(path, sep="\t", dtype=str)
    assert table["stimulus_id"].tolist() == ["a", "c", "d"]
    assert table["content_hash"].tolist() == ["2", "3", "4"]
    inode = path.stat().st_ino
    write_catalogue(tree, stimuli("c", "d", bids_dir=tmp_path), content_hash=["3", "4"], bids_dir=tmp_path)
    assert path.stat().st_ino == inode


def test_lost_rows_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmused_bids.dataset.outputs import stimulus_catalogue

    tree = OutputTree(tmp_path / "out")
    plain_write, turns = stimulus_catalogue.write_tsv, []

    def overtaken(path: Path, columns: dict[str, list[str]]) -> str:
        outcome = plain_write(path, columns)
        if len(turns) == 1:  # Another job that had read the table before replaces it right after.
            path.write_text("stimulus_id\tcontent_hash\nz\t9\n")
        turns.append(1)
        return outcome

    monkeypatch.setattr(stimulus_catalogue, "write_tsv", overtaken)
    path = write_catalogue(tree, stimuli("a", bids_dir=tmp_path), content_hash=["1"], bids_dir=tmp_path)
    assert [line.split("\t")[0] for line in path.read_text().splitlines()] == ["stimulus_id", "a", "z"]


def _list_one(root: str, name: str, barrier: Any) -> None:
    barrier.wait()
    write_catalogue(
        OutputTree(Path(root)), stimuli(name, bids_dir=Path(root)), content_hash=["1"], bids_dir=Path(root)
    )


def test_no_job_loses_the_rows_of_another(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        barrier, root = context.Barrier(6), tmp_path / str(turn)
        jobs = [context.Process(target=_list_one, args=(str(root), f"z{k}", barrier)) for k in range(6)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert [job.exitcode for job in jobs] == [0] * 6
        table = pd.read_csv(root / "stimuli" / "stimuli.tsv", sep="\t")
        assert table["stimulus_id"].tolist() == [f"z{k}" for k in range(6)]
