from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmused_bids.dataset.stimuli.catalogue import StimulusTable, label_keys, read_stimuli_table
from clipmused_bids.dataset.stimuli.finding import resolve_stimuli
from clipmused_bids.dataset.stimuli.names import KeyIndex, coco_id, normalised
from clipmused_bids.dataset.stimuli.pictures import open_image
from clipmused_bids.errors import DataError, MissingInputError
from clipmused_bids.records import Picture


def picture(path: Path, *, mode="RGB", color=(10, 20, 30), size=(4, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def resolve(bids: Path, *names: str, dirs=(), **options):
    return resolve_stimuli(names, bids_dir=bids, stimuli_dirs=dirs, table=read_stimuli_table(bids), **options)


def paths(resolved) -> tuple[Path | None, ...]:
    return tuple(None if found is None else found.path for found in resolved.picture)


@pytest.mark.parametrize(
    ("name", "file", "how"),
    [
        ("func/f013.bmp", "func/f013.bmp", "exact"),
        (r"stimuli\carousel\carousel_11s.png", "carousel/carousel_11s.png", "normalised"),
        ("./stimuli/a.png", "a.png", "normalised"),
        ("/a.png", "a.png", "normalised"),
        ("Dog/DOG.PNG", "dog/dog.png", "other case"),
        ("n03626115_19498", "n03626115_19498.png", "extension added"),
        ("n01930112_19568.png", "imagenet/n01930112/n01930112_19568.png", "base name"),
        ("n01930112_19568", "imagenet/n01930112/n01930112_19568.png", "base name, extension added"),
        ("0042", "stim-0042_image.png", "stim-<id>_image"),
        ("stim-0042", "stim-0042_image.png", "stim-<id>_image"),
        ("stim-7", "stim-7_part-a_image.png", "stim-<id>_part-<label>_image"),
        ("Drum corps/v_1.5.png", "Drum corps/v_1.5.png", "exact"),
    ],
)
def test_ways_to_match(tmp_path, name, file, how):
    expected = picture(tmp_path / "stimuli" / file)
    picture(tmp_path / "stimuli/other.png")
    resolved = resolve(tmp_path, name)
    assert (paths(resolved), resolved.reason) == ((expected,), (how,))


def test_roots_are_searched_in_order_and_exact_matches_go_first(tmp_path):
    own = picture(tmp_path / "stimuli/deep/a.png")
    other = picture(tmp_path / "more/a.png")
    dirs = (str(tmp_path / "more"),)
    assert paths(resolve(tmp_path, "a.png", dirs=dirs)) == (other,)
    assert paths(resolve(tmp_path, "deep/a.png", dirs=dirs)) == (own,)
    with pytest.raises(MissingInputError, match=r"--stimuli-dir .*nowhere: no such folder"):
        resolve(tmp_path, "a.png", dirs=(str(tmp_path / "nowhere"),))


def test_an_ambiguous_base_name_shows_both(tmp_path):
    picture(tmp_path / "stimuli/cat/01.png")
    picture(tmp_path / "stimuli/dog/01.png")
    with pytest.raises(DataError, match=r"Stimulus 01\.png may be any of .*cat/01\.png, .*dog/01\.png"):
        resolve(tmp_path, "01.png")
    assert paths(resolve(tmp_path, "dog/01.png")) == (tmp_path / "stimuli/dog/01.png",)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "a/../../secret.png",
        r"..\secret.png",
        "{root}/secret.png",
        r"C:\x\in.png",
        "/elsewhere/in.png",
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    picture(tmp_path / "secret.png")
    picture(tmp_path / "stimuli/in.png")
    resolved = resolve(tmp_path, name.format(root=tmp_path))
    assert paths(resolved) == (None,)
    assert resolved.reason[0].startswith("refused")


def test_links_may_lead_into_an_annex_but_not_elsewhere(tmp_path):
    stored = picture(tmp_path / ".git/annex/objects/xx/MD5E-s9--a.png")
    secret = picture(tmp_path / "secret.png")
    root = tmp_path / "stimuli"
    root.mkdir()
    (root / "kept.png").symlink_to(stored)
    (root / "out.png").symlink_to(secret)
    (root / "lost.png").symlink_to(tmp_path / ".git/annex/objects/xx/none.png")
    resolved = resolve(tmp_path, "kept.png", "out.png", "lost.png")
    assert paths(resolved) == (root / "kept.png", None, None)
    assert resolved.reason[1].startswith("refused: a link")
    assert resolved.reason[2].startswith("not fetched: datalad get")


def test_coverage_and_files_that_are_no_images(tmp_path):
    picture(tmp_path / "stimuli/a.png")
    (tmp_path / "stimuli/b.txt").write_bytes(b"x")
    (tmp_path / "stimuli/._a.png").write_bytes(b"x")
    resolved = resolve(tmp_path, "a.png", "b.txt", "c.png", "a.png")
    assert resolved.names == ("a.png", "b.txt", "c.png")
    assert resolved.coverage == pytest.approx(1 / 3)
    assert resolved.missing == {"b.txt": "neither an image nor a movie (.txt)", "c.png": "not found"}
    assert resolve(tmp_path / "none", "a.png").coverage == 0


def test_the_catalogue_names_files(tmp_path):
    expected = picture(tmp_path / "stimuli/files/one.png")
    (tmp_path / "stimuli/stimuli.tsv").write_text(
        "stimulus_id\tfilename\tdescription\nstim-1\tfiles/one.png\ta dog\n2\tn/a\tn/a\n"
    )
    picture(tmp_path / "stimuli/1.png")
    assert paths(resolve(tmp_path, "1", "stim-1")) == (expected, expected)
    table = read_stimuli_table(tmp_path)
    assert table.value("1", "description") == table.value("files/one.png", "description") == "a dog"
    assert table.value("2", "description") is None
    assert table.row_of("3") is None
    (tmp_path / "stimuli/stimuli.tsv").write_text("name\nx\n")
    with pytest.raises(DataError, match="no column stimulus_id"):
        read_stimuli_table(tmp_path)


@given(st.text(alphabet="abAB01._-/\\ ", max_size=30))
@settings(deadline=None)
def test_normalising_is_idempotent_and_never_starts_at_a_root(name):
    once = normalised(name)
    assert normalised(once) == once
    assert not once.startswith("/")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("COCO_train2014_000000420713.jpg", 420713),
        ("coco/000000124419.jpg", 124419),
        ("124419.0", 124419),
        ("n01930112_19568.JPEG", None),
        ("dog_12s.jpg", None),
    ],
)
def test_coco_ids(name, expected):
    assert coco_id(name) == expected


