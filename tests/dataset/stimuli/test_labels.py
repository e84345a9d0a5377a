from __future__ import annotations

import json
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.stimuli.captions import read_captions
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable
from clipmused_bids.dataset.stimuli.coco import image_id
from clipmused_bids.dataset.stimuli.labels import read_labels
from clipmused_bids.dataset.stimuli.names import GlobIndex, spellings
from clipmused_bids.errors import DataError, UsageError
from tests.stages.conftest import make_trials

NAN = np.nan


def labels(tmp_path, text, ids, *, name="labels.tsv", conditions=None, table=None):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return read_labels(
        (str(path),), stimulus_ids=ids, presentations=shown(conditions or {}), stimuli_table=table
    )


def shown(conditions, **columns) -> Presentations:
    """One trial of each stimulus; or, with lists, one of each of its conditions."""
    pairs = [
        (stimulus, condition)
        for stimulus, own in conditions.items()
        for condition in (own if isinstance(own, list) else [own])
    ]
    run = make_trials([stimulus for stimulus, _ in pairs], columns=columns)
    return Presentations((replace(run, condition=tuple(condition for _, condition in pairs)),))


NOTHING = Presentations(())


def test_columns_of_zero_and_one(tmp_path):
    text = "stimulus_id\tteddy_bear\tdog\tsource\na.png\t1\t0\tweb\nb.png\t0\tn/a\tlab\n"
    names, values, single = labels(tmp_path, text, ["b.png", "a", "c.png"])
    assert names == ("teddy_bear", "dog")
    np.testing.assert_array_equal(values, [[0, NAN], [1, 0], [NAN, NAN]])
    assert not single


def test_separated_names_are_not_split_on_underscores(tmp_path):
    text = "stimulus_id\tlabels\na\tteddy_bear; dog, wild\nb\tdog, wild\nc\tn/a\nd\t\n"
    names, values, single = labels(tmp_path, text, ["a", "b", "c"])
    assert names == ("dog, wild", "teddy_bear")
    np.testing.assert_array_equal(values, [[1, 1], [1, 0], [NAN, NAN]])
    assert not single
    names, values, single = labels(tmp_path, "stimulus_id\tkind\na\tdog\nb\tcat\n", ["a", "b"])
    assert (names, single) == (("cat", "dog"), True)


def test_globs_serve_what_no_key_names(tmp_path):
    text = "stimulus_id\tdog\tindoor\ndog/*\t1\tn/a\n*s.jpg\t0\t1\ndog/dog_1s.jpg\t0\t0\n"
    _, values, _ = labels(
        tmp_path, text, ["dog/dog_1s.jpg", "dog/dog_2s.jpg", "cat/cat_1s.jpg", r"stimuli\dog\x.jpg"]
    )
    np.testing.assert_array_equal(values, [[0, 0], [1, 1], [0, 1], [1, NAN]])


def test_keys_may_be_conditions(tmp_path):
    text = "trial_type\tanimate\nface\t1\nhouse\t0\n"
    names, values, _ = labels(
        tmp_path, text, ["1.png", "2.png"], conditions={"1.png": "house", "2.png": "face"}
    )
    assert names == ("animate",)
    np.testing.assert_array_equal(values, [[0], [1]])


def test_conditions_are_labels_where_nothing_else_is():
    names, values, single = read_labels(
        (),
        stimulus_ids=["a", "b", "c"],
        presentations=shown({"a": "house", "b": "face", "c": ""}),
        stimuli_table=None,
    )
    assert (names, single) == (("face", "house"), True)
    np.testing.assert_array_equal(values, [[0, 1], [1, 0], [NAN, NAN]])


def test_roles_are_no_labels():
    with pytest.raises(DataError, match="trial_type only says exp, test"):
        read_labels(
            (), stimulus_ids=["a", "b"], presentations=shown({"a": "exp", "b": "test"}), stimuli_table=None
        )
    with pytest.raises(DataError, match="trial_type is empty"):
        read_labels((), stimulus_ids=["a"], presentations=NOTHING, stimuli_table=None)


