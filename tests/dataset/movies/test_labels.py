"""Labels and captions over time, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.movies.labels import read_movie_captions, read_movie_labels
from clipmused_bids.dataset.stimuli.catalogue import read_stimuli_table
from clipmused_bids.errors import DataError, MissingInputError, UsageError
from tests.stages.conftest import make_trials

NAN = np.nan


def samples_of(**times: list[float]) -> dict[str, tuple[str, float]]:
    """Samples of movies, sorted by name as in a catalogue: 10 s comes before 2 s."""
    every = {f"{movie}.mp4@{s:g}": (f"{movie}.mp4", float(s)) for movie, own in times.items() for s in own}
    return dict(sorted(every.items()))


def labels(paths, samples, **more):
    defaults = {"presentations": Presentations(()), "stimuli_table": None}
    names, values, single = read_movie_labels(
        tuple(str(path) for path in paths), samples=samples, **(defaults | more)
    )
    by_name = {name: dict(zip(samples, values[:, k].tolist(), strict=True)) for k, name in enumerate(names)}
    return by_name, single


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(row.replace(" ", "\t") for row in rows) + "\n")
    return path


def test_an_annotation_holds_from_its_onset_up_to_its_end(tmp_path):
    file = table(tmp_path / "x.tsv", "onset duration cat dog", "0 2 1 0", "2 0.5 0 1", "2.5 1 0 n/a")
    samples = samples_of(m=[0, 1.999, 2, 2.499, 2.5, 3.4])
    found, single = labels([file], samples)
    assert found["cat"] == dict(zip(samples, [1, 1, 0, 0, 0, 0], strict=True))
    np.testing.assert_array_equal(list(found["dog"].values()), [0, 0, 1, 1, NAN, NAN])
    assert single is False


def test_decimal_times_are_not_lost_to_rounding(tmp_path):
    rows = [f"{k / 10:.1f} 0.1 {k % 2}" for k in range(30)]
    samples = samples_of(m=[k * 0.1 for k in range(30)])
    found, _ = labels([table(tmp_path / "x.tsv", "onset duration odd", *rows)], samples)
    for name, (_, seconds) in samples.items():
        assert found["odd"][name] == round(seconds * 10) % 2


def test_the_last_digits_of_an_onset_do_not_matter(tmp_path):
    file = table(tmp_path / "x.tsv", "onset duration cat", "0 0.3 0", "0.3000004 1 1")
    assert labels([file], samples_of(m=[0.3]))[0]["cat"] == {"m.mp4@0.3": 1}


def test_samples_are_found_by_time_whatever_their_names_sort_like(tmp_path):
    """By name, second 10 comes before second 2."""
    rows = [f"{k} 1 {k % 2} {k // 6}" for k in range(12)]
    file = table(tmp_path / "x.tsv", "onset duration odd late", *rows)
    with h5py.File(tmp_path / "x.h5", "w") as store:
        store["m"] = [[k % 2, k // 6] for k in range(12)]
        store.attrs["names"] = ["odd", "late"]
    samples = samples_of(m=range(12))
    assert list(samples)[1:3] == ["m.mp4@1", "m.mp4@10"]
    for source in (file, f"{tmp_path / 'x.h5'}:/m"):
        found, _ = labels([source], samples)
        assert found["odd"] == {name: s % 2 for name, (_, s) in samples.items()}
        assert found["late"] == {name: s // 6 for name, (_, s) in samples.items()}


def test_gaps_are_unknown_in_tables_of_0_and_1(tmp_path, caplog):
    file = table(tmp_path / "x.tsv", "onset duration cat", "0 3 1", "4 3 0")
    samples = samples_of(m=range(8))
    found, _ = labels([file], samples)
    np.testing.assert_array_equal(list(found["cat"].values()), [1, 1, 1, NAN, 0, 0, 0, NAN])
    assert "2 of 8 samples of movies have no label" in caplog.text
    assert "m.mp4@3, m.mp4@7" in caplog.text


def test_gaps_have_no_label_in_tables_of_names(tmp_path):
    file = table(
        tmp_path / "x.tsv", "movie onset duration labels", "m.mp4 1 2 dog", "m 2 2 cat;dog", "m.mp4 5 1 n/a"
    )
    samples = samples_of(m=range(7))
    found, single = labels([file], samples)
    np.testing.assert_array_equal(list(found["dog"].values()), [0, 1, 1, 1, 0, NAN, 0])
    np.testing.assert_array_equal(list(found["cat"].values()), [0, 0, 1, 1, 0, NAN, 0])
    assert single is False


def test_movies_no_row_speaks_of_are_unknown(tmp_path):
    file = table(tmp_path / "x.tsv", "movie onset duration label", "m 0 9 dog", "other 0 9 cat")
    found, _ = labels([file], samples_of(m=range(5), n=[0, 1]))
    np.testing.assert_array_equal(list(found["dog"].values()), [1, 1, 1, 1, 1, NAN, NAN])


def test_one_name_for_each_sample_is_a_single_label(tmp_path):
    file = table(tmp_path / "x.tsv", "onset duration trial_type", "0 2 cat", "2 2 dog")
    assert labels([file], samples_of(m=range(4)))[1] is True
    assert labels([file], samples_of(m=range(5)))[1] is False


def test_a_present_label_goes_before_an_absent_one(tmp_path):
    file = table(tmp_path / "x.tsv", "onset duration cat dog", "0 4 0 1", "1 1 1 n/a")
    found, _ = labels([file], samples_of(m=range(3)))
    assert list(found["cat"].values()) == [0, 1, 0]
    assert list(found["dog"].values()) == [1, 1, 1]


def test_files_named_like_their_movies_are_joined(tmp_path):
    files = [
        table(tmp_path / f"{name}_labels.tsv", "onset duration cat", f"0 9 {value}")
        for name, value in (("m1", 1), ("m12", 0))
    ]
    found, _ = labels(files, samples_of(m1=[0, 1], m12=[0, 1]))
    assert found["cat"] == {"m1.mp4@0": 1, "m1.mp4@1": 1, "m12.mp4@0": 0, "m12.mp4@1": 0}
    stray = table(tmp_path / "all.tsv", "onset duration cat", "0 9 1")
    with pytest.raises(DataError, match=r"of which movie\? all\.tsv is named like none of m1\.mp4, m12\.mp4"):
        labels([stray], samples_of(m1=[0], m12=[0]))
    assert labels([stray], samples_of(m1=[0]))[0]["cat"] == {"m1.mp4@0": 1}, (
        "of the only movie, whatever the name"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("onset duration cat", "0 0 1"), "row 1 has onset 0 and duration 0; expected seconds"),
        (("onset duration cat", "0 1 1", "n/a 1 1"), "row 2 has onset n/a"),
        (("onset duration x y", "0 1 a b"), "no labels; columns beside onset and duration are x, y"),
        (("movie onset duration cat", "film.avi 0 9 1"), r"speaks of film\.avi; the movies are m\.mp4"),
        (("onset duration cat", "0 1 1"), r"3 of 4 samples of movies have no label .* At least half"),
    ],
)
def test_refused_tables(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        labels([table(tmp_path / "x.tsv", *rows)], samples_of(m=range(4)))


def test_tables_of_samples(tmp_path):
    file = table(tmp_path / "x.tsv", "stimulus_id cat", "m.mp4@* 1", "n.mp4@0 0", "n.mp4@1 1")
    samples = samples_of(m=[0, 1], n=[0, 1])
    assert list(labels([file], samples)[0]["cat"].values()) == [1, 1, 0, 1]
    over_time = table(tmp_path / "y.tsv", "onset duration cat", "0 1 1")
    with pytest.raises(UsageError, match="with and without onset and duration"):
        labels([file, over_time], samples)


def test_without_tables_labels_come_from_the_dataset(tmp_path):
    samples = samples_of(m=[0, 1], n=[0])
    conditions = {name: "face" if name.startswith("m") else "house" for name in samples}
    presentations = Presentations(
        (replace(make_trials(list(samples)), condition=tuple(conditions.values())),)
    )
    found, single = labels([], samples, presentations=presentations)
    assert (found["face"], single) == ({"m.mp4@0": 1, "m.mp4@1": 1, "n.mp4@0": 0}, True)
    stimuli = tmp_path / "stimuli"
    stimuli.mkdir()
    table(stimuli / "stimuli.tsv", "stimulus_id indoor", "m.mp4 1", "n.mp4 0")
    found, _ = labels([], samples, presentations=presentations, stimuli_table=read_stimuli_table(tmp_path))
    assert found == {"indoor": {"m.mp4@0": 1, "m.mp4@1": 1, "n.mp4@0": 0}}


def test_captions_over_time(tmp_path):
    file = tmp_path / "c.tsv"
    file.write_text("onset\tduration\tcaption\n0\t2\ta cat\n1\t1\ta cat sleeps\n2\t1\tn/a\n")
    samples = samples_of(m=[0, 1, 2])
    assert read_movie_captions((str(file),), samples=samples) == (("a cat",), ("a cat", "a cat sleeps"), ())
    assert read_movie_captions((), samples=samples) == ((), (), ())
    single = tmp_path / "s.tsv"
    single.write_text("stimulus_id\tcaption\nm.mp4@2\ta dog\n")
    both = read_movie_captions((str(file), str(single)), samples=samples)
    assert both == (("a cat",), ("a cat", "a cat sleeps"), ("a dog",))
    with pytest.raises(DataError, match="no column caption; columns are cat"):
        read_movie_captions((str(table(tmp_path / "x.tsv", "onset duration cat", "0 1 1")),), samples=samples)


MATRIX = np.array([[1, 0], [0, 1], [1, 1]])


def test_row_k_of_a_matrix_is_second_k(tmp_path):
    path = tmp_path / "l.h5"
    with h5py.File(path, "w") as file:
        file["m"] = MATRIX
        file["m"].attrs["names"] = ["cat", "dog"]
    samples = samples_of(m=[0, 0.5, 0.999, 1, 2, 2.5, 3])
    found, _ = labels([f"{path}:/m"], samples)
    np.testing.assert_array_equal(list(found["cat"].values()), [1, 1, 1, 0, 1, 1, NAN])
    np.testing.assert_array_equal(list(found["dog"].values()), [0, 0, 0, 1, 1, 1, NAN])


@pytest.mark.parametrize("where", ["attribute of the group", "beside", "attribute of the file", "bytes"])
def test_names_of_a_matrix(tmp_path, where):
    path = tmp_path / "l.hdf5"
    with h5py.File(path, "w") as file:
        file["g/m"] = MATRIX.astype(bool)
        if where == "attribute of the group":
            file["g"].attrs["labels"] = ["cat", "dog"]
        elif where == "beside":
            file["g/names"] = ["cat", "dog"]
        elif where == "attribute of the file":
            file.attrs["label_names"] = ["cat", "dog"]
        else:
            file["g/labels"] = np.array([b"cat", b"dog"])
    found, _ = labels([f"{path}:/g/m"], samples_of(m=[0, 1, 2]))
    assert {name: list(own.values()) for name, own in found.items()} == {"cat": [1, 0, 1], "dog": [0, 1, 1]}


def test_one_matrix_for_each_movie(tmp_path):
    path = tmp_path / "l.h5"
    with h5py.File(path, "w") as file:
        file["labels/m"] = MATRIX
        file["labels/n.mp4"] = 1.0 - MATRIX
        file["labels/unknown"] = MATRIX
        file["labels/names"] = ["cat", "dog"]
    samples = samples_of(m=[0, 1], n=[0, 1])
    for place in (f"{path}:/labels", f"{path}:labels"):
        found, _ = labels([place], samples)
        assert list(found["cat"].values()) == [1, 0, 0, 1]
    with pytest.raises(DataError, match="holds no matrix named like a movie"):
        labels([f"{path}:/labels"], samples_of(x=[0], y=[0]))


@pytest.mark.parametrize(
    ("write", "place", "message"),
    [
        (lambda file: file.create_dataset("m", data=MATRIX), "m", "nothing names the columns of /m"),
        (lambda file: file.create_dataset("a", data=MATRIX), "m", "no dataset m; datasets in it: /a"),
        (lambda file: file.create_dataset("m", data=np.zeros(3)), "m", r"/m has shape \(3,\)"),
        (lambda file: file.create_dataset("m", data=MATRIX.T).attrs.update(names=["a", "b"]), "m", "3 columns and 2"),
        (lambda file: file.create_dataset("m", data=MATRIX * 0.5).attrs.update(names=["a", "b"]), "m", "holds 0.5"),
    ],
)  # fmt: skip
def test_refused_matrices(tmp_path, write, place, message):
    path = tmp_path / "l.h5"
    with h5py.File(path, "w") as file:
        write(file)
    with pytest.raises(DataError, match=message):
        labels([f"{path}:{place}"], samples_of(m=[0, 1]))


def test_files_that_are_no_hdf5(tmp_path):
    (tmp_path / "l.h5").write_text("onset")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        labels([f"{tmp_path}/l.h5:/m"], samples_of(m=[0]))
    with pytest.raises(MissingInputError, match=r"gone\.h5"):
        labels([f"{tmp_path}/gone.h5:/m"], samples_of(m=[0]))
