from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmused_bids.config import Selection
from clipmused_bids.dataset.events.blocks import block_of_row
from clipmused_bids.dataset.events.reading import read_events
from clipmused_bids.dataset.events.stimulus_columns import choose_column
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import Run, Trials


def run_of(path: Path) -> Run:
    return Run("01", None, "x", 2, {}, path, None, "bold")


def read(tmp_path, text: str | bytes, **options) -> Trials:
    path = tmp_path / "sub-01_task-x_run-2_events.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    defaults = {"trial_types": (), "stimulus_column": None, "merge_blocks": "auto"}
    return read_events(run_of(path), **(defaults | options))


def tsv(*rows: str) -> str:
    return "\n".join(row.replace(" ", "\t") for row in rows) + "\n"


def test_dialects(tmp_path):
    text = (
        b"\xef\xbb\xbfstim_file\tRT\tduration\tonset\r\nb.png\tn/a\tn/a\t4\r\na.png\t1\t2\t1\r\n"
        b"stim_file\tRT\tduration\tonset\r\n\r\n7\t1\t2\tn/a\r\n007\t1\t1\t9\r\n"
    )
    trials = read(tmp_path, text)
    assert trials.onset.tolist() == [1, 4, 9]
    assert trials.duration.tolist() == [2, 0, 1]
    assert trials.stimulus_id == ("a.png", "b.png", "007")
    assert trials.columns == {"stim_file": ("a.png", "b.png", "007"), "RT": ("1", "n/a", "1")}
    assert trials.excluded == {"no onset": 1, "repeated header": 1}
    assert (trials.n_rows, trials.n_rows_in_trials, trials.stimulus_column) == (5, 3, "stim_file")


def test_three_classes_of_rows(tmp_path):
    trials = read(
        tmp_path,
        tsv(
            "onset duration trial_type stim_file",
            "0 5 rest n/a",
            "5 1 exp a/dog.jpg",
            "8 1 catch c.jpg",
            "11 1 exp n/a",
            "14 1 test key.jpg",
            "17 1 fixation_cross n/a",
            "20 1 button_press n/a",
        ),
    )
    assert trials.stimulus_id == ("a/dog.jpg", "key.jpg")
    assert trials.condition == ("exp", "test")
    assert trials.nuisance_kind == ("catch", "no stimulus", "button_press")
    assert trials.nuisance_onset.tolist() == [8, 11, 20]
    assert trials.excluded == {"baseline": 2}


def test_objects_called_key_or_button_are_categories(tmp_path):
    trials = read(
        tmp_path, tsv("onset duration trial_type", "0 1 key", "9 1 button", "18 1 chair", "27 1 rest")
    )
    assert trials.stimulus_id == ("key", "button", "chair")


def test_baseline_in_the_image_column(tmp_path):
    trials = read(tmp_path, tsv("onset duration image", "0 1 fix", "5 1 fix.jpg"))
    assert (trials.stimulus_id, trials.excluded) == (("fix.jpg",), {"baseline": 1})


def test_trial_types_override_the_words(tmp_path):
    text = tsv("onset duration trial_type", "0 1 oddball", "9 1 face_a", "18 1 house", "27 1 rest")
    trials = read(tmp_path, text, trial_types=("oddball", "face*"))
    assert trials.condition == ("oddball", "face_a")
    assert trials.nuisance_kind == ("house",)
    assert trials.excluded == {"baseline": 1}
    with pytest.raises(DataError, match=r"no trial among its 4 rows that --trial-type chooses"):
        read(tmp_path, text, trial_types=("car",))


def test_decoding_needs_neither_stimulus_nor_condition(tmp_path):
    text = tsv("onset duration", "0 1", "5 1")
    with pytest.raises(
        DataError,
        match=r"sub-01 task-x run-2: .* no stimulus column and no trial_type; columns are onset, duration\.",
    ):
        read(tmp_path, text)
    assert read(tmp_path, text, decode=True).stimulus_id == ("", "")
    text = tsv(
        "onset duration event_type", "0 1 stimulus", "2 1 stimulus", "3 1 rest", "4 1 stimulus", "7 1 cue"
    )
    with pytest.raises(DataError, match="trials are only called stimulus"):
        read(tmp_path, text)
    decoded = read(tmp_path, text, decode=True)
    assert decoded.stimulus_id == ("", "", "")
    assert decoded.nuisance_kind == ("cue",)
    assert (
        read(tmp_path, text, trial_types=("stimulus",), merge_blocks="off").stimulus_id == ("stimulus",) * 3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"onset\tduration\ttrial_type\n", "has a header but no rows"),
        (b"onset\tduration\tTODO -- fill in rows and add more columns\n", "unfilled template"),
        (b"time\tduration\n1\t2\n", "has no column onset; columns are time, duration"),
        (b"onset\tduration\ttrial_type\n1\t2\trest\n", "no trial among its 1 rows"),
    ],
)
def test_files_that_are_refused_by_name(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"sub-01 task-x run-2: .*events\.tsv.*{message}"):
        read(tmp_path, text)


