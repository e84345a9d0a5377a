from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Stimuli
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.catalogue import make_catalogue as catalogue_of
from tests.stages.conftest import World, make_catalogue, make_run


def test_labels_of_trials_by_name() -> None:
    catalogue = make_catalogue({"a": [1, 0], "b": [0, np.nan]})
    found = catalogue.labels_of(["b", "nobody", "a", "a"])
    np.testing.assert_array_equal(found, [[0, np.nan], [np.nan, np.nan], [1, 0], [1, 0]])
    found = catalogue.labels_of(["a", "", "b"], names=["dog", "horse", "cat"])
    np.testing.assert_array_equal(found, [[0, np.nan, 1], [np.nan] * 3, [np.nan, np.nan, 0]])


def test_contents_of_trials() -> None:
    catalogue = make_catalogue({"a": [1, 0], "b": [0, 1]}, paths={"b": Path("b.png")})
    assert catalogue.contents_of(["b", "a", "nobody"]) == (f"{1:064x}", "", "")
    assert catalogue.rows_of(["b", "a"]) == [1, 0]


@pytest.fixture
def study(world: World) -> World:
    """Events that name files; the dataset's own table names the same stimuli by other ids."""
    world.add(make_run("01"), ["x.png", "y.png"], np.eye(2))
    world.add(make_run("02"), ["y.png", "", "z.png"], np.eye(3))
    stimuli = world.folder / "bids" / "stimuli"
    stimuli.mkdir()
    for k, name in enumerate(("x", "y")):
        Image.new("RGB", (4, 4), (k, 0, 0)).save(stimuli / f"{name}.png")
    (stimuli / "stimuli.tsv").write_text(
        "stimulus_id\tfilename\tsplit\tdescription\tcat\tdog\n"
        "stim-3\tz.png\ttest\ta dog\t0\t1\nstim-1\tx.png\ttrain\ta cat\t1\t0\n"
    )
    return world


def test_stimuli_are_joined_with_the_datasets_table(study: World) -> None:
    catalogue = catalogue_of(study.plan())
    assert catalogue.stimuli.stimulus_id == ("x.png", "y.png", "z.png")
    assert [picture.path.name if picture else None for picture in catalogue.stimuli.picture] == [
        "x.png",
        "y.png",
        None,
    ]
    assert catalogue.table["split"] == ("train", "n/a", "test")
    assert catalogue.stimuli.captions == (("a cat",), (), ("a dog",))
    labels = catalogue.labels_of(["x.png", "z.png"], names=["cat", "dog"])
    np.testing.assert_array_equal(labels, [[1, 0], [0, 1]])
    assert np.isnan(catalogue.labels_of(["y.png"])).all()
    assert len({*catalogue.content}) == 3
    assert not catalogue.simulated


def test_stimuli_that_nobody_labelled_are_refused(study: World) -> None:
    (study.folder / "bids" / "stimuli" / "stimuli.tsv").write_text("stimulus_id\tcat\nother\t1\n")
    with pytest.raises(DataError, match="label"):
        catalogue_of(study.plan())


def test_the_simulators_datasets_are_known(study: World) -> None:
    description = study.folder / "bids" / "dataset_description.json"
    description.write_text('{"Name": "x", "GeneratedBy": [{"Name": "clipmused-bids simulator"}]}')
    assert catalogue_of(study.plan()).simulated
    assert replace(catalogue_of(study.plan()), simulated=False).prompts[0]


def test_stimuli_that_are_left_out_have_no_labels() -> None:
    catalogue = make_catalogue({"a": [1, 0], "b": [0, 1], "c": [1, 1]})
    left = catalogue.without(["b", "nobody"]).without(["a"])
    assert left.left_out == ("a", "b")
    np.testing.assert_array_equal(left.labels_of(["a", "b", "c"]), [[np.nan] * 2, [np.nan] * 2, [1, 1]])
    np.testing.assert_array_equal(catalogue.labels_of(["b"]), [[0, 1]])
    assert left.prompts[0] == ()


def test_a_picture_that_cannot_be_read_is_left_out_and_its_trials_are_counted(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(make_run("01"), ["a.png", "b.png", "b.png"], np.eye(3))
    world.add(make_run("02"), ["b.png", "c.png"], np.eye(2))
    stimuli = world.folder / "bids" / "stimuli"
    stimuli.mkdir()
    for name in "abc":
        Image.new("RGB", (4, 4)).save(stimuli / f"{name}.png")
    (stimuli / "stimuli.tsv").write_text("stimulus_id\tdog\na.png\t1\nb.png\t1\nc.png\t0\n")
    opened = Path.open

    def denied(path: Path, *args: Any, **options: Any) -> Any:
        # As a disk that fails: small files are looked at twice, for a pointer and for the content.
        if path.name in broken and args == ("rb",) and sys._getframe(1).f_code.co_name == "content_hash":
            raise OSError(5, "Input/output error")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    broken = {"b.png"}
    catalogue = catalogue_of(world.plan())
    assert catalogue.left_out == ("b.png",)
    assert "left out: " in caplog.text
    assert "b.png: Input/output error" in caplog.text
    assert "3 trial(s) of 1 stimuli whose pictures cannot be read are left out" in caplog.text
    np.testing.assert_array_equal(catalogue.labels_of(["a.png", "b.png", "c.png"]), [[1], [np.nan], [0]])
    assert catalogue.stimuli.picture[1] is None
    with pytest.raises(MissingInputError, match=r"b\.png: Input/output error"):
        catalogue_of(world.plan(stop_on_first_crash=True))
    broken = {"b.png", "c.png"}
    with pytest.raises(DataError, match=r"2 of 3 pictures cannot be read; the first: .*b\.png"):
        catalogue_of(world.plan())


def test_what_a_decoder_learns_about_its_stimuli_is_told_by_hashes() -> None:
    """Labels always, also unknown ones; captions and pictures where they guide; nothing of other stimuli."""
    stimuli = Stimuli(
        ("a", "b", "c"), (None,) * 3, (("one",), (), ("two",)), ("x", "y"), np.array([[1, 0], [0, np.nan], [1, 1.0]]),
        False,
    )  # fmt: skip
    before = Catalogue(stimuli=stimuli, content=("k1", "", "k3"), table={}, simulated=False)
    seen = before.hashes_of({"b", "a", "unknown"}, guiding=True)
    assert set(seen) == {"labels_sha256", "captions_sha256", "pictures_sha256"}
    assert set(before.hashes_of({"a"}, guiding=False)) == {"labels_sha256"}

    def changed(**fields: object) -> set[str]:
        parts = {name: fields.pop(name) for name in ("content",) if name in fields}
        after = replace(before, stimuli=replace(stimuli, **fields), **parts)  # type: ignore[arg-type]
        now = after.hashes_of({"a", "b"}, guiding=True)
        return {name.removesuffix("_sha256") for name in seen if now[name] != seen[name]}

    assert changed(labels=np.array([[1, 0], [0, np.nan], [0, 0.0]])) == set()
    assert changed(labels=np.array([[1, 0], [0, 0], [1, 1.0]])) == {"labels"}
    assert changed(label_names=("x", "z")) == {"labels"}
    assert changed(captions=(("one",), ("new",), ("two",))) == {"captions"}
    assert changed(content=("k1", "", "other")) == set()
    assert changed(content=("k1", "k2", "k3")) == {"pictures"}
