from __future__ import annotations

import json
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from clipmused_bids import __version__
from clipmused_bids.dataset.outputs import description as description_module
from clipmused_bids.dataset.outputs.description import container_of, prepare_tree, write_descriptions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import CannotCreateError, ExitCode

PARTICIPANTS = b"\xef\xbb\xbfparticipant_id\tage\r\nsub-01\t n/a\r\nsub-02\t7\r\n"


@pytest.fixture
def bids_dir(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    for participant in ("01", "02"):
        (root / f"sub-{participant}" / "func").mkdir(parents=True)
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "Faces", "DatasetDOI": "doi:10.18112/x.v1"})
    )
    (root / "participants.tsv").write_bytes(PARTICIPANTS)
    return root


def description(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / "dataset_description.json").read_text())
    return found


def test_what_the_tree_says_about_itself(tmp_path: Path, bids_dir: Path) -> None:
    out = tmp_path / "deep" / "out"
    tree = prepare_tree(out, bids_dir=bids_dir, derivatives={"fmriprep": tmp_path / "prep"}, environ={})
    assert tree == OutputTree(out)
    assert description(out) == {
        "Name": "clipmused-bids outputs for Faces",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "clipmused-bids",
                "Version": __version__,
                "CodeURL": "https://github.com/clipmused-bids/clipmused-bids",
            }
        ],
        "SourceDatasets": [
            {"URL": "https://doi.org/10.18112/x.v1", "DOI": "https://doi.org/10.18112/x.v1"},
            {"URL": "bids:fmriprep:"},
        ],
        "DatasetLinks": {"raw": "../../raw", "fmriprep": "../../prep"},
    }
    assert (out / "participants.tsv").read_bytes() == PARTICIPANTS
    kinds = ("predictions", "metrics", "responses", "embeddings", "statmap", "trials", "tokens")
    lines = " ".join(["*.html figures models group_* split.*", *(f"*_{kind}.*" for kind in kinds)])
    assert (out / ".bidsignore").read_text() == lines.replace(" ", "\n") + "\n"
    rows = (out / "descriptions.tsv").read_text().splitlines()
    assert rows[0] == "desc_id\tdescription"
    assert [row.split("\t")[0] for row in rows[1:]] == [
        "desc-lss",
        "desc-lsa",
        "desc-window",
        "desc-betas",
        "desc-brain",
        "desc-noiseceiling",
        "desc-tsnr",
        "desc-reliability",
    ]


@pytest.mark.parametrize(
    "doi", ["10.1/a", "doi:10.1/a", "https://doi.org/10.1/a", "http://dx.doi.org/10.1/a", " doi:10.1/a "]
)
def test_forms_of_a_doi(tmp_path: Path, bids_dir: Path, doi: str) -> None:
    (bids_dir / "dataset_description.json").write_text(json.dumps({"DatasetDOI": doi}))
    prepare_tree(tmp_path / "out", bids_dir=bids_dir, derivatives={}, environ={})
    assert description(tmp_path / "out")["SourceDatasets"] == [
        {"URL": "https://doi.org/10.1/a", "DOI": "https://doi.org/10.1/a"}
    ]


