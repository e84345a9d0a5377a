from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.dataset.files.contents import content_hash, read_json, require_content, require_contents
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.runs.names import (
    entities_of,
    expand_labels,
    file_stem,
    natural_key,
    parse_name,
    strip_prefix,
)
from clipmused_bids.dataset.runs.participants import (
    list_participants,
    participants_in_table,
    select_participants,
)
from clipmused_bids.errors import DataError, DatasetError, MissingInputError, SelectionError

LABEL = st.from_regex(r"[0-9a-zA-Z]{1,6}", fullmatch=True)


@given(sub=LABEL, task=LABEL, run=st.from_regex(r"[0-9]{1,3}", fullmatch=True), space=LABEL, unknown=LABEL)
@settings(deadline=None, max_examples=40)
def test_a_name_that_is_joined_parses_into_what_was_joined(sub, task, run, space, unknown):
    entities = {"space": space, "wild": unknown, "run": run, "sub": sub, "task": task}
    stem = file_stem(entities, desc="lss", suffix="responses")
    assert stem == f"sub-{sub}_task-{task}_run-{run}_space-{space}_wild-{unknown}_desc-lss_responses"
    assert entities_of(f"{stem}.tsv") == {**entities, "desc": "lss"}


def test_old_fmriprep_names_have_the_suffix_preproc():
    name = parse_name("/x/sub-01_ses-a_task-x_run-01_bold_space-MNI152NLin2009cAsym_preproc.nii.gz")
    assert (name.suffix, name.extension, name.entities["run"]) == ("preproc", ".nii.gz", "01")
    assert name.entities["space"] == "MNI152NLin2009cAsym"


def test_labels_come_with_or_without_prefix_and_from_files(tmp_path):
    (tmp_path / "who.txt").write_text("sub-02\n# left-handed\n\n03\n")
    assert strip_prefix("sub-01", "sub") == strip_prefix("01", "sub") == "01"
    assert expand_labels(["sub-01", str(tmp_path / "who.txt"), "01"], prefix="sub") == ("01", "02", "03")


def test_runs_sort_by_number():
    assert sorted(["run-10", "run-2", "run-1"], key=natural_key) == ["run-1", "run-2", "run-10"]


def _people(root: Path, *labels: str) -> Path:
    for label in labels:
        (root / f"sub-{label}").mkdir(parents=True)
    return root


def test_unknown_participant_lists_those_that_exist_and_the_nearest(tmp_path):
    root = _people(tmp_path, "01", "02", "10")
    with pytest.raises(
        SelectionError,
        match=r"No participant 1 in the dataset; there are 01, 02, 10\.\nhint: .*--participant-label 01\?",
    ):
        select_participants(root, wanted=("1",), excluded=())
    with pytest.raises(SelectionError, match="excluded as well"):
        select_participants(root, wanted=("sub-01",), excluded=("01",))
    assert select_participants(root, wanted=("sub-10", "01"), excluded=()) == ("01", "10")
    assert select_participants(root, wanted=(), excluded=("sub-02",)) == ("01", "10")


def test_a_folder_without_participants_is_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match=r"no sub-\* folder"):
        select_participants(tmp_path, wanted=(), excluded=())
    with pytest.raises(MissingInputError, match="nowhere: No such file"):
        list_participants(tmp_path / "nowhere")


def test_participants_table_keeps_its_order(tmp_path):
    assert participants_in_table(tmp_path) == ()
    (tmp_path / "participants.tsv").write_bytes(
        b"\xef\xbb\xbfage\tparticipant_id\r\n30\tsub-02\r\n31\tsub-01\r\n"
    )
    assert participants_in_table(tmp_path) == ("02", "01")


def test_table_reads_what_spreadsheets_write(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tb\r\n 1 \thit   \r\na\tb\r\n\r\n2\r\n")
    table = read_table(path)
    assert dict(table.columns) == {"a": ("1", "2"), "b": ("hit", "n/a")}
    assert (table.n_rows, table.n_repeated_headers) == (2, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "binary"),
        (b"a\tb\n1\t2\t3\n", "row 1 has 3 cells, the header has 2"),
    ],
)
def test_tables_that_are_refused(tmp_path, content, message):
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_a_broken_annex_link_is_not_fetched_rather_than_missing(tmp_path):
    link = tmp_path / "sub-01_bold.nii.gz"
    link.symlink_to(tmp_path / ".git" / "annex" / "objects" / "MD5E-s1--aa.nii.gz")
    with pytest.raises(MissingInputError, match=rf"not fetched\.\nhint: datalad get {re.escape(str(link))}"):
        require_content(link)
    pointer = tmp_path / "pointer.tsv"
    pointer.write_text("/annex/objects/MD5E-s1--aa.tsv\n")
    with pytest.raises(MissingInputError, match="not fetched"):
        require_content(pointer)
    with pytest.raises(MissingInputError, match="No such file"):
        require_content(tmp_path / "absent.tsv")
    with pytest.raises(MissingInputError, match="2 files are not fetched"):
        require_contents([link, pointer])


def test_json_and_hash(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1]")
    with pytest.raises(DataError, match=r"a\.json: a JSON object was expected"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"a\.json: not a JSON file"):
        read_json(path)
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert content_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
