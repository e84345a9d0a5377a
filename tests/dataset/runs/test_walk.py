from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bids.layout import parse_file_entities
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.config import Selection
from clipmused_bids.dataset.runs.derivatives import find_derivatives
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.names import parse_name, run_index
from clipmused_bids.dataset.runs.walk import BidsFile, FileIndex, most_specific

SPELLED = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "direction": "dir",
    "reconstruction": "rec",
}
KNOWN = ("sub", "ses", "task", "acq", "dir", "rec", "run", "echo", "space", "res", "desc")
LABEL = st.from_regex(r"[0-9a-zA-Z+]{1,5}", fullmatch=True)
NUMBER = st.from_regex(r"[0-9]{1,3}", fullmatch=True)


@st.composite
def names(draw) -> str:
    chosen = draw(st.lists(st.sampled_from(KNOWN[1:]), unique=True, max_size=6))
    labels = {key: draw(NUMBER if key in {"run", "echo"} else LABEL) for key in ["sub", *chosen]}
    suffix = draw(st.sampled_from(["bold", "events", "mask", "preproc"]))
    extension = draw(st.sampled_from([".nii.gz", ".tsv", ".json"]))
    return "_".join(f"{key}-{label}" for key, label in labels.items()) + f"_{suffix}{extension}"


@given(name=names())
@settings(deadline=None, max_examples=60)
def test_pieces_of_a_name_are_read_as_pybids_reads_the_whole(name):
    whole = parse_file_entities(f"/{name}", config=["bids", "derivatives"])
    expected = {SPELLED.get(key, key): str(value) for key, value in whole.items()}
    assert parse_name(name).entities == {key: value for key, value in expected.items() if key in KNOWN}
    assert parse_name(f"/a_b-c/{name}") == parse_name(Path(name))


SMALL = st.dictionaries(
    st.sampled_from(["ses", "task", "run", "desc"]), st.sampled_from(["1", "01", "2", "x"]), max_size=4
)


def _serves(file: BidsFile, target: dict[str, str]) -> bool:
    """Every entity of the file is the target's; ``run-01`` is ``run-1``; ``desc-`` does not count."""
    for key, label in file.entities.items():
        other = target.get(key)
        same_number = key == "run" and run_index(label) is not None and run_index(label) == run_index(other)
        if key != "desc" and label != other and not same_number:
            return False
    return True


@given(of_files=st.lists(SMALL, max_size=8), target=SMALL)
@settings(deadline=None)
def test_the_index_finds_what_a_comparison_with_every_file_finds(of_files, target):
    root = Path("/data")
    stems = ["_".join([*(f"{k}-{v}" for k, v in entities.items()), "bold.json"]) for entities in of_files]
    files = [
        BidsFile(root / ("sub-01" if n % 2 else "") / stem, root, parse_name(stem))
        for n, stem in enumerate(stems)
    ]
    serving = FileIndex(files, ignore=("desc",)).serving(target)
    assert serving == [file for file in files if _serves(file, target)]
    best = most_specific(serving)
    ranks = [(len(file.entities), str(file.path).count("/")) for file in serving]
    assert (best is None) == (not serving)
    assert best is None or (len(best.entities), str(best.path).count("/")) == max(ranks)


def _tree(root: Path, *, participants: int = 3, runs: int = 4) -> Path:
    files = {
        "task-x_bold.json": json.dumps({"RepetitionTime": 2}),
        "derivatives/p/dataset_description.json": "{}",
    }
    for label in (f"{k:02d}" for k in range(participants)):
        for run in range(runs):
            stem = f"sub-{label}/func/sub-{label}_task-x_run-{run}"
            files[f"{stem}_events.tsv"] = "onset\tduration\n"
            files[f"{stem}_bold.json"] = json.dumps({"Run": run})
            for ending in (
                "desc-preproc_bold.nii.gz",
                "desc-brain_mask.nii.gz",
                "desc-confounds_timeseries.tsv",
            ):
                files[f"derivatives/p/{stem}_{ending}"] = "x"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def _runs(root: Path, *participants: str):
    derivatives = find_derivatives(root, (), participants=participants, image_kind=None)
    return find_runs(
        root, derivatives=derivatives, selection=Selection(), participants=participants, image_kind="auto",
        need_events=True,
    )  # fmt: skip


def test_folders_are_listed_once_for_each_question_and_nobody_else_is_looked_at(tmp_path, monkeypatch):
    root = _tree(tmp_path)
    listed: Counter[str] = Counter()
    scandir = os.scandir

    def counted(folder):
        listed[Path(folder).relative_to(root).as_posix()] += 1
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counted)
    runs = _runs(root, "00", "01")
    assert [run.metadata["Run"] for run in runs] == [0, 1, 2, 3] * 2
    assert not [folder for folder in listed if "sub-02" in folder]
    # Once to find the derivative (which the first participant settles), once to find the runs.
    assert listed["derivatives/p/sub-00/func"] == 2
    assert {
        listed[folder] for folder in ("sub-00/func", "sub-01/func", "derivatives/p/sub-01/func", ".")
    } == {1}


@pytest.mark.slow
def test_six_jobs_at_once_each_see_the_whole_dataset(tmp_path):
    root = _tree(tmp_path / "bids", participants=6, runs=30)
    before = sorted(str(path) for path in root.rglob("*"))
    code = (
        "import sys, pathlib; from tests.dataset.runs.test_walk import _runs\n"
        "runs = _runs(pathlib.Path(sys.argv[1]), *[f'{k:02d}' for k in range(6)])\n"
        "print(len(runs), all(r.mask and r.confounds and r.metadata['RepetitionTime'] == 2 for r in runs))"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}  # noqa: PTH109
    command = [sys.executable, "-c", code, str(root)]
    jobs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(6)
    ]
    answers = [job.communicate(timeout=300) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 6, answers
    assert {out.strip() for out, _ in answers} == {"180 True"}
    assert sorted(str(path) for path in root.rglob("*")) == before