def test_the_catalogue_goes_before_conditions(tmp_path):
    table = StimulusTable(
        "stimuli.tsv",
        ("stim-1", "2"),
        {"present": ("1", "1"), "filename": ("x.png", "y.png"), "dog": ("1", "0")},
    )
    names, values, _ = read_labels(
        (), stimulus_ids=["1", "y.png"], presentations=shown({"1": "face"}), stimuli_table=table
    )
    assert names == ("dog",)
    np.testing.assert_array_equal(values, [[1], [0]])


INSTANCES = {
    "images": [
        {"id": 9, "file_name": "000000000009.jpg"},
        {"id": 25, "file_name": "x.jpg"},
        {"id": 30, "file_name": "30.jpg"},
    ],
    "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
    "annotations": [
        {"image_id": 9, "category_id": 2},
        {"image_id": 9, "category_id": 2},
        {"image_id": 25, "category_id": 1},
    ],
}


def test_coco_by_file_name_and_by_id(tmp_path):
    ids = ["COCO_train2014_000000000009.jpg", "coco/x.jpg", "30", "n01930112_9.JPEG"]
    names, values, _ = labels(tmp_path, INSTANCES, ids, name="instances.json")
    assert names == ("person", "dog", "toothbrush")
    np.testing.assert_array_equal(values, [[0, 1, 0], [1, 0, 0], [0, 0, 0], [NAN] * 3])


def test_labels_that_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"3 of 4 stimuli have no label in .*labels\.tsv: b, c, d\. At least half"
    ) as error:
        labels(tmp_path, "stimulus_id\tdog\na\t1\n", ["a", "b", "c", "d"])
    assert error.value.exit_code == 65
    with pytest.raises(DataError, match=r"1, 2, 3, 4, 5, \.\.\."):
        labels(tmp_path, "stimulus_id\tdog\na\t1\n", list("1234567"))
    with pytest.raises(
        DataError,
        match="no column that names stimuli, and none that the events have too; columns are picture, dog",
    ):
        labels(tmp_path, "picture\tdog\na\t1\n", ["a"])
    with pytest.raises(DataError, match="neither columns of 0 and 1"):
        labels(tmp_path, "stimulus_id\tx\ty\na\tp\tq\n", ["a"])
    with pytest.raises(DataError, match=r"no categories; a COCO annotation file was expected"):
        labels(tmp_path, {"images": [], "annotations": []}, ["a"], name="c.json")
    for paths, message in ((("a.tsv", "b.json"), "one kind of them"), (("a.hdf5:/x",), "seconds of movies")):
        with pytest.raises(UsageError, match=message):
            read_labels(paths, stimulus_ids=["a"], presentations=NOTHING, stimuli_table=None)


def test_half_is_enough_and_the_rest_is_named(tmp_path, caplog):
    _, values, _ = labels(tmp_path, "stimulus_id\tdog\na\t1\nb\t0\n", ["a", "b", "c", "d"])
    assert np.isnan(values[2:]).all()
    assert "2 of 4 stimuli have no label" in caplog.text


def test_several_tables_are_joined(tmp_path):
    (tmp_path / "1.tsv").write_text("stimulus_id\tdog\na\t1\n")
    (tmp_path / "2.tsv").write_text("stimulus_id\tcat\tdog\nb\t1\t0\n")
    paths = (str(tmp_path / "1.tsv"), str(tmp_path / "2.tsv"))
    names, values, _ = read_labels(paths, stimulus_ids=["a", "b"], presentations=NOTHING, stimuli_table=None)
    assert names == ("dog", "cat")
    np.testing.assert_array_equal(values, [[1, NAN], [0, 1]])