def test_an_unknown_stimulus_column_lists_the_columns(tmp_path):
    with pytest.raises(
        UsageError, match="--stimulus-column picture: no such column; columns are onset, duration"
    ):
        read(tmp_path, tsv("onset duration", "1 2"), stimulus_column="picture")


def test_milliseconds_are_recognised_by_the_length_of_the_run(tmp_path, caplog):
    text = tsv("onset duration stim", "10724 50 a.jpg", "20000 50 b.jpg", "30000 50 c.jpg")
    trials = read(tmp_path, text, run_seconds=60.0)
    assert trials.onset.tolist() == [10.724, 20.0, 30.0]
    assert trials.duration.tolist() == [0.05] * 3
    assert "were read as milliseconds" in caplog.text
    caplog.clear()
    late = read(
        tmp_path, tsv("onset duration stim", "1 1 a.jpg", "2 1 b.jpg", "70 1 c.jpg"), run_seconds=60.0
    )
    assert late.onset.tolist() == [1, 2, 70]
    assert "lies beyond the end of the run" in caplog.text


def test_rows_of_a_block_are_joined(tmp_path):
    rows = [f"{12 + 2 * k} 0.5 face" for k in range(6)] + [f"{40 + 2 * k} 0.5 house" for k in range(6)]
    trials = read(tmp_path, tsv("onset duration trial_type", *rows))
    assert trials.onset.tolist() == [12, 40]
    assert trials.duration.tolist() == [10.5, 10.5]
    assert trials.stimulus_id == ("face", "house")
    assert (trials.n_trials, trials.n_rows_in_trials, trials.n_rows) == (2, 12, 12)
    assert read(tmp_path, tsv("onset duration trial_type", *rows), merge_blocks="off").n_trials == 12
    assert read(tmp_path, tsv("onset duration trial_type", *rows), merge_blocks="1.5").n_trials == 12
    assert read(tmp_path, tsv("onset duration trial_type", *rows), merge_blocks="1.6").n_trials == 2


def test_events_in_random_order_are_not_blocks(tmp_path):
    order = np.random.default_rng(0).integers(0, 2, size=60)
    rows = [f"{2 * k} 1 {'face' if which else 'house'}" for k, which in enumerate(order)]
    assert read(tmp_path, tsv("onset duration trial_type", *rows)).n_trials == 60


def test_named_stimuli_are_joined_only_on_request(tmp_path):
    text = tsv("onset duration trial_type stim_file", *(f"{k} 0.5 face {k}.png" for k in range(6)))
    assert read(tmp_path, text).n_trials == 6
    joined = read(tmp_path, text, merge_blocks="4")
    assert (joined.n_trials, joined.stimulus_id, joined.duration.tolist()) == (1, ("face",), [5.5])


@given(
    onset=st.lists(st.floats(0, 500), min_size=1, max_size=30),
    data=st.data(),
    gap=st.floats(0.1, 10),
)
@settings(deadline=None)
def test_blocks_against_a_loop(onset, data, gap):
    onset = sorted(onset)
    duration = [data.draw(st.floats(0, 5)) for _ in onset]
    condition = [data.draw(st.sampled_from("ab")) for _ in onset]
    expected, end = [0], onset[0] + duration[0]
    for k in range(1, len(onset)):
        joined = condition[k] == condition[k - 1] and onset[k] - end < gap
        expected.append(expected[-1] + (not joined))
        end = max(end, onset[k] + duration[k])
    assert block_of_row(np.array(onset), np.array(duration), condition, gap=gap).tolist() == expected