def test_second_run_changes_nothing(tmp_path: Path, bids_dir: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        prepare_tree(out, bids_dir=bids_dir, derivatives={"a": bids_dir}, environ={})
        files = [path for path in out.rglob("*") if path.is_file()]
        times = {path: path.stat().st_mtime_ns for path in files}
        for path in files:
            os.utime(path, ns=(7, 7))
    assert len(times) == 5 + len(("raw", "a"))
    assert set(times.values()) == {7}


def test_links_of_earlier_runs_and_lines_of_the_user_stay(tmp_path: Path, bids_dir: Path) -> None:
    out = tmp_path / "out"
    prepare_tree(
        out, bids_dir=bids_dir, derivatives={"betas": tmp_path / "b", "x": tmp_path / "old"}, environ={}
    )
    (out / ".bidsignore").write_text("mine\n*.html\n")
    prepare_tree(
        out, bids_dir=bids_dir, derivatives={"fmriprep": tmp_path / "f", "x": tmp_path / "new"}, environ={}
    )
    found = description(out)
    assert found["DatasetLinks"] == {"raw": "../raw", "betas": "../b", "x": "../new", "fmriprep": "../f"}
    urls = [entry["URL"] for entry in found["SourceDatasets"]]  # type: ignore[attr-defined]
    assert sorted(urls[1:]) == ["bids:betas:", "bids:fmriprep:", "bids:x:"]
    lines = (out / ".bidsignore").read_text().split()
    assert lines[-1] == "mine"
    assert lines.count("*.html") == 1


@pytest.mark.parametrize(
    "foreign",
    [
        {"Name": "Raw", "BIDSVersion": "1.8.0"},
        {"Name": "Prep", "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]},
        {"Name": "Old", "GeneratedBy": "clipmused-bids"},
    ],
)
def test_a_folder_of_something_else_is_not_touched(
    tmp_path: Path, bids_dir: Path, foreign: dict[str, object]
) -> None:
    out = tmp_path / "other"
    out.mkdir()
    (out / "dataset_description.json").write_text(json.dumps(foreign))
    with pytest.raises(
        CannotCreateError, match=f"already a dataset of something else.*{foreign['Name']}"
    ) as caught:
        prepare_tree(out, bids_dir=bids_dir, derivatives={}, environ={})
    assert caught.value.exit_code == ExitCode.CANNOT_CREATE
    assert [path.name for path in out.iterdir()] == ["dataset_description.json"]
    assert description(out) == foreign


def test_a_table_that_lacks_participants_is_not_copied(
    tmp_path: Path, bids_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bids_dir / "sub-03").mkdir()
    with caplog.at_level(logging.WARNING):
        prepare_tree(tmp_path / "out", bids_dir=bids_dir, derivatives={}, environ={})
    assert not (tmp_path / "out" / "participants.tsv").exists()
    assert "lacks 03" in caplog.text


def test_datasets_without_or_with_a_broken_description(
    tmp_path: Path, bids_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bids_dir / "dataset_description.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        prepare_tree(tmp_path / "out", bids_dir=bids_dir, derivatives={}, environ={})
    assert description(tmp_path / "out")["Name"] == "clipmused-bids outputs for an unnamed dataset"
    assert description(tmp_path / "out")["SourceDatasets"] == [{"URL": "bids:raw:"}]
    assert "not a JSON file" in caplog.text


def test_containers() -> None:
    assert container_of({"PATH": "/bin"}) is None
    assert container_of({"CLIPMUSED_IMAGE": "x:1"}) == {"Type": "docker", "Tag": "x:1"}
    assert container_of({"CLIPMUSED_IMAGE": "x:1", "container": "podman"}) == {"Type": "podman", "Tag": "x:1"}
    assert container_of({"APPTAINER_CONTAINER": "/home/me/x.sif"}) == {"Type": "singularity", "Tag": "x.sif"}
    inside = {"SINGULARITY_CONTAINER": "/home/me/x.sif", "CLIPMUSED_IMAGE": "x:1"}
    assert container_of(inside) == {"Type": "singularity", "Tag": "x:1"}


def test_container_reaches_the_description(tmp_path: Path, bids_dir: Path) -> None:
    prepare_tree(tmp_path / "out", bids_dir=bids_dir, derivatives={}, environ={"CLIPMUSED_IMAGE": "x:1"})
    (generator,) = description(tmp_path / "out")["GeneratedBy"]  # type: ignore[misc]
    assert generator["Container"] == {"Type": "docker", "Tag": "x:1"}


def _add_model(root: str, label: str, barrier: object) -> None:
    tree = OutputTree(Path(root))
    barrier.wait()  # type: ignore[attr-defined]
    tree.model_folder(label).mkdir(parents=True)
    write_descriptions(tree)


def test_no_process_loses_another_ones_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context(
        "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    )
    barrier = context.Barrier(8)
    (tmp_path / "stimuli" / "desc-ViTB16_embeddings").mkdir(parents=True)
    jobs = [context.Process(target=_add_model, args=(str(tmp_path), f"m{k}", barrier)) for k in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 8
    rows = [line.split("\t")[0] for line in (tmp_path / "descriptions.tsv").read_text().splitlines()]
    assert {f"desc-m{k}" for k in range(8)} | {"desc-ViTB16", "desc-lss"} <= set(rows)
    assert len(rows) == len(set(rows))


def _link_one(root: str, bids_dir: str, name: str, barrier: Any) -> None:
    barrier.wait()
    prepare_tree(
        Path(root), bids_dir=Path(bids_dir), derivatives={name: Path(bids_dir, "..", name)}, environ={}
    )


def test_no_job_loses_the_link_of_another(tmp_path: Path, bids_dir: Path) -> None:
    context = multiprocessing.get_context("fork")
    names = [f"d{k}" for k in range(6)]
    for turn in range(5):
        barrier, root = context.Barrier(len(names)), tmp_path / str(turn)
        jobs = [
            context.Process(target=_link_one, args=(str(root), str(bids_dir), name, barrier))
            for name in names
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert [job.exitcode for job in jobs] == [0] * 6
        found = description(root)
        assert list(found["DatasetLinks"]) == ["raw", *names]  # type: ignore[call-overload]
        assert [entry["URL"] for entry in found["SourceDatasets"][1:]] == [  # type: ignore[index]
            f"bids:{name}:" for name in names
        ]


def test_a_link_that_comes_between_look_and_write_stays(
    tmp_path: Path, bids_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_write, out = description_module.write_json, tmp_path / "out"

    def overtaken(path: Path, value: dict[str, object]) -> object:
        if path.name == "dataset_description.json":
            monkeypatch.setattr(description_module, "write_json", plain_write)
            prepare_tree(out, bids_dir=bids_dir, derivatives={"other": tmp_path / "other"}, environ={})
        return plain_write(path, value)

    monkeypatch.setattr(description_module, "write_json", overtaken)
    prepare_tree(out, bids_dir=bids_dir, derivatives={"mine": tmp_path / "mine"}, environ={})
    assert description(out)["DatasetLinks"] == {"raw": "../raw", "mine": "../mine", "other": "../other"}