def test_captions(tmp_path):
    table = tmp_path / "c.tsv"
    table.write_text("stimulus_id\tcaption\na.png\tA dog.\nb\tA cat.\na.png\tA brown dog.\nc\tn/a\n")
    assert read_captions((str(table),), stimulus_ids=["a", "b.png", "c"], stimuli_table=None) == (
        ("A dog.", "A brown dog."),
        ("A cat.",),
        (),
    )
    coco = tmp_path / "captions.json"
    coco.write_text(
        json.dumps(
            {
                "images": [{"id": 9, "file_name": "x.jpg"}],
                "annotations": [{"image_id": 9, "caption": "Two\n dogs. "}],
            }
        )
    )
    both = read_captions((str(table), str(coco)), stimulus_ids=["x.jpg", "9", "a"], stimuli_table=None)
    assert both == (("Two dogs.",), ("Two dogs.",), ("A dog.", "A brown dog."))
    own = StimulusTable("stimuli.tsv", ("stim-1",), {"description": ("A boat.",)})
    assert read_captions((), stimulus_ids=["1", "2"], stimuli_table=own) == (("A boat.",), ())
    assert read_captions((), stimulus_ids=["1"], stimuli_table=None) == ((),)
    with pytest.raises(DataError, match="no caption of any stimulus"):
        read_captions((str(table),), stimulus_ids=["q"], stimuli_table=None)
    table.write_text("stimulus_id\ttext\na\tb\n")
    with pytest.raises(DataError, match="columns stimulus_id and caption were expected"):
        read_captions((str(table),), stimulus_ids=["a"], stimuli_table=None)


def test_keys_may_be_any_column_of_the_events(tmp_path):
    (tmp_path / "l.tsv").write_text("category_nr\tanimate\n205\t1\n384\t0\n")
    run = make_trials(
        ["dog_1", "dog_2", "car_1", "odd"], columns={"category_nr": ["205.0", "205", "384", "n/a"]}
    )
    names, values, _ = read_labels(
        (str(tmp_path / "l.tsv"),),
        stimulus_ids=["car_1", "dog_1", "dog_2", "odd"],
        presentations=Presentations((run,)),
        stimuli_table=None,
    )
    assert names == ("animate",)
    np.testing.assert_array_equal(values, [[0], [1], [1], [NAN]])


def test_an_events_column_serves_where_its_name_is_stimulus_id(tmp_path):
    """The column of stimuli holds names, and another column their numbers, written as floats."""
    (tmp_path / "l.tsv").write_text("stimulus_id\tcat\n3626115.019498\t1\n46003\t0\nby_name\t1\n")
    run = make_trials(
        ["n03626115_19498", "x", "by_name"], columns={"stimulus_id": ["3626115.019498", "46003.0", "46003"]}
    )
    _, values, _ = read_labels(
        (str(tmp_path / "l.tsv"),),
        stimulus_ids=["by_name", "n03626115_19498", "x"],
        presentations=Presentations((run,)),
        stimuli_table=None,
    )
    np.testing.assert_array_equal(values, [[1], [1], [0]])


def test_a_stimulus_whose_presentations_differ_is_unlabelled(tmp_path, caplog):
    conditions = {"a": ["first", "again"], "b": ["first"], "c": ["again", "again"], "d": ["first"]}
    names, values, single = read_labels(
        (), stimulus_ids=list("abcd"), presentations=shown(conditions), stimuli_table=None
    )
    assert (names, single) == (("again", "first"), True)
    np.testing.assert_array_equal(values, [[NAN, NAN], [0, 1], [1, 0], [0, 1]])
    assert (
        "1 of 4 stimuli have no label in trial_type, 1 of them since each presentation has another"
        in caplog.text
    )
    with pytest.raises(
        DataError, match=r"2 of 3 .* 2 of them since .*\nhint: --labels with the column trial_type"
    ):
        read_labels(
            (),
            stimulus_ids=list("abc"),
            presentations=shown({**conditions, "b": ["x", "y"]}),
            stimuli_table=None,
        )
    # A table may say that both mean the same.
    text = "trial_type\tface\nfirst\t1\nagain\t1\n"
    _, values, _ = labels(tmp_path, text, list("abcd"), conditions=conditions)
    np.testing.assert_array_equal(values, [[1]] * 4)
    text = "trial_type\tnew\nfirst\t1\nagain\t0\n"
    _, values, _ = labels(tmp_path, text, list("abcd"), conditions=conditions)
    np.testing.assert_array_equal(values, [[NAN], [1], [0], [1]])