def test_keys_match_by_the_end_of_their_path_only():
    index = KeyIndex(["cat/01.jpg", "dog/01.jpg", "n1/x.JPEG", "46", "cat/01.jpg"])
    assert index.rows_of("cat/01.jpg") == [0, 4]
    assert index.rows_of("stimuli/dog/01.png") == [1]
    assert index.rows_of("bird/01.jpg") == []
    assert index.rows_of("01.jpg") == []
    assert index.rows_of("imagenet/n1/x") == [2]
    assert index.rows_of("46.0") == [3]


def test_pictures_are_rgb_and_transparency_shows_grey(tmp_path):
    assert open_image(picture(tmp_path / "a.png")).getpixel((0, 0)) == (10, 20, 30)
    assert open_image(picture(tmp_path / "t.png", mode="RGBA", color=(255, 0, 0, 0))).getpixel((0, 0)) == (
        128,
        128,
        128,
    )
    assert open_image(picture(tmp_path / "g.png", mode="L", color=7)).getpixel((0, 0)) == (7, 7, 7)
    deep = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    deep.save(tmp_path / "d.png")
    assert [open_image(tmp_path / "d.png").getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]


def test_pictures_that_are_refused_by_name(tmp_path):
    path = picture(tmp_path / "big.png", size=(40, 30))
    with pytest.raises(DataError, match=r"big\.png: 40 x 30 pixels; at most 1000"):
        open_image(path, most_pixels=1000)
    # Pillow warns of this size, and refuses the other one itself.
    for name, size in (("warned", (10_000, 9_500)), ("refused", (14_000, 13_000))):
        Image.new("1", size).save(tmp_path / f"{name}.png")
        with pytest.raises(DataError, match=rf"{name}\.png: .* pixels; at most 50000000"):
            open_image(tmp_path / f"{name}.png")
    noise = np.random.default_rng(0).integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cut\.jpg: not a readable image"):
        open_image(tmp_path / "cut.jpg")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: not a readable image"):
        open_image(tmp_path / "text.png")