CELL = st.sampled_from(
    ["face", "house", "rest", "catch", "n/a", "", "pulse", "test", "a.png", "b/c.jpg", "cue 1", "onset"]
)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["0", "1.5", "n/a", "12", "x", "-3", "inf", "onset"]), CELL, CELL, CELL),
        min_size=1,
        max_size=25,
    ),
    columns=st.permutations(["trial_type", "stim_file", "event_type"]),
    merge=st.sampled_from(["auto", "off", "4"]),
    decode=st.booleans(),
    chosen=st.sampled_from([(), ("face",), ("*",)]),
)
@settings(deadline=None, max_examples=300)
def test_every_row_is_accounted_for(*, tmp_path_factory, rows, columns, merge, decode, chosen):
    text = "\n".join("\t".join(cells) for cells in [("onset", *columns), *rows]) + "\n"
    path = tmp_path_factory.mktemp("events")
    try:
        trials = read(path, text, merge_blocks=merge, decode=decode, trial_types=chosen)
    except DataError:
        return
    n_rows = len([row for row in rows if any(cell.strip() for cell in row)])
    assert trials.n_rows == n_rows
    assert n_rows == trials.n_rows_in_trials + len(trials.nuisance_onset) + sum(trials.excluded.values())
    assert (np.diff(trials.onset) >= 0).all()
    lengths = {
        len(trials.duration),
        len(trials.stimulus_id),
        len(trials.condition),
        *map(len, trials.columns.values()),
    }
    assert lengths == {trials.n_trials}
    assert trials.n_trials <= trials.n_rows_in_trials


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"stim_file": ["a.png"], "image": ["b.png"]}, "stim_file"),
        ({"stim_file": ["n/a"], "image_path": ["b/b.png"]}, "image_path"),
        ({"trial_type": ["1", "2"], "condition": ["a.jpg", "n/a"]}, "condition"),
        ({"trial_type": ["a.jpg", "n/a", "n/a"]}, None),
        ({"trial_type": ["face"], "category_name": ["x"]}, None),
        ({"73k_id": ["46003.0"]}, "73k_id"),
    ],
)
def test_choice_of_the_stimulus_column(columns, chosen):
    assert choose_column(columns, wanted=None) == chosen


@pytest.mark.parametrize(
    "text",
    [
        "onset\tduration\tstim_id\n1\t2\t46003.0\n4\t2\tn/a\n8\t2\t0042\n9\t2\t3626115.019498\n",
        "onset\tduration\tstim_id\r\n1\t2\t46003\r\n4\t2\t\r\n8\t2\t0042\r\n9\t2\t3626115.019498\r\n",
        "\ufeffonset\tduration\tstim_id\r1\t2\t 46003.00\r4\t2\tNaN\r8\t2\t0042 \r9\t2\t3626115.019498",
    ],
)
def test_numbers_of_stimuli_are_text_without_the_fraction_of_whole_numbers(tmp_path, text):
    """A column of whole numbers becomes one of floats where a single value is missing."""
    trials = read(tmp_path, text)
    assert trials.stimulus_id == ("46003", "0042", "3626115.019498")
    assert trials.nuisance_kind == ("no stimulus",)


def test_numbers_of_conditions_have_no_fraction_either(tmp_path):
    one = read(tmp_path, tsv("onset duration trial_type", "0 1 521.0", "9 1 n/a", "12 1 30.5"))
    other = read(tmp_path, tsv("onset duration trial_type", "0 1 521", "9 1 7"))
    assert one.stimulus_id == one.condition == ("521", "30.5")
    assert other.condition == ("521", "7")
    assert read(
        tmp_path, tsv("onset duration trial_type", "0 1 521.0", "9 1 7.0"), trial_types=("521.0",)
    ).condition == ("521",)


def test_an_onset_may_stand_anywhere(tmp_path):
    names = [f"c{k}" for k in range(15)]
    header = "\t".join([*names, "Onset", "image", "DURATION"])
    rows = [
        "\t".join([*("x",) * 15, *cells])
        for cells in (("7.5", "b.png", "1"), ("2.25", "a.png", "0.5"), ("", "c.png", "1"))
    ]
    trials = read(tmp_path, "\n".join([header, *rows]))
    assert (trials.onset.tolist(), trials.duration.tolist()) == ([2.25, 7.5], [0.5, 1])
    assert trials.stimulus_id == ("a.png", "b.png")
    assert trials.excluded == {"no onset": 1}


def test_apple_doubles_are_refused_where_they_are_named_and_not_listed(tmp_path):
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    (func / "sub-01_task-x_run-1_events.tsv").write_text(tsv("onset duration stim_file", "1 2 a.png"))
    double = func / "._sub-01_task-x_run-1_events.tsv"
    double.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    (run,) = find_runs(
        tmp_path, derivatives=(), selection=Selection(), participants=("01",), image_kind="bold",
        need_events=True, need_images=False,
    )  # fmt: skip
    assert run.events.name == "sub-01_task-x_run-1_events.tsv"
    with pytest.raises(DataError, match=r"\._sub-01.*a binary file"):
        read_events(run_of(double), trial_types=(), stimulus_column=None, merge_blocks="auto")


def test_a_repeated_header_with_equal_names_is_recognised(tmp_path):
    text = "onset\tduration\tx\tx\tstim\n1\t1\ta\tb\tp.png\nonset\tduration\tx\tx\tstim\n2\t1\ta\tb\tq.png\n"
    trials = read(tmp_path, text)
    assert trials.excluded == {"repeated header": 1}
    assert trials.columns["x"] == ("a", "a")
    assert trials.columns["x.4"] == ("b", "b")