def test_labels_are_looked_up_under_label_id_and_nothing_else(tmp_path):
    """Row 9 of a bank is not COCO image 9: only the map says which one it is."""
    table = StimulusTable("map.tsv", ("9", "25", "46"), {"label_id": ("25.0", "000000000009.jpg", "n/a")})
    names, values, _ = labels(tmp_path, INSTANCES, ["9", "25", "46"], name="i.json", table=table)
    assert names == ("person", "dog", "toothbrush")
    np.testing.assert_array_equal(values, [[1, 0, 0], [0, 1, 0], [NAN] * 3])
    text = "stimulus_id\tdog\n25\t1\n9\t0\n46\t1\n000000000009\t0\n"
    _, values, _ = labels(tmp_path, text, ["9", "25", "46"], table=table)
    np.testing.assert_array_equal(values, [[1], [0], [NAN]])
    (tmp_path / "c.tsv").write_text("stimulus_id\tcaption\n25\tA man.\n9\tA dog.\n")
    found = read_captions(
        (str(tmp_path / "c.tsv"),), stimulus_ids=["9", "25", "46", "47"], stimuli_table=table
    )
    assert found == (("A man.",), (), (), ())
    with pytest.raises(DataError, match="label_id of --stimulus-map"):
        labels(tmp_path, "stimulus_id\tdog\n46\t1\n", ["9", "25", "46"], table=table)


def test_coco_by_the_file_that_the_table_names(tmp_path):
    table = StimulusTable("map.tsv", ("1", "2"), {"filename": ("coco/x.jpg", "other/9.jpg")})
    _, values, _ = labels(tmp_path, INSTANCES, ["1", "2"], name="i.json", table=table)
    np.testing.assert_array_equal(values, [[1, 0, 0], [0, 1, 0]])


def test_a_file_name_goes_before_a_number_in_it():
    known = {9: (), 25: ()}
    assert image_id(["25.jpg"], ids={"25.jpg": 9}, known=known) == 9
    assert image_id(["x/25.jpg", "9.0"], ids={}, known=known) == 25
    assert image_id(["7.jpg", "9.0"], ids={"7.jpg": 7}, known=known) == 9
    assert image_id([], ids={}, known=known) is None


def test_several_coco_files(tmp_path):
    second = {"images": [{"id": 50, "file_name": "50.jpg"}], "categories": [{"id": 90, "name": "toothbrush"}],
              "annotations": [{"image_id": 50, "category_id": 90}]}  # fmt: skip
    for name, content in (("a.json", INSTANCES), ("b.json", second)):
        (tmp_path / name).write_text(json.dumps(content))
    paths = (str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    _, values, _ = read_labels(
        paths, stimulus_ids=["9", "50"], presentations=NOTHING, stimuli_table=None
    )  # fmt: skip
    np.testing.assert_array_equal(values, [[0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [None], "categories": [], "annotations": []}, "no images"),
        ({"images": [{}], "categories": [], "annotations": []}, "without the number id"),
        ({"images": [], "categories": [{"id": "x"}], "annotations": []}, "without the number id"),
        ({"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 2}]}, "category 2"),
    ],
)
def test_coco_files_that_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=rf"i\.json: .*{message}"):
        labels(tmp_path, content, ["a"], name="i.json")


GLOB_KEYS = st.lists(st.text(alphabet="ab/*?[]-!.", max_size=6), max_size=6)


@example(keys=["ab*", "ab?", "*", "[", "b/*"], name="ab")
@given(keys=GLOB_KEYS, name=st.text(alphabet="ab/.", max_size=6))
@settings(deadline=None)
def test_globs_against_the_standard_library(keys, name):
    expected = [
        row
        for row, key in enumerate(keys)
        if set(key) & set("*?[") and any(fnmatchcase(way, key) for way in spellings(name))
    ]
    assert GlobIndex(keys).rows_of(name) == expected


def test_rows_that_contradict_each_other_are_named(tmp_path, caplog):
    table = "stimulus_id\tdog\tcat\nb\t0\t1\na\t1\t0\na\t0\tn/a\nb\t0\t1\n"
    _, values, _ = labels(tmp_path, table, ["a", "b"])
    assert values.tolist() == [[1, 0], [0, 1]]
    assert "rows of 1 key(s) contradict each other (a); 1 goes over 0." in caplog.text
    caplog.clear()
    labels(tmp_path, "stimulus_id\tlabels\na\tdog\na\tcat\nb\tdog\n", ["a", "b"])
    assert "contradict" not in caplog.text