def test_a_map_goes_before_the_datasets_table_and_both_are_joined(tmp_path):
    own = picture(tmp_path / "stimuli/own.png")
    better = picture(tmp_path / "more/better.png")
    (tmp_path / "stimuli/stimuli.tsv").write_text(
        "stimulus_id\tfilename\tdescription\tdog\nstim-1\town.png\ta dog\t1\nstim-2\town.png\ta cat\t0\n"
        "stim-3\town.png\tn/a\t0\n"
    )
    given = tmp_path / "map.tsv"
    given.write_text(
        "stimulus_id\tfilename\tlabel_id\tset\tdescription\n1\tbetter.png\t25\ttest\tn/a\n9\tn/a\t30\ttrain\ta bus\n"
        "2.0\tn/a\tn/a\ttrain\ta tame cat\n"
    )
    table = read_stimuli_table(tmp_path, stimulus_map=str(given))
    assert table.source == f"{given} and {tmp_path / 'stimuli' / 'stimuli.tsv'}"
    asked = ["1", "2", "9", "3"]
    assert [table.value(name, "description") for name in asked] == ["a dog", "a tame cat", "a bus", None]
    assert [table.value(name, "dog") for name in asked] == ["1", "0", None, "0"]
    assert [table.value(name, "set") for name in asked] == ["test", "train", "train", None]
    resolved = resolve_stimuli(
        asked, bids_dir=tmp_path, stimuli_dirs=(str(tmp_path / "more"),), table=table
    )  # fmt: skip
    assert paths(resolved) == (better, own, None, own)
    assert label_keys("1", table) == ("25",)
    assert label_keys("2", table) == label_keys("nobody", table) == ()
    assert read_stimuli_table(tmp_path / "more", stimulus_map=str(given)).source == str(given)
    with pytest.raises(MissingInputError, match=r"none\.tsv"):
        read_stimuli_table(tmp_path, stimulus_map=str(tmp_path / "none.tsv"))
    given.write_text("id\tfilename\n1\tx\n")
    with pytest.raises(DataError, match=r"map\.tsv: no column stimulus_id; columns are id, filename"):
        read_stimuli_table(tmp_path, stimulus_map=str(given))


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        ("3626115.019498", "3626115.019498"),
        ("46003.0", "46003"),
        ("46003", "46003.0"),
        ("stim-46003", "46003.0"),
        ("0042", "0042"),
    ],
)
def test_ids_written_as_floats(key, asked):
    table = StimulusTable("map.tsv", ("3626115.01", "4600", key, "42"), {"filename": ("a", "b", "c", "d")})
    assert table.value(asked, "filename") == "c"


def test_parts_of_a_stimulus_are_ambiguous_unless_there_is_one(tmp_path):
    first = picture(tmp_path / "stimuli/stim-7_part-left_image.png")
    assert paths(resolve(tmp_path, "7", "stim-7", "7.0")) == (first,) * 3
    picture(tmp_path / "stimuli/stim-7_part-right_image.png")
    with pytest.raises(
        DataError, match=r"Stimulus 7 may be any of .*part-left_image\.png, .*part-right_image"
    ):
        resolve(tmp_path, "7")


def test_a_large_tree_takes_seconds(tmp_path):
    """5,000 files and 30,000 names that are not there: comparing every name with every file takes far longer."""
    root = tmp_path / "stimuli"
    root.mkdir()
    for k in range(5_000):
        (root / f"n{k:05d}.png").touch()
    start = time.process_time()
    resolved = resolve(tmp_path, *(f"none{k:05d}" for k in range(30_000)), "n00007")
    assert time.process_time() - start < 10
    assert len(resolved.missing) == 30_000
    assert resolved.picture[-1] == Picture(root / "n00007.png")
